"""A steady stream of signed events at a real ingress: each is sent again until it is answered 200, as Stripe does."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count, pairwise

import aiohttp

from dev.lives import life
from tests.ingest.ingress import Ingress

TIMEOUT = aiohttp.ClientTimeout(total=10)


class Sender:
    """Sends with `width` requests at once. `accepted`: event id -> when its 200 came (monotonic seconds)."""

    def __init__(self, ingress: Ingress, name: str, width: int = 8, pause: float = 0.02) -> None:
        self.accepted: dict[str, float] = {}
        self.refused: list[tuple[float, int]] = []  # when, and the status; 0: no answer
        self._ingress = ingress
        self._width = width
        self._pause = pause
        self._bodies = self._events(name)
        self._ended = False

    @staticmethod
    def _events(name: str) -> Iterator[tuple[str, bytes]]:
        for number in count():
            for event in life("card", f"{name}-{number}", quote_id=f"Q-{name}-{number}").events:
                yield event["id"], json.dumps(event).encode()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Sender"]:
        """Sends for the length of a block; at its end each event that was begun is sent until it is accepted."""
        async with aiohttp.ClientSession(timeout=TIMEOUT) as client, asyncio.TaskGroup() as tasks:
            for _ in range(self._width):
                tasks.create_task(self._send(client))
            try:
                yield self
            finally:
                self._ended = True

    async def _send(self, client: aiohttp.ClientSession) -> None:
        while not self._ended:
            event_id, body = next(self._bodies)
            while True:
                try:
                    status = await self._ingress.post(client, body)
                except (aiohttp.ClientError, TimeoutError):
                    status = 0
                if status == 200:
                    self.accepted[event_id] = time.monotonic()
                    break
                self.refused.append((time.monotonic(), status))
                await asyncio.sleep(self._pause)
            await asyncio.sleep(self._pause)

    def longest_gap(self, since: float, until: float) -> float:
        """The longest time without a 200 between two moments."""
        moments = [since, *sorted(at for at in self.accepted.values() if since < at < until), until]
        return max(later - earlier for earlier, later in pairwise(moments))

    def refused_since(self, moment: float) -> bool:
        return bool(self.refused) and self.refused[-1][0] > moment

    def accepted_between(self, since: float, until: float) -> int:
        return sum(since < at < until for at in self.accepted.values())
