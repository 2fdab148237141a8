"""The environment of workers that call Stripe: with a key and without. Fixtures, for a conftest to import."""

from collections.abc import AsyncIterator, Iterator

import pytest

from quittance.settings import adoption
from quittance.stripe_client import stripe_settings
from tests.fakes.stripe import KEY, StripeApi


def forget_settings() -> None:
    """Read the environment again at the next question."""
    adoption.cache_clear()
    stripe_settings.cache_clear()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The defaults, and no key: Stripe is never called. Call forget_settings after setting variables."""
    for name in ("ADOPT_UNPUBLISHED", "QUOTE_ID_PATTERN", "STRIPE_API_KEY", "STRIPE_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    forget_settings()
    yield monkeypatch
    forget_settings()


@pytest.fixture
async def stripe_api(environment: pytest.MonkeyPatch) -> AsyncIterator[StripeApi]:
    """Stripe's API, and a test key for it in the environment."""
    async with StripeApi.running() as api:
        environment.setenv("STRIPE_API_BASE", api.url)
        environment.setenv("STRIPE_API_KEY", KEY)
        forget_settings()
        yield api
