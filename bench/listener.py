"""The CRM of the benchmark: notes when each change arrived and which event it came from."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aio_pika
import msgspec
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from quittance.broker import CRM_EVENTS, CRM_QUEUE

ACK_EVERY = 50


class _Cause(msgspec.Struct):
    id: str


class _Data(msgspec.Struct):
    cause: _Cause


class _Event(msgspec.Struct):
    data: _Data


_decoder = msgspec.json.Decoder(_Event)


@dataclass
class Listener:
    """Arrivals: the causing event's id and Unix seconds. Only kept while `keeping`."""

    channel: AbstractChannel
    keeping: bool = False
    received: int = 0
    arrivals: list[tuple[str, float]] = field(default_factory=list)

    async def take(self, message: AbstractIncomingMessage) -> None:
        """Note it; one ack for many where they come fast."""
        now = time.time()
        self.received += 1
        if self.keeping:
            self.arrivals.append((_decoder.decode(message.body).data.cause.id, now))
        if self.received % ACK_EVERY == 0:
            await message.ack(multiple=True)


@asynccontextmanager
async def listener(amqp_url: str, *, whole_queue: bool) -> AsyncIterator[Listener]:
    """Listen until the block ends: on the queue `crm`, or beside it, which takes nothing away from anybody."""
    connection = await aio_pika.connect(amqp_url, timeout=10)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1_000)
        if whole_queue:
            queue = await channel.get_queue(CRM_QUEUE, ensure=False)
        else:
            queue = await channel.declare_queue(exclusive=True, auto_delete=True)
            await queue.bind(CRM_EVENTS, routing_key="#", timeout=10)
        listening = Listener(channel)
        await queue.consume(listening.take, timeout=10)
        yield listening
