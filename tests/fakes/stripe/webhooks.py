"""Stripe's webhooks: signed, posted, and sent again until they are answered 2xx.

    stripe.webhooks.to("http://127.0.0.1:8080/webhooks/stripe", "whsec_1")
    stripe.webhooks.hold()                                 # from now on nothing goes out
    stripe.webhooks.release(shuffled=7, twice=True)        # what was held, in another order, each twice
    stripe.webhooks.delay = 2.0                            # or: whatever happens, webhooks come two seconds late
    await stripe.webhooks.delivered()

By default each event goes out at once, to one endpoint after the other, in the order in which things happened.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import aiohttp

from dev.stripe_events import SIGNATURE_HEADER, body, sign
from tests.fakes.stripe.shapes import JsonObject

# Whose events an endpoint is told: the platform's own, its connected accounts', or both.
Audience = Literal["account", "connect", "both"]
USER_AGENT: Final = "Stripe/1.0 (+https://stripe.com/docs/webhooks)"
ANSWER_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True)
class Endpoint:
    """Where events are posted, and what they are signed with."""

    url: str
    secret: str
    audience: Audience = "both"
    types: frozenset[str] | None = None  # None: every type

    def wants(self, event: JsonObject) -> bool:
        """Whether the event is for this endpoint."""
        of = "connect" if "account" in event else "account"
        return self.audience in ("both", of) and (self.types is None or event["type"] in self.types)


class Delivery(NamedTuple):
    """An attempt, and how it was answered (0: not at all)."""

    event_id: str
    type: str
    url: str
    status: int


class _Due(NamedTuple):
    endpoint: Endpoint
    event: JsonObject
    attempt: int = 0


class Webhooks:
    """Endpoints, the events so far in the order in which they happened, and every attempt to deliver one."""

    def __init__(self) -> None:
        """No endpoint yet."""
        self.endpoints: list[Endpoint] = []
        self.events: list[JsonObject] = []
        self.deliveries: list[Delivery] = []
        self.delay = 0.0  # seconds from what happened to its webhook
        self.twice = False  # each delivery a second time, whatever was answered
        self.pause = 0.2  # seconds before a delivery that failed is tried again; Stripe's own are minutes and hours
        self.attempts = 50
        self._held: list[_Due] | None = None
        self._due: asyncio.Queue[_Due] = asyncio.Queue()
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def to(
        self, url: str, secret: str, audience: Audience = "both", *, types: frozenset[str] | None = None
    ) -> Endpoint:
        """Add an endpoint."""
        endpoint = Endpoint(url, secret, audience, types)
        self.endpoints.append(endpoint)
        return endpoint

    def types(self) -> list[str]:
        """The types of the events so far."""
        return [event["type"] for event in self.events]

    def publish(self, event: JsonObject) -> None:
        """Something happened."""
        self.events.append(event)
        self.send(event)

    def send(self, event: JsonObject) -> None:
        """Deliver an event, also once more: as the Dashboard's "resend" does."""
        due = [_Due(endpoint, event) for endpoint in self.endpoints if endpoint.wants(event)]
        due *= 2 if self.twice else 1
        if self._held is not None:
            self._held += due
        else:
            for each in due:
                self._later(each, self.delay)

    def hold(self) -> None:
        """Deliver nothing until `release`."""
        self._held = [] if self._held is None else self._held

    def release(self, *, shuffled: int | None = None, twice: bool = False) -> int:
        """Deliver what was held, in an order that the seed `shuffled` gives, each `twice`; how many deliveries."""
        due = (self._held or []) * (2 if twice else 1)
        self._held = None
        if shuffled is not None:
            random.Random(shuffled).shuffle(due)
        for each in due:
            self._later(each, 0)
        return len(due)

    async def delivered(self, patience: float = 10) -> None:
        """Wait until every delivery under way was answered 2xx or given up. What is held is not waited for."""
        async with asyncio.timeout(patience):
            await self._idle.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver for the length of a block."""
        async with aiohttp.ClientSession(timeout=ANSWER_TIMEOUT) as http:
            task = asyncio.create_task(self._deliver_all(http))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def _later(self, due: _Due, seconds: float) -> None:
        self._open += due.attempt == 0
        self._idle.clear()
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self._due.put_nowait, due)
        else:
            self._due.put_nowait(due)

    async def _deliver_all(self, http: aiohttp.ClientSession) -> None:
        while True:
            due = await self._due.get()
            status = await _post(http, due)
            self.deliveries.append(Delivery(due.event["id"], due.event["type"], due.endpoint.url, status))
            if not 200 <= status < 300 and due.attempt + 1 < self.attempts:
                self._later(due._replace(attempt=due.attempt + 1), self.pause)
            else:
                self._open -= 1
                if not self._open:
                    self._idle.set()


async def _post(http: aiohttp.ClientSession, due: _Due) -> int:
    """One attempt; signed anew each time, as Stripe does. A redirect is followed by nobody: it is a failure."""
    payload = body(due.event)
    headers = {
        SIGNATURE_HEADER: sign(payload, due.endpoint.secret, time.time()),
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": USER_AGENT,
    }
    try:
        async with http.post(due.endpoint.url, data=payload, headers=headers, allow_redirects=False) as answer:
            await answer.read()
            return answer.status
    except (aiohttp.ClientError, TimeoutError, OSError):
        return 0
