"""The broker: its names, the queues' arguments, and how to connect. `quittance init` alone declares them.

Here aio-pika connects, for whatever is rare; what publishes and consumes events does it over quittance/wire.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import aio_pika
import aiormq.exceptions
from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel
from aiormq.exceptions import (
    AMQPError,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
)
from pamqp.commands import Basic

from quittance import addresses, foreign_properties

foreign_properties.tolerate()

STRIPE_EVENTS: Final = "stripe.events"
QUITTANCE_EVENTS: Final = "quittance.events"
CRM_EVENTS: Final = "crm.events"
CRM_COMMANDS: Final = "crm.commands"
DEAD_LETTERS: Final = "dead-letters"  # the exchange, and its queue
CRM_QUEUE: Final = "crm"
CRM_QUEUE_MAX_BYTES: Final = 1 << 30

EXCHANGES: Final = {
    STRIPE_EVENTS: "topic",
    QUITTANCE_EVENTS: "topic",
    CRM_EVENTS: "topic",
    CRM_COMMANDS: "topic",
    DEAD_LETTERS: "fanout",
}

DELIVERY_LIMIT: Final = 20
# Of queues whose messages may not be given up after any number of crashes. Not -1: 3.10 takes that for "drop at once".
NO_DELIVERY_LIMIT: Final = 1_000_000

# A connection that is cut off without a word is found dead after two of them, by aiormq after (10 + 1) * 3 s (its own
# default takes 183 s).
HEARTBEAT: Final = 10
CONNECT_TIMEOUT: Final = 5.0
# Calls that the broker answers at once, or never (a queue without leader); seconds.
CALL_TIMEOUT: Final = 10.0


class BrokerAway(Exception):
    """The connection is lost, was refused, or nothing answered in time. What was under way may have happened."""


class NotInTime(BrokerAway):
    """Nothing was answered in time; the connection may be well."""


class ClosedByBroker(BrokerAway):
    """The broker closed the connection or the channel, with `code` (404: an exchange or queue is not there)."""

    def __init__(self, said: str, code: int) -> None:
        super().__init__(said)
        self.code = code


class NotTaken(Exception):
    """The broker answered, and did not take the message: its queue is full, or no queue is bound for the key."""


class Unroutable(NotTaken):
    """No queue is bound for the key: it came back."""


class TopologyDiffers(Exception):
    """A queue or exchange is there with other arguments; the message names it and the difference."""


@dataclass(frozen=True)
class Queue:
    """A worker's queue and what it takes: per exchange, the exact routing keys (`#` for all).

    `in_order`: however many processes consume it, one of them has it to itself, and the next when that one ends.
    """

    name: str
    bindings: Mapping[str, tuple[str, ...]]
    in_order: bool = False

    def arguments(self) -> dict[str, Any]:
        """Safety lives in arguments, not in a policy that somebody may drop: a queue that differs is refused (406).

        A positive delivery limit is set because -1 means "drop at once" on 3.10. Without reject-publish beside it, the
        broker dead-letters at most once, and says so in its log alone.
        """
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": DEAD_LETTERS,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            **({"x-single-active-consumer": True} if self.in_order else {}),
        }


def crm_queue_arguments(max_bytes: int) -> dict[str, Any]:
    """The queue that waits for the CRM: bounded, so that a silent CRM fills the outbox and never the broker's disk."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": NO_DELIVERY_LIMIT,
        "x-max-length-bytes": max_bytes,
        "x-overflow": "reject-publish",
    }


def dead_letters_arguments() -> dict[str, Any]:
    """The queue of what crashed a worker again and again: nothing leaves it but through our own table."""
    return {"x-queue-type": "quorum", "x-delivery-limit": NO_DELIVERY_LIMIT}


async def connect(url: str, name: str) -> AbstractConnection:
    """Connect to the first of the addresses in `url` that answers; not to be restored by the library: whoever holds the
    connection reconnects at its own pace.

    Raises BrokerAway.
    """
    return await addresses.first_to_answer(url, lambda one: _connect(one, name), close, BrokerAway)


async def _connect(url: str, name: str) -> AbstractConnection:
    async with calling(CONNECT_TIMEOUT):
        # In the query, where aiormq looks for them, and only where the address does not say otherwise.
        address = aio_pika.connection.make_url(url)
        address = address.update_query({"heartbeat": HEARTBEAT, "name": f"quittance {name}", **dict(address.query)})
        return await aio_pika.connect(address, timeout=CONNECT_TIMEOUT)


@asynccontextmanager
async def connected(url: str, name: str) -> AsyncIterator[AbstractConnection]:
    """A connection for the length of a block. Raises BrokerAway."""
    connection = await connect(url, name)
    try:
        yield connection
    finally:
        await close(connection)


async def close(connection: AbstractConnection) -> None:
    """Close a connection that may be dead already, within seconds."""
    try:
        async with calling(3.0):
            await connection.close()
    except BrokerAway:
        pass


async def open_channel(connection: AbstractConnection, *, confirms: bool) -> AbstractChannel:
    """A channel of the client under aio-pika: at some thousand messages a second aio-pika's own objects cost more CPU
    than all the rest of ours.

    With `confirms`, a message that no queue takes raises too (`mandatory` must be set). Raises BrokerAway.
    """
    async with calling(CALL_TIMEOUT):
        channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
        await channel.initialize()
        return await channel.get_underlay_channel()


@asynccontextmanager
async def calling(timeout: float) -> AsyncIterator[None]:  # noqa: ASYNC109 - it is what this is for
    """Every way in which a lost connection shows, as BrokerAway.

    One of them is a CancelledError that nobody asked for: aiormq rejects what waits on a dead connection with it. It is
    a real cancellation only if somebody cancelled this very task.
    """
    try:
        async with asyncio.timeout(timeout):
            yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise BrokerAway("the connection was lost") from None
    except (DeliveryError, ChannelPreconditionFailed, ChannelNotFoundEntity):
        raise  # the broker's answers, which are no loss of it
    except TimeoutError:
        raise BrokerAway(f"no answer within {timeout:g} s") from None
    except (AMQPError, OSError, RuntimeError) as error:
        raise BrokerAway(f"{type(error).__name__}: {error}") from error


def properties(headers: Mapping[str, Any], event_type: str, content_type: str = "application/json") -> Basic.Properties:
    """The properties of a persistent message. Its `message_id` is unique per attempt: with the same one twice in
    flight, aiormq takes a message that was returned for one that was confirmed.
    """
    return Basic.Properties(
        headers=dict(headers),
        message_type=event_type,
        message_id=uuid4().hex,
        content_type=content_type,
        delivery_mode=2,
    )


async def publish(  # noqa: PLR0917 - the parts of a message, in the order in which AMQP sends them
    channel: AbstractChannel,
    exchange: str,
    routing_key: str,
    body: bytes,
    about: Basic.Properties,
    timeout: float,  # noqa: ASYNC109 - a lost connection has to be told from a lapse of time
) -> None:
    """Publish and wait until a majority of each queue's nodes has stored it.

    Raises NotTaken where the broker refused it (Unroutable: there is no queue), BrokerAway where it is not known whether
    it was stored.
    """
    try:
        async with calling(timeout):
            answer = await channel.basic_publish(
                body, exchange=exchange, routing_key=routing_key, properties=about, mandatory=True
            )
    except aiormq.exceptions.PublishError as error:
        raise Unroutable(f"no queue is bound to {exchange or 'the default exchange'} for {routing_key}") from error
    except DeliveryError as error:
        raise NotTaken("the queue is full") from error
    except ChannelNotFoundEntity as error:
        raise BrokerAway(str(error)) from error
    if not isinstance(answer, Basic.Ack):
        raise NotTaken(f"answered {type(answer).__name__}")


async def declare(url: str, queues: Iterable[Queue], crm_queue_max_bytes: int = CRM_QUEUE_MAX_BYTES) -> None:
    """Declare every exchange, queue and binding, and wait until each queue has a leader; safe to repeat.

    To be run well before any traffic: a quorum queue whose node is killed within about a second of its declaration
    can come back unusable. Raises TopologyDiffers, or BrokerAway (a queue stays without leader).
    """
    wanted = {queue.name: queue.arguments() for queue in queues}
    wanted[CRM_QUEUE] = crm_queue_arguments(crm_queue_max_bytes)
    wanted[DEAD_LETTERS] = dead_letters_arguments()
    bindings = [(queue.name, exchange, keys) for queue in queues for exchange, keys in queue.bindings.items()]
    bindings += [(CRM_QUEUE, CRM_EVENTS, ("#",)), (DEAD_LETTERS, DEAD_LETTERS, ("",))]
    async with connected(url, "init") as connection:
        channel = await open_channel(connection, confirms=False)
        try:
            for exchange, kind in EXCHANGES.items():
                async with calling(CALL_TIMEOUT):
                    await channel.exchange_declare(exchange, exchange_type=kind, durable=True)
            for name, arguments in wanted.items():
                async with calling(CALL_TIMEOUT):
                    await channel.queue_declare(name, durable=True, arguments=arguments)
        except ChannelPreconditionFailed as error:
            raise TopologyDiffers(str(error)) from error
        for name, exchange, keys in bindings:
            for key in keys:
                async with calling(CALL_TIMEOUT):
                    await channel.queue_bind(name, exchange, routing_key=key)
    for name in wanted:
        await wait_for_leader(url, name)


async def wait_for_leader(url: str, queue: str) -> None:
    """Return once `queue` answers. Raises BrokerAway where it has no leader within CALL_TIMEOUT.

    On a connection of its own: what hangs on a leaderless queue takes its channel with it.
    """
    async with connected(url, "probe") as connection:
        channel = await open_channel(connection, confirms=False)
        try:
            async with calling(CALL_TIMEOUT):
                declared = await channel.queue_declare(queue, passive=True)
                # Taking a message to give it back would count as a delivery; one that holds messages has had a leader.
                if not declared.message_count:
                    await channel.basic_get(queue, no_ack=False)
        except BrokerAway as error:
            if isinstance(error.__cause__, ChannelLockedResource):
                return  # the leader's own answer for a queue that one consumer has to itself
            raise BrokerAway(f"queue {queue} does not answer, it may have no leader: {error}") from error
