"""A Stripe to be asked, and the runtime's performer to ask it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import SimpleNamespace

import pytest
from asyncpg import Record
from asyncpg.pool import Pool

from quittance.settings import adoption
from quittance.stripe_client import stripe_settings
from tests.fakes.stripe import KEY, StripeApi
from workers import checkouts
from workers.checkout_endings import StripeEndings
from workers.runtime.outcomes import Outcome
from workers.runtime.performer import Performer

SCHEDULE = (60.0, 60.0, 60.0)

# Performs what is due until nothing is; how many attempts that took.
Perform = Callable[[], Awaitable[int]]


def forget_settings() -> None:
    """Read the environment again at the next question."""
    stripe_settings.cache_clear()
    adoption.cache_clear()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The defaults, and no key: Stripe is never called. Call forget_settings after setting variables."""
    for name in ("STRIPE_API_KEY", "STRIPE_API_BASE", "ADOPT_UNPUBLISHED", "QUOTE_ID_PATTERN"):
        monkeypatch.delenv(name, raising=False)
    forget_settings()
    yield monkeypatch
    forget_settings()


@pytest.fixture
async def stripe_api(environment: pytest.MonkeyPatch) -> AsyncIterator[StripeApi]:
    """Stripe, and a test key for it in the environment."""
    async with StripeApi.running() as api:
        environment.setenv("STRIPE_API_BASE", api.url)
        environment.setenv("STRIPE_API_KEY", KEY)
        forget_settings()
        yield api


@pytest.fixture
def perform(database: Pool) -> Perform:
    """Each call is a process of its own, as far as leases and circuit breakers go."""

    async def until_nothing_is_due() -> int:
        attempts = 0

        async def attempt(claim: Record, outside: StripeEndings) -> Outcome:
            nonlocal attempts
            attempts += 1
            return await checkouts.perform(claim, outside)

        worker = SimpleNamespace(**{**vars(checkouts), "perform": attempt})
        performer = Performer(worker, database, SCHEDULE, asyncio.Event())
        async with checkouts.outside() as outside:
            while True:
                await performer._claim(outside, 20)
                if not performer._running:
                    return attempts
                await asyncio.gather(*performer._running)

    return until_nothing_is_due
