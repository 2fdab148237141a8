"""A worker that is stuck, or has lost a loop, says so: 503 of /healthz, with the loop's name and since when."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from asyncpg.pool import Pool

from dev.servers import PostgresControl
from tests.runtime.conftest import event
from tests.runtime.test_health import get, is_ready, port_of
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.support.processes import Program
from workers.runtime.health import Watch
from workers.runtime.performer import Performer

Process = Callable[..., AbstractAsyncContextManager[Program]]

# A change for the CRM whose body is no JSON: none of ours, and the relay cannot read it.
POISON = """
INSERT INTO outbox (destination, bucket, stream, exchange, routing_key, event_id, type, headers, body)
VALUES ('crm', 1, 'Q-1', 'crm.events', 'k', 'Q-1:1', 'quote.payment_status_changed', '{}', 'no JSON')
"""


@dataclass
class Loop:
    """What health looks at."""

    name: str
    busy_since: float | None = None
    ready: bool = True


async def health(port: int) -> tuple[int, dict[str, Any]]:
    status, text = await get(port, "healthz")
    return status, json.loads(text)


async def unwell(port: int) -> dict[str, Any]:
    status, faults = await health(port)
    assert status == 503
    return faults


async def test_a_handler_that_hangs_is_named_and_its_neighbours_are_not(
    amqp: Broker, process: Process, effects: Any
) -> None:
    begun = datetime.now(UTC)
    await amqp.publish(event(1, "sleep", seconds=600))
    async with process("relay", STUCK_AFTER="2") as one:
        port = await port_of(one)
        await one.logged("queue.consuming")
        faults = await eventually(lambda: unwell(port), timeout=15)
        assert faults["ended"] == []
        [stuck] = faults["stuck"]
        assert (stuck["loop"], stuck["seconds"] >= 2) == ("quotes", True)
        assert datetime.fromisoformat(stuck["since"]) >= begun.replace(microsecond=0)
        _, text = await get(port, "metrics")
        seconds = {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("quittance_busy_seconds")
        }
        assert seconds['quittance_busy_seconds{loop="quotes"}'] > 2
        assert seconds['quittance_busy_seconds{loop="relay crm"}'] < 2
        await one.kill()


async def test_a_long_batch_that_goes_on_is_not_stuck(
    database: Pool, amqp: Broker, process: Process, effects: Any
) -> None:
    """Run one by one after a failure, each has the bound for itself."""
    slow = [event(number, "sleep", seconds=0.6) for number in range(1, 6)]
    await amqp.publish(*(each for one in slow for each in (one, event(100 + int(one.id[-1]), "reject"))))
    async with process(STUCK_AFTER="2") as one:
        port = await port_of(one)
        deadline = time.monotonic() + 20
        # 3 s together: however the deliveries fall into batches, one that holds two of them fails after the first.
        while len(await effects()) < 5:
            assert (await health(port))[0] == 200
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


@pytest.mark.faults
async def test_one_that_waits_for_postgres_is_not_stuck(
    amqp: Broker, process: Process, effects: Any, killable_postgres: PostgresControl
) -> None:
    async with process("relay", STUCK_AFTER="8") as one:
        port = await port_of(one)
        await eventually(lambda: is_ready(port))
        killable_postgres.stop("fast")
        try:
            await amqp.publish(event(1))
            until = time.monotonic() + 10
            while time.monotonic() < until:
                status, faults = await health(port)
                assert status == 200, faults
                await asyncio.sleep(0.2)
        finally:
            killable_postgres.start()
        await eventually(lambda: is_ready(port))


async def test_a_loop_that_died_is_named_until_the_process_ends(
    database: Pool, amqp: Broker, process: Process, effects: Any
) -> None:
    """Nothing of ours writes what the relay cannot read; if it came about, somebody would have to see it."""
    await amqp.publish(event(1, "sleep", seconds=600))
    async with process("relay") as one:
        port = await port_of(one)
        await one.logged("queue.consuming")
        await eventually(lambda: is_ready(port))
        await eventually(lambda: depth_is_none(amqp))
        await database.execute(POISON)
        await database.execute("NOTIFY outbox_crm")
        faults = await eventually(lambda: unwell(port), timeout=15)
        assert faults["ended"] == ["relay crm"]
        assert await one.ended(timeout=20) == 1, "somebody starts it again"
        told = json.loads(await one.logged("loop.failed"))
        assert told["loop"] == "relay crm"


async def depth_is_none(amqp: Broker) -> bool:
    return await amqp.depth("quotes") == 0


def test_each_loop_is_judged_by_its_own_step() -> None:
    now = time.monotonic()
    idle, busy, hung = Loop("a"), Loop("b", now - 4), Loop("c", now - 6, ready=False)
    watch = Watch([idle, busy, hung], stuck_after=5)
    [stuck] = watch.faults()["stuck"]
    assert (stuck["loop"], stuck["seconds"]) == ("c", 6)
    assert Watch([idle, busy], stuck_after=5).faults() == {"stuck": [], "ended": []}


async def test_a_performer_is_busy_since_the_oldest_of_what_it_performs(database: Pool) -> None:
    class Worker:
        class QUEUE:
            name = "notifications"

    performer = Performer(Worker, database, (), asyncio.Event())
    idle: float | None = performer.busy_since
    assert idle is None
    tasks = [asyncio.create_task(asyncio.Event().wait()) for _ in range(2)]
    performer._running |= {tasks[0]: 20.0, tasks[1]: 10.0}  # type: ignore[dict-item]
    oldest: float | None = performer.busy_since
    assert oldest == 10.0
    for task in tasks:
        task.cancel()
