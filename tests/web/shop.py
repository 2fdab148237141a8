"""A shop: quotes published on a database, several web processes before it, Stripe behind them, and the workers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import aiohttp
from aiohttp import hdrs, web
from asyncpg.pool import Pool

from quittance import publishing, stripe_client
from quittance.domain.publishing.policies import HUBSPOT_2023, STRIPE_2026
from quittance.event import Event
from quittance.stripe_client import StripeSettings
from tests.fakes.stripe import KEY, StripeApi
from tests.support.handling import accepted, pump
from tests.web.conftest import line, quote, settings_with
from web import checkout, clock
from web.__main__ import runner_of
from web.app import Web
from workers import WORKERS, checkouts
from workers.checkout_endings import StripeEndings
from workers.runtime.performer import Performer

ACCOUNT = "acct_1"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}

ATTEMPTS = """
SELECT revision, attempt, state, session_id, idempotency_key, params, error FROM checkout_sessions
WHERE quote_id = $1 ORDER BY id
"""
STATUS = "SELECT status FROM quotes WHERE quote_id = $1"
# The end of the quote's day has come.
PASS = (
    "UPDATE published_quotes SET expires_at = now() - interval '1 second' WHERE quote_id = $1 AND recalled_at IS NULL"
)
LEAVE = """
UPDATE published_quotes SET expires_at = now() + make_interval(secs => $2) WHERE quote_id = $1 AND recalled_at IS NULL
"""
# Whoever held a claim has been dead for longer than its lease.
DIE = "UPDATE checkout_sessions SET claimed_until = now() - interval '1 second' WHERE claimed_until IS NOT NULL"
# The click was some time ago: Stripe is asked again how it stands.
AGE = "UPDATE checkout_sessions SET created_at = created_at - interval '1 minute'"


class Clicked(NamedTuple):
    """What a click was answered."""

    status: int
    location: str | None
    text: str
    headers: Any

    @property
    def to_stripe(self) -> bool:
        return self.status == 303 and "/pay/" in (self.location or "")


class Shop:
    """`bases` are the addresses of the web processes. No dataclass: hypothesis would print all that has happened."""

    def __init__(
        self, stripe: StripeApi, database: Pool, bases: list[str], http: aiohttp.ClientSession, endings: StripeEndings
    ) -> None:
        self.stripe = stripe
        self.database = database
        self.bases = bases
        self.http = http
        self.endings = endings
        self.told: list[Event] = []
        self.delivered = 0

    # Sellers -------------------------------------------------------------------------------------------------------

    async def publish(
        self, *lines: dict[str, Any], quote_id: str = "Q-1", account: str = ACCOUNT, live: bool = False, **given: Any
    ) -> str:
        """The page's token."""
        body = quote(*(lines or (line(),)), **given)
        policy = HUBSPOT_2023 if body["currency"] in ("USD", "EUR") else STRIPE_2026
        async with self.database.acquire() as db, db.transaction():
            answer = await publishing.publish(db, account, live, quote_id, body, policy=policy)
        assert isinstance(answer, publishing.Published), answer
        return answer.quote.page_token

    async def recall(self, quote_id: str = "Q-1", account: str = ACCOUNT) -> None:
        async with self.database.acquire() as db, db.transaction():
            await publishing.recall(db, account, False, quote_id)

    async def pass_expiry(self, quote_id: str = "Q-1") -> None:
        """The quote's day is over; nobody has noted it yet (`tick`)."""
        await self.database.execute(PASS, quote_id)

    async def tick(self) -> int:
        return await clock.tick(self.database)

    async def leave(self, seconds: float, quote_id: str = "Q-1") -> None:
        """So long until the quote's end."""
        await self.database.execute(LEAVE, quote_id, seconds)

    # Buyers --------------------------------------------------------------------------------------------------------

    async def click(self, token: str, at: int = 0, **headers: str) -> Clicked:
        """Check out, in the web process `at`."""
        url = f"{self.bases[at % len(self.bases)]}/q/{token}/checkout"
        async with self.http.post(url, headers=SAME_ORIGIN | headers, allow_redirects=False) as answer:
            return Clicked(answer.status, answer.headers.get(hdrs.LOCATION), await answer.text(), answer.headers)

    async def clicked_to_stripe(self, token: str, at: int = 0) -> str:
        """The id of the session that a click leads to."""
        clicked = await self.click(token, at)
        assert clicked.to_stripe, clicked
        return self.stripe.payment(str(clicked.location)).session["id"]  # type: ignore[no-any-return]

    def payable(self, quote_id: str = "Q-1") -> list[str]:
        """The sessions of a quote in which somebody could pay."""
        return [one["id"] for one in self.stripe.sessions_of("open") if one["metadata"]["quote_id"] == quote_id]

    # The machinery -------------------------------------------------------------------------------------------------

    async def deliver(self) -> None:
        """Stripe's webhooks come in, and everything that they and we have to tell is told."""
        events = [accepted(event) for event in self.stripe.events[self.delivered :]]
        self.delivered = len(self.stripe.events)
        self.told += await pump(list(WORKERS.values()), events, self.database)

    async def perform(self) -> None:
        """The checkouts worker performs what is due."""
        worker = SimpleNamespace(**vars(checkouts))
        performer = Performer(worker, self.database, (60.0,), asyncio.Event())
        while True:
            await performer._claim(self.endings, 20)
            if not performer._running:
                return
            await asyncio.gather(*performer._running)

    async def everybody_died(self) -> None:
        """All leases have run out."""
        await self.database.execute(DIE)

    async def some_time_passes(self) -> None:
        """No click is so recent that Stripe is not asked."""
        await self.database.execute(AGE)

    async def attempts(self, quote_id: str = "Q-1") -> list[Any]:
        rows = await self.database.fetch(ATTEMPTS, quote_id)
        return [
            SimpleNamespace(**{**row, "params": None if row["params"] is None else json.loads(row["params"])})
            for row in rows
        ]

    async def states(self, quote_id: str = "Q-1") -> list[str]:
        return [attempt.state for attempt in await self.attempts(quote_id)]

    async def status(self, quote_id: str = "Q-1") -> str | None:
        status: str | None = await self.database.fetchval(STATUS, quote_id)
        return status


def be_impatient(monkeypatch: Any) -> None:
    """Nobody waits for long in a test."""
    monkeypatch.setattr(checkout, "PATIENCE", 0.5)
    monkeypatch.setattr(checkout, "LOOK_AGAIN", 0.05)
    monkeypatch.setattr(checkout, "CLICKS_AT_ONCE", 10_000)
    monkeypatch.setattr(checkout, "PAGE_CLICKS_AT_ONCE", 10_000)
    monkeypatch.setattr("quittance.stripe_making.PAUSE", 0.05)


@asynccontextmanager
async def open_shop(database: Pool, *, processes: int = 2, key: str = KEY) -> AsyncIterator[Shop]:
    """A shop with so many web processes; each has limits and connections to Stripe of its own."""
    async with AsyncExitStack() as stack:
        stripe = await stack.enter_async_context(StripeApi.running())
        settings = StripeSettings(key, stripe.url)
        bases = []
        for _ in range(processes):
            runner = runner_of(Web(settings_with(stripe=settings), database))
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            bases.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        http = await stack.enter_async_context(aiohttp.ClientSession(trust_env=False))
        client = await stack.enter_async_context(stripe_client.connected(settings))
        yield Shop(stripe, database, bases, http, StripeEndings(settings, client))
