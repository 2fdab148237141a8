"""A breakable worker on the queue `quotes`, in this process or as one of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncpg.pool import Pool

from tests.runtime import breakable
from tests.support.handling import accepted
from tests.support.messages import Broker
from tests.support.processes import Program, program
from workers.runtime import redelivery
from workers.runtime.consumer import Consumer

# Short enough to wait for, long enough to see the difference.
SCHEDULE = (0.05, 0.05)


def event(number: int | str, order: str = "", **subject: Any) -> Any:
    """A `charge.succeeded` that tells the breakable worker what to do."""
    body = {
        "id": f"evt_{number}",
        "type": "charge.succeeded",
        "created": 1_790_000_000,
        "livemode": False,
        "data": {"object": {"id": f"ch_{number}", "order": order, "metadata": {"quote_id": "Q-77"}, **subject}},
    }
    return accepted(body)


@pytest.fixture
async def effects(database: Pool) -> Callable[[], Any]:
    """`await effects()`: the ids of the events that took effect, in order."""
    await database.execute(breakable.CREATE)

    async def read() -> list[str]:
        return [row[0] for row in await database.fetch("SELECT event_id FROM effects ORDER BY id")]

    return read


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[tuple[str, int]]]:
    """`runs()`: each run of the handler on an event, rolled back or not: (event id, size of its batch)."""
    file = tmp_path / "runs"
    file.touch()
    monkeypatch.setenv("RUNS", str(file))

    def read() -> list[tuple[str, int]]:
        lines = (line.split() for line in file.read_text().splitlines())
        return [(name, int(size)) for name, size in lines]

    return read


@pytest.fixture
def consuming(database: Pool, amqp: Broker) -> Callable[..., AbstractAsyncContextManager[Consumer]]:
    """`async with consuming(): …`: the breakable worker in this process, with redelivery beside it."""
    breakable.mended.clear()

    @asynccontextmanager
    async def run(schedule: tuple[float, ...] = SCHEDULE) -> AsyncIterator[Consumer]:
        stopping = asyncio.Event()
        consumer = Consumer(breakable.QUEUE, breakable.handle, database, amqp.url, schedule, stopping)
        tasks = [asyncio.create_task(consumer.run()), asyncio.create_task(redelivery.run(database, amqp.url, stopping))]
        try:
            yield consumer
        finally:
            stopping.set()
            async with asyncio.timeout(10):
                await asyncio.gather(*tasks)

    return run


@pytest.fixture
def process(database_url: str, amqp_url: str, effects: object) -> Callable[..., AbstractAsyncContextManager[Program]]:
    """`async with process("relay", RETRY_SCHEDULE="0.1") as it`: the breakable worker as a process."""

    def start(*names: str, **environment: str) -> AbstractAsyncContextManager[Program]:
        defaults = {"DATABASE_URL": database_url, "AMQP_URL": amqp_url, "RETRY_SCHEDULE": "0.05,0.05"}
        return program("-m", "tests.runtime.breakable", *names, **{**defaults, **environment})

    return start
