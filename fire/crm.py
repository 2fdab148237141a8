"""The CRM's side: reads its queue, whatever happens to the broker, and keeps what it got."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

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

    def take(self, channel: Wire, delivery: Delivery) -> None:
        """Keep one message, and only then ack it."""
        told = msgspec.json.decode(delivery.body, type=Told)
        self.bodies.setdefault(told.id, set()).add(delivery.body)
        self.sequences.setdefault(told.subject, set()).add(int(told.sequence))
        channel.ack(delivery.tag, multiple=False)

    async def read(self, url: str) -> None:
        """Consume until cancelled, connecting again and again."""
        while True:
            with suppress(BrokerAway):
                async with wire.connected(url, "crm", confirms=False) as channel:
                    await channel.prefetch(PREFETCH)
                    await channel.consume(CRM_QUEUE, partial(self.take, channel))
                    await asyncio.wait([channel.lost])
            await asyncio.sleep(RETRY)


@asynccontextmanager
async def crm(url: str) -> AsyncIterator[Crm]:
    """A CRM that reads until the block ends."""
    one = Crm()
    reading = asyncio.create_task(one.read(url))
    try:
        yield one
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
