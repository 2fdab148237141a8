"""A CRM that only listens: it takes every change from the broker and remembers it."""

import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aio_pika
import msgspec
from aio_pika.abc import AbstractIncomingMessage

from quittance.broker import CRM_EVENTS, CRM_QUEUE


@dataclass(frozen=True)
class Change:
    """One CRM event as it arrived."""

    event: dict[str, Any]  # the CloudEvent
    routing_key: str
    content_type: str
    arrived_at: float

    @property
    def data(self) -> dict[str, Any]:
        """What the change says."""
        held = self.event["data"]
        assert isinstance(held, dict)  # noqa: S101 - for the type checker
        return held

    @property
    def sequence(self) -> int:
        """The number of the change within its quote."""
        return int(self.data["sequence"])


@dataclass
class Crm:
    """The changes received, per quote in order of arrival."""

    quotes: dict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))

    @property
    def received(self) -> int:
        """How many changes have arrived."""
        return sum(map(len, self.quotes.values()))

    async def take(self, message: AbstractIncomingMessage) -> None:
        """Remember, then ack."""
        event = msgspec.json.decode(message.body, type=dict[str, Any])
        change = Change(event, message.routing_key or "", message.content_type or "", time.time())
        self.quotes[str(event["subject"])].append(change)
        await message.ack()


@asynccontextmanager
async def crm(amqp_url: str, *, whole_queue: bool) -> AsyncIterator[Crm]:
    """Listen until the block ends: on the queue `crm`, or beside it, which takes nothing away from anybody."""
    listening = Crm()
    connection = await aio_pika.connect(amqp_url, timeout=10)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=500)
        if whole_queue:
            queue = await channel.get_queue(CRM_QUEUE, ensure=False)
        else:
            queue = await channel.declare_queue(exclusive=True, auto_delete=True)
            await queue.bind(CRM_EVENTS, routing_key="#", timeout=10)
        await queue.consume(listening.take, timeout=10)
        yield listening
