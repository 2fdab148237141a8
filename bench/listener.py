"""The CRM of the benchmark: notes when each change arrived and which event it came from."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from pamqp.commands import Queue

from quittance import wire
from quittance.broker import CRM_EVENTS, CRM_QUEUE
from quittance.wire import Delivery, Wire

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

    line: Wire
    keeping: bool = False
    received: int = 0
    arrivals: list[tuple[str, float]] = field(default_factory=list)

    def take(self, delivery: Delivery) -> None:
        """Note it; one ack for many where they come fast."""
        now = time.time()
        self.received += 1
        if self.keeping:
            self.arrivals.append((_decoder.decode(delivery.body).data.cause.id, now))
        if self.received % ACK_EVERY == 0:
            self.line.ack(delivery.tag, multiple=True)


@asynccontextmanager
async def listener(amqp_url: str, *, whole_queue: bool) -> AsyncIterator[Listener]:
    """Listen until the block ends: on the queue `crm`, or beside it, which takes nothing away from anybody. By the thin
    AMQP, so that the CRM takes as little as it can of the cores that are measured.
    """
    async with wire.connected(amqp_url, "bench crm", confirms=False) as line:
        await line.prefetch(1_000)
        queue = CRM_QUEUE if whole_queue else await _beside(line)
        listening = Listener(line)
        await line.consume(queue, listening.take)
        yield listening


async def _beside(line: Wire) -> str:
    """A queue of this connection's own, which gets what `crm` gets."""
    declared = await line.call(Queue.Declare(exclusive=True, auto_delete=True), Queue.DeclareOk)
    name = declared.queue or ""
    await line.call(Queue.Bind(queue=name, exchange=CRM_EVENTS, routing_key="#"), Queue.BindOk)
    return name
