"""The broker in a test's hands: publish as the ingress does, look into queues, empty them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel

from quittance import broker
from quittance.broker import STRIPE_EVENTS
from quittance.event import Event
from quittance.wire import Wire, connected
from workers import WORKERS


@dataclass(frozen=True)
class Message:
    """What was taken from a queue."""

    body: bytes
    headers: dict[str, Any]
    type: str | None
    routing_key: str
    exchange: str
    content_type: str | None


@dataclass
class Broker:
    """Connected twice: `channel` for whatever there is to ask, `wire` to publish. `url` names the vhost."""

    url: str
    connection: AbstractConnection
    channel: AbstractChannel
    wire: Wire

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str) -> AsyncIterator["Broker"]:
        """Connect for the length of a block."""
        async with broker.connected(url, "test") as connection, connected(url, "test", confirms=True) as wire:
            yield cls(url, connection, await broker.open_channel(connection, confirms=True), wire)

    async def publish(self, *events: Event) -> None:
        """Publish Stripe's events as the ingress does, in order, each confirmed."""
        for event in events:
            await self.wire.publish(STRIPE_EVENTS, event.type, event.body, event.headers(), event.type, 10)

    async def send(self, queue: str, event: Event, **headers: Any) -> None:
        """Put one event straight into a queue, with more headers."""
        await self.wire.publish("", queue, event.body, {**event.headers(), **headers}, event.type, 10)

    async def depth(self, queue: str) -> int:
        """Messages that wait in the queue (not those that a consumer holds)."""
        declared = await self.channel.queue_declare(queue, passive=True)
        return declared.message_count or 0

    async def get(self, queue: str, most: int = 1000) -> list[Message]:
        """Take, and settle, what the queue holds now."""
        taken: list[Message] = []
        while len(taken) < most:
            got = await self.channel.basic_get(queue, no_ack=True)
            if got.delivery_tag is None:
                break
            about = got.header.properties
            taken.append(
                Message(
                    got.body,
                    dict(about.headers or {}),
                    about.message_type,
                    got.routing_key or "",
                    got.exchange or "",
                    about.content_type,
                )
            )
        return taken

    async def purge(self, queues: Sequence[str] = ()) -> None:
        """Empty the queues (all of ours)."""
        every = [*(worker.QUEUE.name for worker in WORKERS.values()), broker.CRM_QUEUE, broker.DEAD_LETTERS]
        for queue in queues or every:
            await self.channel.queue_purge(queue)
