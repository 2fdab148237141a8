"""Answers go to queues of the CRM's own, which may be gone, full, or somebody else's trouble."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from asyncpg.pool import Pool
from prometheus_client import REGISTRY

from quittance import outbox
from quittance.database import Connection
from quittance.event import Cause, Event
from tests.commands.conftest import Crm, Running, answers_in, nothing_waits, quote
from tests.support.messages import Broker
from tests.support.polling import eventually
from workers.runtime import relay as relays
from workers.runtime.held import Held
from workers.runtime.replies import RepliesOutlet

EVERYWHERE = range(outbox.BUCKETS)
Queues = Callable[..., Any]
FULL_AT_TWO = {"x_max_length": 2, "x_overflow": "reject-publish"}


def dropped() -> float:
    return REGISTRY.get_sample_value("quittance_replies_dropped_total") or 0.0


def told(queue: str, number: int, quote_id: str = "Q-1") -> Event:
    """An answer, as workers/commands.py makes it."""
    return Event(
        id=f"answer:{queue}:{number}",
        type=outbox.ACCEPTED,
        account="acct_1",
        livemode=False,
        created=0,
        received_at=1_790_000_000.5,
        body=json.dumps({"number": number}).encode(),
        cause=Cause("m-1", "quote.published"),
        stream=f"{queue}/{quote_id}",
        routing_key=queue,
        about=json.dumps({"correlation_id": str(number)}),
    )


async def store(database: Pool, events: Iterable[Event]) -> None:
    async with database.acquire() as db:
        await outbox.write(db, list(events))


async def rows_published(db: Connection, amqp: Broker, held: Held) -> int:
    """How many rows one claim published."""
    outlet = RepliesOutlet(amqp.connection, amqp.channel, held)
    return (await relays.publish_claim(db, outlet, "replies", EVERYWHERE)).rows


async def numbers(amqp: Broker, queue: str) -> list[int]:
    return [answer.json["number"] for answer in await answers_in(amqp, queue)]


async def test_an_answer_whose_queue_is_not_there_is_dropped_and_counted(
    crm: Crm, running: Running, database: Pool
) -> None:
    before = dropped()
    async with running():
        await crm.publish("Q-1", quote(), reply_to="crm-replies-gone")
        assert (await crm.published("Q-2", quote())).accepted
        await eventually(lambda: nothing_waits(database))
    assert dropped() == before + 1
    assert await database.fetchval("SELECT count(*) FROM published_quotes") == 2


async def test_a_full_queue_waits_alone_and_gets_its_answers_in_order(
    running: Running, database: Pool, amqp: Broker, reply_queue: Queues
) -> None:
    """INVARIANT: one CRM that does not read delays no other. Broken by a pause of the whole destination."""
    full, free = await reply_queue(**FULL_AT_TWO), await reply_queue()
    async with running():
        await store(database, [told(full, number) for number in range(1, 9)])

        async def is_full() -> bool:
            return await amqp.depth(full) >= 2

        await eventually(is_full)
        for number in range(1, 41):
            await store(database, [told(free, number, f"Q-{number % 3}")])

        async def free_is_through() -> bool:
            assert await amqp.depth(free) == 40
            return True

        # Each of the others in its own transaction: a pause that were the destination's would add up to a minute.
        await eventually(free_is_through, timeout=5)

        async def six_wait() -> bool:
            left = await database.fetchval("SELECT count(*) FROM outbox WHERE destination = 'replies'")
            assert left == 6, left
            return True

        await eventually(six_wait)
        arrived: list[int] = []

        async def drained() -> bool:
            arrived.extend(await numbers(amqp, full))
            return await nothing_waits(database)

        await eventually(drained, timeout=30)
    arrived += await numbers(amqp, full)
    assert arrived == list(range(1, 9))
    assert sorted(await numbers(amqp, free)) == list(range(1, 41))


async def test_a_queue_that_is_full_is_no_trouble_of_the_destination(
    database: Pool, amqp: Broker, reply_queue: Queues
) -> None:
    """Nothing is raised, which would make everybody wait; and the next claim passes it over."""
    full, free = await reply_queue(**FULL_AT_TWO), await reply_queue()
    held = Held()
    await store(database, [told(full, 1), told(full, 2), told(full, 3), told(free, 1)])
    async with database.acquire() as db:
        assert await rows_published(db, amqp, held) == 3
        assert held.now() == [full]
        await store(database, [told(free, 2)])
        assert await rows_published(db, amqp, held) == 1
    assert await numbers(amqp, free) == [1, 2]
    assert await numbers(amqp, full) == [1, 2]


async def test_a_hundred_answers_to_a_full_queue_hide_nobody_s_behind_them(
    running: Running, database: Pool, amqp: Broker, reply_queue: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fill what is read of a bucket at once; all streams are in one bucket here."""
    monkeypatch.setattr(outbox, "bucket", lambda _: 7)
    full, free = await reply_queue(**FULL_AT_TWO), await reply_queue()
    await store(database, [told(full, number, f"Q-{number}") for number in range(100)])
    await store(database, [told(free, number) for number in range(5)])
    async with running():

        async def free_is_through() -> bool:
            assert await amqp.depth(free) == 5
            return True

        await eventually(free_is_through, timeout=8)
    assert await numbers(amqp, free) == list(range(5))


async def test_a_queue_that_was_deleted_while_it_was_full_is_let_go(
    running: Running, database: Pool, amqp: Broker, reply_queue: Queues
) -> None:
    full = await reply_queue(**FULL_AT_TWO)
    before = dropped()
    async with running():
        await store(database, [told(full, number) for number in range(5)])

        async def is_full() -> bool:
            return await amqp.depth(full) >= 2

        await eventually(is_full)
        held = (await amqp.channel.queue_delete(full)).message_count or 0
        await eventually(lambda: nothing_waits(database), timeout=20)
    assert 2 <= held < 5, "a queue that is full may let one more in"
    assert dropped() == before + 5 - held


async def test_a_relay_that_dies_between_publish_and_delete_answers_with_the_same_id(
    database: Pool, amqp: Broker, reply_queue: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = await reply_queue()
    await store(database, [told(free, number) for number in range(3)])
    async with database.acquire() as db:
        with monkeypatch.context() as patched:
            patched.setattr(relays, "PUBLISHED", "SELECT nothing_of_the_kind($1::bigint[])")
            with pytest.raises(Exception, match="nothing_of_the_kind"):
                await rows_published(db, amqp, Held())
        assert await rows_published(db, amqp, Held()) == 3
    answers = await answers_in(amqp, free)
    assert [answer.message_id for answer in answers] == [f"answer:{free}:{number}" for number in range(3)] * 2
    assert [answer.correlation_id for answer in answers] == ["0", "1", "2"] * 2


def test_a_pause_doubles_and_ends_with_the_first_message_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 100.0
    monkeypatch.setattr("workers.runtime.held.time.monotonic", lambda: moment)
    monkeypatch.setattr("workers.runtime.held.jittered", lambda seconds: seconds)
    held = Held()
    pauses = []
    for _ in range(9):
        held.hold("a")
        held.hold("a")  # its other streams, in the same wave
        before = moment
        while held.now():
            moment += 0.5
        pauses.append(moment - before)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    held.hold("a")
    assert held.now() == ["a"]
    held.release("a")
    assert held.now() == []
    held.hold("a")
    moment += 0.5
    assert held.now() == []


async def test_an_answer_that_no_client_can_write_ends_nobody_s_loop(
    running: Running, database: Pool, amqp: Broker, reply_queue: Queues
) -> None:
    free = await reply_queue()
    before = dropped()
    async with running():
        await store(database, [told("x" * 300, 1), told(free, 2)])
        await eventually(lambda: nothing_waits(database))
    assert await numbers(amqp, free) == [2]
    assert dropped() == before + 1
