"""The system under test as the runs see it: where it is, how it is watched, and waiting until it has done everything."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aio_pika
import asyncpg

from bench.listener import Listener
from bench.measure import Meter
from bench.sender import Job
from dev.settled import CONSUMERS

QUEUES: Final = ("archive", *CONSUMERS, "notifications")
PATIENCE: Final = 300.0  # seconds in which less must be left than before
LOOK_EVERY: Final = 0.5  # seconds; seldom enough not to be felt

OUTBOX: Final = "SELECT count(*) FROM outbox"
MAILS_DUE: Final = "SELECT count(*) FROM emails WHERE state = 'due'"


@dataclass(frozen=True, kw_only=True)
class Target:
    """The system under test, and how it is watched. `check` raises where a process of it has ended."""

    url: str
    secret: str
    db: asyncpg.Connection
    channel: aio_pika.abc.AbstractChannel
    crm: Listener
    meter: Meter
    check: Callable[[], None]
    metrics: Mapping[str, str]  # the address of each worker's /metrics

    @property
    def own(self) -> bool:
        """Whether we started it, so that nobody else uses it, and its processes are known."""
        return bool(self.meter.processes)

    def job(self, run: str, lives: int, senders: int, **more: Any) -> Job:
        """Lives to send to it; an even number, because they are of two kinds in turn."""
        return Job(url=self.url, secret=self.secret, run=run, lives=lives + lives % 2, senders=senders, **more)

    async def waiting(self, name: str) -> int:
        """Messages that wait in a queue."""
        queue = await self.channel.declare_queue(name, passive=True, timeout=10)
        return queue.declaration_result.message_count or 0

    async def left(self) -> int:
        """Messages that wait in the queues, and rows in the outbox."""
        waiting = [await self.waiting(name) for name in QUEUES]
        return sum(waiting) + int(await self.db.fetchval(OUTBOX))

    async def mails(self) -> int:
        """Mails that are not sent yet."""
        return int(await self.db.fetchval(MAILS_DUE))

    async def idle(self) -> None:
        """Wait until nothing waits."""
        await self._until_none("messages and rows of the outbox", self.left, looks=3)

    async def settled(self) -> None:
        """Wait until nothing waits, and every mail is sent."""
        await self.idle()
        await self._until_none("mails", self.mails, looks=1)

    async def _until_none(self, what: str, count: Callable[[], Awaitable[int]], *, looks: int) -> None:
        least, since, nothing = math.inf, time.monotonic(), 0
        while nothing < looks:
            self.check()
            found = await count()
            nothing = nothing + 1 if found == 0 else 0
            if found < least:
                least, since = found, time.monotonic()
            elif found and time.monotonic() - since > PATIENCE:
                raise TimeoutError(f"{found} {what} are left, and {PATIENCE:.0f} s ago there were no more")
            await asyncio.sleep(LOOK_EVERY)
