"""Bindings, which AMQP does not list: each one is tried with a probe, and whoever consumes the queue says that it came.

A probe goes the way of an event (exchange, routing key) and reaches every queue bound for it; the workers' runtime
answers and drops it (workers/runtime/probes.py). One more goes to each queue directly: a queue that answers this one
alone has lost a binding, one that answers none has nobody who listens. A queue that is empty and has no consumer is read
by the doctor itself. Nothing is sent to the CRM: what no queue takes there waits in the outbox, which has its own check.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple
from uuid import uuid4

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import AMQPError
from pamqp.commands import Basic

from quittance import broker
from quittance.broker import BrokerAway, Queue
from quittance.cli.doctor_checks import Area, Check
from quittance.cli.output import count
from workers.runtime.probes import PROBE

ANY_TYPE: Final = "quittance.probe"
DIRECT: Final = ""
WAIT: Final = 5.0
# A queue hands out in order, so what came before the direct probe has been seen by then; but not by two consumers.
GRACE: Final = 0.5

INIT: Final = (
    "run `quittance init`; what was missed meanwhile is in the archive: "
    "`quittance events replay --queue {name} --type TYPE --since TIME`"
)
DEAF: Final = "its worker hangs, or is busy with what came before: look at its logs, and restart it if that stays"


class Way(NamedTuple):
    """How a probe goes: through an exchange, or directly to a queue (no exchange)."""

    exchange: str
    key: str


async def check_bindings(url: str, workers: Mapping[str, Queue], consumed: set[str], idle: set[str]) -> list[Check]:
    """Try every binding of every queue. `consumed`: queues with a consumer; `idle`: those without one, and empty."""
    expected = ways_of(workers)
    try:
        async with broker.connected(url, "doctor probe") as connection:
            probing = Probing(connection)
            await probing.start(expected, consumed | idle)
            await probing.finish({name: ways for name, ways in expected.items() if name in consumed}, idle)
    except (BrokerAway, AMQPError) as error:
        area = Area("bindings")
        area.note(f"could not be tried: {error}")
        return area.checks
    return [check for name, ways in expected.items() for check in _judge(name, ways, probing.arrived, consumed | idle)]


def ways_of(workers: Mapping[str, Queue]) -> dict[str, set[Way]]:
    """Per queue, the ways on which an event must reach it."""
    expected = {
        name: {
            Way(exchange, ANY_TYPE if key == "#" else key) for exchange, keys in queue.bindings.items() for key in keys
        }
        for name, queue in workers.items()
    }
    expected[broker.DEAD_LETTERS] = {Way(broker.DEAD_LETTERS, "")}
    return expected


class Probing:
    """Probes under way: which have come to which queue."""

    def __init__(self, connection: AbstractConnection) -> None:
        self.arrived: set[tuple[str, Way]] = set()
        self._connection = connection
        self._token = uuid4().hex
        self._ways: list[Way] = []
        self._news = asyncio.Event()

    async def start(self, expected: Mapping[str, set[Way]], direct: set[str]) -> None:
        """Send a probe on each way, then one to each queue directly."""
        channel = await broker.open_channel(self._connection, confirms=True)
        async with broker.calling(broker.CALL_TIMEOUT):
            # Exclusive: it ends with this connection, and so do answers that come later.
            answers = await channel.queue_declare(exclusive=True)
            name = answers.queue or ""
            await channel.basic_consume(name, self._answer, no_ack=True)
        self._ways = sorted({way for ways in expected.values() for way in ways})
        self._ways += [Way(DIRECT, queue) for queue in sorted(direct)]
        for number, way in enumerate(self._ways):
            about = Basic.Properties(headers={PROBE: self._token}, reply_to=name, correlation_id=str(number))
            async with broker.calling(broker.CALL_TIMEOUT):
                await channel.basic_publish(b"", exchange=way.exchange, routing_key=way.key, properties=about)

    async def finish(self, expected: Mapping[str, set[Way]], idle: set[str]) -> None:
        """Wait for the answers, a moment longer than for the direct ones; read what nobody consumes."""
        for name in sorted(idle):
            await self._read(name)
        wanted = {(name, way) for name, ways in expected.items() for way in ways}
        direct = {(name, Way(DIRECT, name)) for name in expected}
        try:
            async with asyncio.timeout(WAIT):
                while not wanted | direct <= self.arrived:
                    self._news.clear()
                    if direct <= self.arrived:
                        async with asyncio.timeout(GRACE):
                            await self._news.wait()
                    else:
                        await self._news.wait()
        except TimeoutError:
            pass

    async def _answer(self, message: DeliveredMessage) -> None:
        self._arrive(message.body.decode(errors="replace"), message)

    async def _read(self, queue: str) -> None:
        """Take the probes out of a queue that nobody consumes; what else has come meanwhile is given back."""
        channel: AbstractChannel = await broker.open_channel(self._connection, confirms=False)
        while True:
            async with broker.calling(broker.CALL_TIMEOUT):
                message = await channel.basic_get(queue, no_ack=False)
            if message.delivery_tag is None:
                break
            token = (message.header.properties.headers or {}).get(PROBE)
            if token is not None:
                if token == self._token:  # else one of an earlier doctor, which nobody has taken out
                    self._arrive(queue, message)
                await channel.basic_ack(message.delivery_tag, wait=False)
        async with broker.calling(broker.CALL_TIMEOUT):
            await channel.close()

    def _arrive(self, queue: str, message: DeliveredMessage) -> None:
        number = message.header.properties.correlation_id
        if isinstance(number, str) and number.isdigit() and int(number) < len(self._ways):
            self.arrived.add((queue, self._ways[int(number)]))
            self._news.set()


def _judge(name: str, ways: set[Way], arrived: set[tuple[str, Way]], reachable: set[str]) -> list[Check]:
    area = Area(f"queue {name}")
    if name not in reachable:
        area.note("its bindings cannot be tried while nobody consumes it")
    elif (name, Way(DIRECT, name)) not in arrived:
        area.warning("its consumer does not answer a probe, so its bindings cannot be told", DEAF)
    elif missing := sorted(way for way in ways if (name, way) not in arrived):
        listed = ", ".join(f"{way.exchange} {way.key if way.key != ANY_TYPE else '#'}" for way in missing)
        area.fault(f"bindings are missing: {listed}", INIT.format(name=name))
    elif ways:
        area.ok(f"{count(len(ways), 'binding')} tried: all lead to it")
    else:
        area.ok("answers; it is bound to nothing, the relay sends to it by name")
    return area.checks
