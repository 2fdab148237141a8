"""The broker: reachable, taking messages, and with the exchanges, queues and arguments of this version."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from quittance import broker, wire
from quittance.addresses import place, split, vhost
from quittance.broker import BrokerAway, Unroutable
from quittance.cli.doctor_bindings import check_bindings
from quittance.cli.doctor_checks import Area, Check
from quittance.cli.workers_registry import queues
from quittance.wire import Wire

INIT: Final = "run `quittance init`: it declares what is missing and changes nothing else"
DELETE: Final = (
    "stop ingest and relay, let the workers empty it, delete it (`rabbitmqctl delete_queue {name}`), run `quittance init`; "
    "an exchange is deleted by hand likewise"
)
DIFFERENT_CRM: Final = (
    "give this command the CRM_QUEUE_MAX_BYTES that `quittance init` had. To change the bound: let the CRM empty the queue, delete "
    "it (`rabbitmqctl delete_queue {name}`), run `quittance init`"
)
LEADERLESS: Final = (
    "start the broker's other nodes, and wait half a minute (`rabbitmqctl list_queues -p {vhost} name leader online`). Where "
    "there are none, or it stays so, what was in it is lost: `rabbitmqctl delete_queue -p {vhost} {name}`, `quittance init`; {again}"
)
# What brings back what was lost with a queue. A worker's queue that is not named is filled from the archive.
REPLAY: Final = (
    "then `quittance events replay --queue {name} --since TIME`, and have Stripe send again what the archive has not got "
    "(`stripe events resend`, or by itself within three days where it was answered 503)"
)
OWN_EVENTS: Final = "; what it had of our own events (quittance.events) does not come again"
REFILL: Final = {
    broker.CRM_QUEUE: "the CRM reads what it missed from GET /v1/changes",
    broker.DEAD_LETTERS: "then `quittance doctor` names the events that a worker has never handled",
    "archive": "then have Stripe send the events of that time again (`stripe events resend`)",
    "commands": "the CRM publishes again what it got no answer to",
    "notifications": "no mail that was due in it comes again: compare the quotes that were paid meanwhile with the table emails",
}
NODE: Final = "start that node: with one of three gone nothing stops, with two gone nothing is taken"
ALARM: Final = (
    "free memory or disk on the broker's nodes: `rabbitmqctl list_alarms` says which; Stripe sends again meanwhile"
)

# During an alarm the broker reads no more from a connection once it has published: the first message is answered, the
# second is not (seconds).
PUBLISH_TIMEOUT: Final = 3.0
NOWHERE: Final = "quittance.doctor.nowhere"
BACKLOG: Final = 1_000


class Depth(msgspec.Struct, frozen=True):
    """What a queue says of itself."""

    messages: int
    consumers: int


async def check_broker(url: str, crm_bytes: int, *, probe: bool) -> list[Check]:
    """All of it; each queue on a connection of its own, as one without leader takes its channel with it."""
    area = Area("broker")
    if len(split(url)) > 1:
        await _nodes(area, url)
    try:
        async with broker.connected(url, "doctor") as connection:
            area.ok("reachable, and the login is accepted")
            await _exchanges(area, connection)
        # On another connection: once blocked, it is not read from any more.
        async with wire.connected(url, "doctor", confirms=True) as channel:
            taking = await _takes_messages(area, channel)
    except BrokerAway as error:
        area.fault(f"not reachable: {error}", "start the broker, or mend AMQP_URL; Stripe sends again for 3 days")
        return area.checks
    wanted = {name: queue.arguments() for name, queue in queues().items()}
    wanted[broker.CRM_QUEUE] = broker.crm_queue_arguments(crm_bytes)
    wanted[broker.DEAD_LETTERS] = broker.dead_letters_arguments()
    found = await asyncio.gather(*(_queue(url, name, arguments) for name, arguments in wanted.items()))
    depths = {}
    for name, (checks, depth) in zip(wanted, found, strict=True):
        area.checks += checks
        if depth is not None:
            depths[name] = depth
    if probe and taking:
        consumed = {name for name, depth in depths.items() if depth.consumers}
        # What one consumer has to itself hands nothing out to the doctor.
        shared = {name for name in depths if name not in queues() or not queues()[name].in_order}
        idle = {name for name in shared if not depths[name].consumers and not depths[name].messages}
        area.checks += await check_bindings(url, queues(), consumed, idle)
    return area.checks


async def _takes_messages(area: Area, channel: Wire) -> bool:
    """Publish something that goes nowhere, twice: it comes back unless publishers are blocked."""
    try:
        for _ in range(2):
            with suppress(Unroutable):  # no queue has that name
                await channel.publish("", NOWHERE, b"", {}, "probe", PUBLISH_TIMEOUT)
    except BrokerAway as error:
        area.fault(f"takes no message ({error}): an alarm blocks publishers, or it hangs", ALARM)
        return False
    area.ok("takes messages: no alarm blocks publishers")
    return True


async def _nodes(area: Area, urls: str) -> None:
    """Each address of several: a node that is gone is not missed by anybody until the next one goes."""

    async def answers(url: str) -> BrokerAway | None:
        try:
            async with broker.connected(url, "doctor"):
                return None
        except BrokerAway as error:
            return error

    several = split(urls)
    for url, error in zip(several, await asyncio.gather(*map(answers, several)), strict=True):
        if error is None:
            area.ok(f"{place(url)} answers")
        else:
            area.warning(f"{place(url)} does not answer: {error}", NODE)


async def _exchanges(area: Area, connection: AbstractConnection) -> None:
    missing = []
    for name, kind in broker.EXCHANGES.items():
        channel = await broker.open_channel(connection, confirms=False)
        try:
            async with broker.calling(broker.CALL_TIMEOUT):
                await channel.exchange_declare(name, passive=True)
            # It is there, so this declares nothing: it compares.
            async with broker.calling(broker.CALL_TIMEOUT):
                await channel.exchange_declare(name, exchange_type=kind, durable=True)
        except ChannelNotFoundEntity:
            missing.append(name)
        except ChannelPreconditionFailed as error:
            area.fault(f"exchange {name} differs: {error}", DELETE.format(name=name))
    if missing:
        area.fault(f"exchanges are missing: {', '.join(missing)}", INIT)
    else:
        area.ok(f"{len(broker.EXCHANGES)} exchanges are there")


async def _queue(url: str, name: str, arguments: Mapping[str, Any]) -> tuple[list[Check], Depth | None]:
    area = Area(f"queue {name}")
    depth: Depth | None = None
    try:
        async with broker.connected(url, "doctor") as connection:
            channel = await broker.open_channel(connection, confirms=False)
            async with broker.calling(broker.CALL_TIMEOUT):
                declared = await channel.queue_declare(name, passive=True)
            depth = Depth(declared.message_count or 0, declared.consumer_count or 0)
            # It is there, so this declares nothing: it compares the arguments.
            async with broker.calling(broker.CALL_TIMEOUT):
                await channel.queue_declare(name, durable=True, arguments=dict(arguments))
        await broker.wait_for_leader(url, name)
    except ChannelNotFoundEntity:
        area.fault("is missing: its events go nowhere", INIT)
    except ChannelPreconditionFailed as error:
        cure = DIFFERENT_CRM if name == broker.CRM_QUEUE else DELETE
        area.fault(f"has other arguments: {error}", cure.format(name=name))
    except BrokerAway as error:
        says = f"has no leader, or its node hangs: nothing comes into it or out of it ({error.__cause__ or error})"
        area.fault(says, LEADERLESS.format(name=name, vhost=vhost(split(url)[0]), again=refilled(name)))
        depth = None
    if depth is not None:
        _look_at(area, name, depth)
    return area.checks, depth


def refilled(name: str) -> str:
    """What brings back what was lost with a queue, as far as anything does."""
    if name in REFILL:
        return REFILL[name]
    own = OWN_EVENTS if queues()[name].bindings.get(broker.QUITTANCE_EVENTS) else ""
    return REPLAY.format(name=name) + own


def _look_at(area: Area, name: str, depth: Depth) -> None:
    waiting = f"{depth.messages:,} messages wait"
    if name == broker.CRM_QUEUE:
        if depth.consumers:
            area.ok(f"the CRM is connected; {waiting}")
        elif depth.messages:
            area.warning(
                f"no CRM is connected, and {waiting} for it", "connect the CRM; when it is full, the outbox waits"
            )
        else:
            area.note("no CRM is connected; nothing waits for it")
    elif not depth.consumers:
        process = "relay" if name == broker.DEAD_LETTERS else name
        area.fault(f"nobody consumes it; {waiting}", f"start `python -m workers {process}` (or `all`)")
    elif name == broker.DEAD_LETTERS and depth.messages:
        area.warning(f"{waiting} to be filed", "the relay files them within moments: look at its logs if this stays")
    elif depth.messages > BACKLOG:
        area.warning(f"{waiting}", f"a backlog: start more of `python -m workers {name}`, or see what it waits for")
    else:
        area.ok(f"{depth.consumers} consuming; {waiting}")


async def quiet(url: str) -> set[str]:
    """The workers' queues that hold no message now: what one of them has not handled never came to it."""
    found = set()
    try:
        async with broker.connected(url, "doctor") as connection:
            for name in queues():
                channel = await broker.open_channel(connection, confirms=False)
                async with broker.calling(broker.CALL_TIMEOUT):
                    declared = await channel.queue_declare(name, passive=True)
                if not declared.message_count:
                    found.add(name)
    except (BrokerAway, ChannelNotFoundEntity):
        return found  # the queues' own checks say what is wrong
    return found
