"""Answers to the CRM's commands, published to the queue that each command named: a queue of the CRM's own.

It may be gone: then the answer comes back from the broker, and is dropped; whoever asked is not there any more. It may be
full, or not answer: then it is left alone for a while (workers/runtime/held.py), its answers wait in the outbox in order,
and those for other queues go on.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from quittance import broker
from quittance.broker import BrokerAway, NotTaken, Unroutable
from workers.runtime import metrics
from workers.runtime.held import Held

log = structlog.get_logger(__name__)

REPLIES: Final = "replies"
PUBLISH_TIMEOUT: Final = 5.0


class Addressed(msgspec.Struct, frozen=True):
    """What an answer's `about` says: whose answer it is."""

    correlation_id: str


_addressed = msgspec.json.Decoder(Addressed)


class RepliesOutlet:
    """For answers, to queues of the CRM's."""

    def __init__(self, connection: AbstractConnection, channel: AbstractChannel, held: Held) -> None:
        self._connection = connection
        self._channel = channel
        self._held = held
        self._refused = False

    async def publish(self, rows: Sequence[asyncpg.Record]) -> Sequence[BrokerAway | NotTaken | None]:
        """As Outlet says; an answer that nobody waits for any more is given up."""
        if self._refused and not self._channel.is_closed:
            await self._renew()
        answers = await asyncio.gather(*(publish(self._channel, row, self._held) for row in rows))
        self._refused = any(answers)
        return answers

    async def _renew(self) -> None:
        """Go on with another channel: one that first published to a queue without leader may be refused there for good,
        when it has a leader again too (see ingest/connection.py). Where there is none to be had, the old one is closed.
        """
        with suppress(BrokerAway):
            async with broker.calling(broker.CALL_TIMEOUT):
                await self._channel.close()
            self._channel = await broker.open_channel(self._connection, confirms=True)

    def passed_over(self) -> list[str]:
        """The queues that are left alone for a while."""
        return self._held.now()

    @property
    def lost(self) -> str:
        """As Outlet says."""
        return "the channel was lost" if self._channel.is_closed else ""


@asynccontextmanager
async def outlet(url: str, name: str, held: Held) -> AsyncIterator[RepliesOutlet]:
    """One on a connection of its own, by aio-pika: answers are rare. Raises BrokerAway."""
    async with broker.connected(url, name) as connection:
        yield RepliesOutlet(connection, await broker.open_channel(connection, confirms=True), held)


async def publish(channel: AbstractChannel, row: asyncpg.Record, held: Held) -> BrokerAway | NotTaken | None:
    """Publish one answer; None once it is confirmed, or dropped, else why it was not."""
    queue: str = row["routing_key"]
    try:
        await broker.publish(channel, row["exchange"], queue, row["body"], properties(row), PUBLISH_TIMEOUT)
    except (TypeError, ValueError) as error:
        # The client cannot write such properties at all: it never will, and may not end this loop.
        metrics.REPLIES_DROPPED.inc()
        log.error("reply.unsendable", queue=queue, event_id=row["event_id"], error=str(error))
    except Unroutable:
        metrics.REPLIES_DROPPED.inc()
        log.warning("reply.dropped", queue=queue, event_id=row["event_id"], type=row["type"])
    except (NotTaken, BrokerAway) as trouble:
        # Where the channel is lost too, that says nothing about this queue.
        if not channel.is_closed:
            held.hold(queue)
            log.warning("reply.not_taken", queue=queue, event_id=row["event_id"], error=str(trouble))
        return trouble
    held.release(queue)
    return None


def properties(row: asyncpg.Record) -> Basic.Properties:
    """The message's properties. Its id is that of the answer: an answer that comes twice is known by it. No two with the
    same id are in flight at once, which would confuse returns: they are of one stream.
    """
    headers: dict[str, Any] = msgspec.json.decode(row["headers"])
    about = _addressed.decode(headers.pop("about"))
    made = broker.properties(headers, row["type"])
    made.message_id = row["event_id"]
    made.correlation_id = about.correlation_id
    return made
