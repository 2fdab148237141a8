"""Stripe's side of a webhook: signs, posts, and sends again whatever was not answered 200."""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from dev.stripe_events import SIGNATURE_HEADER, sign
from quittance.event import Event
from tests.support.polling import eventually
from tests.support.system import SECRET

ANSWER_TIMEOUT = aiohttp.ClientTimeout(total=15)
# Stripe's own pause is minutes at the least; a test's is what a busy loop must not be.
PAUSE = 0.05


@dataclass
class Stripe:
    """A sender. `accepted`: how often each event got a 200; `troubles`: what else was answered (0: nothing).

    No more than `limit` are taken until it is raised.
    """

    url: str
    accepted: Counter[str] = field(default_factory=Counter)
    types: dict[str, str] = field(default_factory=dict)
    troubles: Counter[int] = field(default_factory=Counter)
    since: float = 0.0
    limit: float = math.inf

    @property
    def taken(self) -> int:
        """How many 200s there were."""
        return sum(self.accepted.values())

    @property
    def events(self) -> list[tuple[str, str]]:
        """Id and type of what was accepted."""
        return [(event_id, self.types[event_id]) for event_id in self.accepted]

    async def send(
        self,
        events: Iterable[Event],
        *,
        lanes: int = 16,
        patience: float = 60,
        beside: Coroutine[Any, Any, None] | None = None,
    ) -> None:
        """Post the events, `lanes` at a time, each until it is answered 200; `beside`: what happens meanwhile.

        Raises AssertionError at an answer that is neither 200 nor 503, or after `patience` seconds without any 200.
        """
        todo = deque(events)
        self.since = time.monotonic()
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=ANSWER_TIMEOUT) as session,
            asyncio.TaskGroup() as group,
        ):
            if beside is not None:
                group.create_task(beside)
            for _ in range(lanes):
                group.create_task(self._lane(todo, session, patience))

    async def _lane(self, todo: deque[Event], session: aiohttp.ClientSession, patience: float) -> None:
        while todo:
            await eventually(lambda: self.taken < self.limit, timeout=patience)
            if not todo:
                return
            event = todo.popleft()
            self.types[event.id] = event.type
            while (status := await self._post(session, event.body)) != 200:
                assert status in (0, 503), f"{event.type} {event.id} was answered {status}"
                self.troubles[status] += 1
                assert time.monotonic() - self.since < patience, f"for {patience:g} s nothing was accepted"
                await asyncio.sleep(PAUSE)
            self.since = time.monotonic()
            self.accepted[event.id] += 1

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> int:
        headers = {SIGNATURE_HEADER: sign(body, SECRET, time.time()), "Content-Type": "application/json"}
        try:
            async with session.post(self.url, data=body, headers=headers) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0
