"""The API with a platform at Stripe: its key of test mode and its client id; and people who connect accounts there."""

from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from asyncpg.pool import Pool

from quittance.stripe_client import StripeSettings
from tests.fakes.stripe import KEY, StripeApi
from tests.web.conftest import settings_with
from tests.web.connect.browser import Browser
from web.__main__ import runner_of
from web.app import Web
from web.settings import Settings

CLIENT_ID = "ca_TestQuittance"

Serve = Callable[[Settings], Awaitable[str]]


@pytest.fixture
async def stripe() -> AsyncIterator[StripeApi]:
    async with StripeApi.running() as running:
        yield running


@pytest.fixture
async def serve(database: Pool) -> AsyncIterator[Serve]:
    """`await serve(settings)`: web with these, until the test ends; its address."""
    runners = []

    async def served(settings: Settings) -> str:
        runner = runner_of(Web(settings, database))
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield served
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def base(serve: Serve, stripe: StripeApi) -> str:
    return await serve(settings_with(stripe=StripeSettings(KEY, stripe.url, stripe.url), connect_client_id=CLIENT_ID))


@pytest.fixture
def browser(session: aiohttp.ClientSession, base: str, stripe: StripeApi) -> Browser:
    """Somebody's browser."""
    return Browser(session, base, stripe)


@pytest.fixture
def stranger(session: aiohttp.ClientSession, base: str, stripe: StripeApi) -> Browser:
    """Somebody else's."""
    return Browser(session, base, stripe)
