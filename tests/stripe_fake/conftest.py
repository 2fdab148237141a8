"""The stand-in for Stripe, called through Stripe's own client, and an endpoint that hears its webhooks."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import stripe
from aiohttp import web

from dev.mailbox import serving
from dev.stripe_events import SIGNATURE_HEADER
from tests.fakes.stripe import KEY, StripeApi

SECRET = "whsec_fake"
SELLER = "acct_1SellerOne00000000"


@dataclass
class Listener:
    """An endpoint: what it was sent, and what it answers next (200 once `answers` is used up)."""

    url: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        """Check the signature as Stripe's library does, and keep the event."""
        body = (await request.read()).decode()
        stripe.WebhookSignature.verify_header(body, request.headers[SIGNATURE_HEADER], SECRET, 300)
        self.events.append(await request.json())
        status = self.answers.pop(0) if self.answers else 200
        return web.Response(status=status, headers={"Location": self.url} if 300 <= status < 400 else {})

    def types(self) -> list[str]:
        """What came, in the order in which it came."""
        return [event["type"] for event in self.events]


@pytest.fixture
async def fake() -> AsyncIterator[StripeApi]:
    """Stripe."""
    async with StripeApi.running() as api:
        yield api


@pytest.fixture
async def listener(fake: StripeApi) -> AsyncIterator[Listener]:
    """An endpoint of the platform and of its connected accounts."""
    listening = Listener()
    application = web.Application()
    application.router.add_post("/hook", listening.take)
    async with serving(application) as base:
        listening.url = f"{base}/hook"
        fake.webhooks.to(listening.url, SECRET)
        yield listening


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A browser without a window."""
    async with aiohttp.ClientSession() as session:
        yield session


class Client:
    """Stripe's own asynchronous client, without retries of its own, and the calls that tests make often."""

    def __init__(self, url: str, key: str = KEY) -> None:
        self.http = stripe.AIOHTTPClient(timeout=aiohttp.ClientTimeout(total=5))
        self.stripe = stripe.StripeClient(
            key, base_addresses={"api": url, "connect": url}, max_network_retries=0, http_client=self.http
        )
        self.v1 = self.stripe.v1

    async def session(self, *, account: str | None = None, key: str | None = None, **params: Any) -> Any:
        """POST /v1/checkout/sessions with the parameters of `payment`, changed by `params` (None: left out)."""
        options: dict[str, Any] = {"stripe_account": account} if account else {}
        options |= {"idempotency_key": key} if key else {}
        given: Any = {name: value for name, value in (payment() | params).items() if value is not None}
        return await self.v1.checkout.sessions.create_async(given, options)  # type: ignore[arg-type]

    async def subscription(self, **params: Any) -> Any:
        """A session with a monthly line beside the one-time line."""
        lines = [line(), line(4_900, recurring={"interval": "month"})]
        return await self.session(**({"mode": "subscription", "line_items": lines} | params))


@pytest.fixture
async def client(fake: StripeApi) -> AsyncIterator[Client]:
    """A client with the test key."""
    made = Client(fake.url)
    yield made
    await made.http.close_async()  # type: ignore[no-untyped-call]


@pytest.fixture
async def live_client(fake: StripeApi) -> AsyncIterator[Client]:
    """A client with the live key."""
    made = Client(fake.url, "sk_live_quittance")
    yield made
    await made.http.close_async()  # type: ignore[no-untyped-call]


def line(amount: int = 1_500, quantity: int = 1, **price: Any) -> dict[str, Any]:
    """A line item."""
    data = {"currency": "eur", "unit_amount": amount, "product_data": {"name": "Thing"}, **price}
    return {"quantity": quantity, "price_data": data}


def payment(**params: Any) -> dict[str, Any]:
    """The parameters of a session for 15.00 EUR."""
    return {
        "mode": "payment",
        "line_items": [line()],
        "success_url": "https://quotes.example.com/q/t/return?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://quotes.example.com/q/t",
        "expires_at": int(time.time()) + 3_600,
        **params,
    }
