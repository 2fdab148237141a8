"""The CRM's side: reads its queue, whatever happens to the broker, and keeps what it got."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec

from quittance import wire
from quittance.broker import CRM_QUEUE, BrokerAway
from quittance.wire import Delivery, Wire

RETRY: Final = 0.2  # seconds
PREFETCH: Final = 200


class Told(msgspec.Struct, frozen=True):
    """What is looked at of a status change."""

    id: str
    subject: str
    sequence: str


@dataclass
class Crm:
    """`bodies`: of each event id, the different bytes that came under it; more than one is a broken promise."""

    bodies: dict[str, set[bytes]] = field(default_factory=dict)
    sequences: dict[str, set[int]] = field(default_factory=dict)  # by quote
    overtaken: set[str] = field(
        default_factory=set
    )  # quotes of which a number came for the first time after a greater one
    here: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, channel: Wire, delivery: Delivery) -> None:
        """Keep one message, and only then ack it."""
        told = msgspec.json.decode(delivery.body, type=Told)
        self.bodies.setdefault(told.id, set()).add(delivery.body)
        known, number = self.sequences.setdefault(told.subject, set()), int(told.sequence)
        if number not in known and number < max(known, default=0):
            self.overtaken.add(told.subject)
        known.add(number)
        channel.ack(delivery.tag, multiple=False)

    def leave(self) -> None:
        """Take nothing more, until `come_back`."""
        self.here.clear()
        self.gone.set()

    def come_back(self) -> None:
        """Take what has waited, and what comes."""
        self.gone.clear()
        self.here.set()

    async def read(self, url: str) -> None:
        """Consume until cancelled, connecting again and again."""
        while True:
            await self.here.wait()
            with suppress(BrokerAway):
                async with wire.connected(url, "crm", confirms=False) as channel:
                    await channel.prefetch(PREFETCH)
                    await channel.consume(CRM_QUEUE, partial(self.take, channel))
                    leaving = asyncio.ensure_future(self.gone.wait())
                    ends: list[asyncio.Future[Any]] = [channel.lost, leaving]
                    try:
                        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        leaving.cancel()
            await asyncio.sleep(RETRY)


@asynccontextmanager
async def crm(url: str) -> AsyncIterator[Crm]:
    """A CRM that reads until the block ends."""
    one = Crm()
    one.come_back()
    reading = asyncio.create_task(one.read(url))
    try:
        yield one
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
