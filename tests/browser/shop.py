"""The seller's side of the browser tests: quotes published through the API, and what happens to them without a browser."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import aiohttp

from dev.quotes_api import grant
from quittance.database import connect
from quittance.event import OWN_ACCOUNT
from quittance.tokens import new_token
from tests.fakes.stripe import Fault, StripeApi
from tests.fakes.stripe.shapes import JsonObject
from tests.support.polling import eventually
from tests.support.system import SECRET, System, system

# For everything behind a click: webhooks, two queues, the outbox.
PATIENCE = 30.0

EXPIRE = "UPDATE published_quotes SET expires_at = now() - interval '1 minute' WHERE quote_id = $1"


class Quote(NamedTuple):
    """A published quote: its page, and the account of its seller."""

    id: str
    url: str
    account: str


def line(**given: Any) -> dict[str, Any]:
    return {"name": "Workshop, one day", "unit_amount": 120_000, **given}


def content(*lines: dict[str, Any], **given: Any) -> dict[str, Any]:
    """What a CRM sends."""
    return {
        "number": "2026-17",
        "title": "A workshop",
        "currency": "EUR",
        "locale": "en-GB",
        "time_zone": "Europe/Stockholm",
        "expires_on": "2099-12-31",
        "owner": {"name": "Sal Seller", "email": "sal@example.com"},
        "company": {"name": "Buyers Ltd"},
        "line_items": list(lines) or [line()],
        **given,
    }


MIXED = (line(), line(name="Support", unit_amount=4_900, billing_frequency="monthly"))


@dataclass
class Shop:
    """Quittance as it runs, and what its seller does."""

    running: System
    http: aiohttp.ClientSession
    tokens: dict[str, str] = field(default_factory=dict)  # by account
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    @property
    def stripe(self) -> StripeApi:
        return self.running.stripe

    async def publish(
        self, *lines: dict[str, Any], account: str = OWN_ACCOUNT, quote_id: str = "", **given: Any
    ) -> Quote:
        """Publish a quote; one more, unless `quote_id` says which."""
        quote_id = quote_id or f"Q-{next(self.numbers)}"
        answer = await self._ask("PUT", account, quote_id, content(*lines, **given))
        return Quote(quote_id, answer["url"], account)

    async def recall(self, quote: Quote) -> None:
        """Take it back."""
        await self._ask("POST", quote.account, f"{quote.id}/recall", None)

    async def expire(self, quote: Quote) -> None:
        """Its last day is over."""
        db = await connect(self.running.database_url, "browser-tests")
        try:
            await db.execute(EXPIRE, quote.id)
        finally:
            await db.close()

    async def pays(self, quote: Quote, how: str = "card") -> str:
        """Somebody pays, elsewhere; the session."""
        headers = {"X-Forwarded-For": f"10.2.0.{next(self.numbers) % 250 + 1}"}  # as buyers.py does
        async with self.http.post(f"{quote.url}/checkout", allow_redirects=False, headers=headers) as answer:
            assert answer.status == 303, await answer.text()
            session = answer.headers["Location"]
        assert await self.stripe.pay(session, "debit" if how == "debit" else "card") is not None
        return session

    @contextmanager
    def webhooks_held(self) -> Iterator[None]:
        """Stripe's webhooks are late: none goes out within the block, all of them at its end, shuffled, each twice."""
        self.stripe.webhooks.hold()
        try:
            yield
        finally:
            self.stripe.webhooks.release(shuffled=7, twice=True)

    @contextmanager
    def stripe_away(self) -> Iterator[None]:
        """Whatever we ask Stripe within the block is answered 503."""
        fault = Fault(status=503, times=10_000)
        self.stripe.faults.append(fault)
        try:
            yield
        finally:
            self.stripe.faults.remove(fault)

    def sessions_of(self, quote: Quote, status: str | None = None) -> list[JsonObject]:
        """What Stripe has of the quote."""
        found = self.stripe.sessions_of(status)
        return [session for session in found if session["client_reference_id"] == quote.id]

    async def ends(self, quote: Quote) -> None:
        """Wait until nobody can pay any more."""
        await eventually(lambda: not self.sessions_of(quote, "open"), timeout=PATIENCE)

    async def shows(self, quote: Quote, offer: str) -> None:
        """Wait until the quote's page says so."""

        async def seen() -> bool:
            async with self.http.get(quote.url) as answer:
                return f'data-offer="{offer}"' in await answer.text()

        await eventually(seen, timeout=PATIENCE, every=0.1)

    async def mailed(self, address: str) -> None:
        """Wait until somebody has got exactly one mail."""
        await eventually(lambda: self.running.mails.to(address), timeout=PATIENCE)
        assert len(self.running.mails.to(address)) == 1

    async def becomes(self, quote: Quote, status: str) -> None:
        """Wait until the quote has that payment status."""

        async def seen() -> bool:
            payment = (await self._ask("GET", quote.account, quote.id, None))["payment"]
            assert payment is not None and payment["status"] == status, f"{quote.id} is {payment}, not {status}"
            return True

        await eventually(seen, timeout=PATIENCE, every=0.05)

    async def _ask(self, method: str, account: str, path: str, body: Any) -> Any:
        if account not in self.tokens:
            self.tokens[account] = new_token(livemode=False)
            await grant(self.running.database_url, self.tokens[account], "browser tests", account)
        headers = {"Authorization": f"Bearer {self.tokens[account]}"}
        url = f"{self.running.public_url}/v1/quotes/{path}"
        async with self.http.request(method, url, json=body, headers=headers) as answer:
            said = await answer.json(content_type=None)
            assert answer.status in (200, 201), said
            return said


@asynccontextmanager
async def shop_at(database_url: str, amqp_url: str) -> AsyncIterator[Shop]:
    """ingest, every worker and web, with a Stripe that sends webhooks."""
    more = {"ADOPT_UNPUBLISHED": "off", "FORWARDED_HOPS": "1"}
    async with system(database_url, amqp_url, **more) as running, aiohttp.ClientSession(trust_env=False) as http:
        await running.start("ingest", "all", "web")
        running.stripe.webhooks.to(running.url, SECRET)
        yield Shop(running, http)
        await running.stop_all()
