"""Workers as processes: stopped, killed, cut off from Postgres and from the broker. Nothing is lost, nothing twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest
from asyncpg.pool import Pool

from dev.servers import BrokerControl, PostgresControl, Servers
from quittance import broker
from tests.conftest import Topology
from tests.runtime.conftest import event
from tests.runtime.test_outcomes import actions, failed, in_state
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.support.processes import Program
from workers.runtime import dead_letters, redelivery
from workers.runtime.intake import BATCH

Process = Callable[..., AbstractAsyncContextManager[Program]]
Effects = Callable[[], Any]

MANY = 1500


async def publish_many(amqp: Broker, first: int = 0, count: int = MANY) -> list[str]:
    """Publish events, side by side; their ids."""
    events = [event(n) for n in range(first, first + count)]
    for start in range(0, count, 100):
        await asyncio.gather(*(amqp.publish(one) for one in events[start : start + 100]))
    return [one.id for one in events]


async def at_least(effects: Effects, number: int) -> bool:
    seen: list[str] = []
    with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # Postgres may be the one that is away
        seen = await effects()
    assert len(seen) >= number, len(seen)
    return True


async def each_once(effects: Effects, wanted: list[str], database: Pool) -> None:
    """INVARIANT: every event took effect once, and none is a failed delivery."""
    await eventually(lambda: at_least(effects, len(wanted)), timeout=60)
    assert Counter(await effects()) == Counter(wanted)
    assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0


async def test_sigterm_under_load_loses_nothing(
    database: Pool, amqp: Broker, process: Process, effects: Effects
) -> None:
    wanted = await publish_many(amqp)
    async with process() as first:
        await eventually(lambda: at_least(effects, 200))
        assert await first.stop() == 0
    settled = len(await effects())
    assert settled + await amqp.depth("quotes") == MANY, "what was committed was acked before the end"
    async with process() as second:
        await each_once(effects, wanted, database)
        assert await second.stop() == 0


async def test_kill_9_again_and_again_loses_nothing(
    database: Pool, amqp: Broker, process: Process, effects: Effects
) -> None:
    """Each process lives until it has settled all that died with the one before: what comes back twice is suspect."""
    wanted = await publish_many(amqp, count=3 * MANY)
    goal = 1
    for _ in range(3):
        async with process() as one:
            await eventually(lambda goal=goal: at_least(effects, goal), every=0.005)  # type: ignore[misc]
            await one.kill()
        goal = len(await effects()) + 3 * BATCH
    assert goal < len(wanted), "there is something left for the last"
    async with process() as last:
        await each_once(effects, wanted, database)
        assert await last.stop() == 0


async def test_two_processes_share_a_queue(database: Pool, amqp: Broker, process: Process, effects: Effects) -> None:
    async with process() as one, process() as two:
        await one.logged("queue.consuming")
        await two.logged("queue.consuming")
        wanted = await publish_many(amqp)
        await amqp.publish(*(event(n) for n in range(50)))
        await each_once(effects, wanted, database)


@pytest.mark.faults
async def test_postgres_stopped_in_mid_stream(
    database: Pool, amqp: Broker, process: Process, effects: Effects, killable_postgres: PostgresControl
) -> None:
    """No attempt is counted, nothing is dead-lettered, and it goes on by itself."""
    async with process() as one:
        await one.logged("queue.consuming")
        wanted = await publish_many(amqp)
        killable_postgres.stop("immediate")
        try:
            wanted += await publish_many(amqp, first=MANY, count=100)
            await one.logged("database.away")
        finally:
            killable_postgres.start()
        await each_once(effects, wanted, database)
        assert await one.stop() == 0


@pytest.mark.faults
async def test_postgres_away_when_the_process_starts(
    database: Pool, amqp: Broker, process: Process, effects: Effects, killable_postgres: PostgresControl
) -> None:
    killable_postgres.stop("fast")
    try:
        wanted = await publish_many(amqp, count=10)
        async with process() as one:
            await one.logged("database.away")
            assert await amqp.depth("quotes") == 10, "nothing is taken while it could not be settled"
            killable_postgres.start()
            await each_once(effects, wanted, database)
    finally:
        killable_postgres.start()


@pytest.mark.faults
async def test_the_broker_killed_in_mid_stream(
    database: Pool, amqp_url: str, process: Process, effects: Effects, killable_broker: BrokerControl
) -> None:
    async with process() as one:
        await one.logged("queue.consuming")
        async with Broker.at(amqp_url) as amqp:
            wanted = await publish_many(amqp)
        killable_broker.kill()
        try:
            await one.logged("broker.lost")
        finally:
            killable_broker.start()
        await each_once(effects, wanted, database)
        assert await one.stop() == 0


@pytest.mark.parametrize("state", ["53100", "25006", "53300", "57P01", "57P03", "08006"])
async def test_a_postgres_that_cannot_write_is_waited_for(
    database: Pool, amqp: Broker, process: Process, effects: Effects, state: str, tmp_path: Any
) -> None:
    """Disk full, read-only, too many connections, shutdown: not the event's fault."""
    mended = tmp_path / "mended"
    sql = f"DO $$ BEGIN RAISE EXCEPTION 'told to' USING ERRCODE = '{state}'; END $$"
    await amqp.publish(event(1), event(2, "sql", sql=sql), event(3))
    async with process(MENDED=str(mended)) as one:
        await one.logged("database.away", times=3)
        assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0
        mended.touch()
        await each_once(effects, ["evt_1", "evt_2", "evt_3"], database)


@asynccontextmanager
async def given_up(database: Pool, url: str) -> AsyncIterator[None]:
    """The relay's part: dead letters filed, and sent once more."""
    stopping = asyncio.Event()
    tasks = [
        asyncio.create_task(dead_letters.consume(database, url, stopping)),
        asyncio.create_task(redelivery.run(database, url, stopping)),
    ]
    try:
        yield
    finally:
        stopping.set()
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks)


@pytest.mark.slow
async def test_an_event_that_kills_its_process_is_given_up_and_its_neighbours_are_not(
    database: Pool, servers: Servers, process: Process, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INVARIANT: a crash loop ends with one dead letter, and costs its neighbours nothing.

    Broken by taking a full window of messages again after each crash: the broker counts it against all of them.
    """
    if not servers.managed:
        pytest.skip("needs a vhost of its own")
    # The broker's limit as small as the story allows: two deliveries in a batch, two alone, one more.
    monkeypatch.setattr(broker, "DELIVERY_LIMIT", 4)
    url = Topology(servers.add_vhost("crash-loop")).url
    neighbours = [f"evt_{n}" for n in range(30) if n != 10]
    async with Broker.at(url) as amqp, given_up(database, url):
        await amqp.publish(*(event(n, "exit" if n == 10 else "") for n in range(30)))
        lives = 0
        while (row := await failed(database, "evt_10")) is None or row["state"] != "dead":
            lives += 1
            assert lives < 12
            if lives == 4:
                # Comes while the loop is on, and is not held up by it.
                await amqp.publish(event(31))
                neighbours.append("evt_31")
            async with process(AMQP_URL=url) as one:
                await eventually(lambda one=one: ended_or_dead(one, database), timeout=30)  # type: ignore[misc]
            if lives == 4:
                assert Counter(await effects()) == Counter(neighbours), "the neighbours are through by now"
                waiting = await failed(database, "evt_10")
                assert waiting is not None
                assert (waiting["state"], waiting["reason"], waiting["attempts"]) == ("retrying", "crashed_worker", 0)
        row = await in_state(database, "evt_10", "dead")
        assert await amqp.get("quotes") == []
        assert await amqp.get("dead-letters") == []
    assert row["reason"] == "crashed_worker"
    assert Counter(await effects()) == Counter(neighbours)
    # Its neighbours were under suspicion too, one after the other, and are cleared.
    open_rows = await database.fetch("SELECT event_id FROM failed_deliveries WHERE state <> 'resolved'")
    assert [row[0] for row in open_rows] == ["evt_10"]
    told = await actions(database, row["id"])
    assert told[-1] == "dead_lettered"
    assert told.count("given_up_by_broker") == 1
    servers.rabbitmqctl("delete_vhost", "crash-loop")


async def ended_or_dead(one: Program, database: Pool) -> bool:
    row = await failed(database, "evt_10")
    return one.code is not None or (row is not None and row["state"] == "dead")
