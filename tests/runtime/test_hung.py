"""Servers that hang, or answer and cannot write: waited for, within bounds, and no event pays for it."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

import pytest
from asyncpg.pool import Pool

from dev.servers import BrokerControl, PostgresControl
from quittance import database as kernel
from tests.conftest import administer
from tests.runtime import breakable
from tests.runtime.conftest import event
from tests.runtime.test_relay import change, empty, relaying, sequences, store
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.support.processes import Program
from workers.runtime import batch, outlet
from workers.runtime.consumer import Consumer

Process = Callable[..., AbstractAsyncContextManager[Program]]
Effects = Callable[[], Any]

LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7202"


async def took_effect(effects: Effects, wanted: list[str]) -> bool:
    seen = await effects()
    assert seen == wanted
    return True


@pytest.mark.faults
async def test_a_postgres_that_hangs_is_waited_for(
    database_url: str,
    amqp: Broker,
    effects: Effects,
    killable_postgres: PostgresControl,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connections stay, and nothing answers: no attempt is counted. (Here it gives up after 0.5 s, not 15.)"""
    monkeypatch.setattr(kernel, "COMMAND_TIMEOUT", 0.5)
    monkeypatch.setattr(batch, "ACQUIRE_TIMEOUT", 0.5)
    stopping = asyncio.Event()
    async with kernel.pool(database_url, "test", 4) as pool:
        consumer = Consumer(breakable.QUEUE, breakable.handle, pool, amqp.url, (), stopping)
        task = asyncio.create_task(consumer.run())
        await amqp.publish(event(1))
        await eventually(lambda: took_effect(effects, ["evt_1"]))
        killable_postgres.pause()
        try:
            await amqp.publish(*(event(n) for n in range(2, 30)))
            await eventually(lambda: not consumer.ready)
        finally:
            killable_postgres.resume()
        await eventually(lambda: took_effect(effects, [f"evt_{n}" for n in range(1, 30)]), timeout=20)
        stopping.set()
        await task
        assert await pool.fetchval("SELECT count(*) FROM failed_deliveries") == 0


@pytest.mark.faults
async def test_a_broker_that_hangs_holds_no_bucket_for_long(
    database: Pool, amqp_url: str, killable_broker: BrokerControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INVARIANT: a relay whose broker hangs lets go of its streams; when it answers again, order holds."""
    monkeypatch.setattr(outlet, "PUBLISH_TIMEOUT", 0.5)
    async with relaying(database, amqp_url, "crm"):
        await store(database, change("Q-1", 1))
        await eventually(lambda: empty(database, "crm"))
        killable_broker.pause()
        try:
            await store(database, change("Q-1", 2), change("Q-1", 3))
            await eventually(lambda: locked(database, 1), every=0.005)
            await eventually(lambda: locked(database, 0), timeout=5)
            assert await database.fetchval("SELECT count(*) FROM outbox WHERE destination = 'crm'") == 2
        finally:
            killable_broker.resume()
        await eventually(lambda: empty(database, "crm"), timeout=20)
    async with Broker.at(amqp_url) as amqp:
        arrived = sequences(await amqp.get("crm"))["Q-1"]
    assert list(dict.fromkeys(arrived)) == [1, 2, 3], (
        "what was sent into the silence may come twice, never out of order"
    )


async def locked(database: Pool, wanted: int) -> bool:
    count = await database.fetchval(LOCKS)
    assert count == wanted
    return True


async def test_a_standby_is_left_when_there_is_a_primary_again(
    database: Pool, servers: Any, database_url: str, amqp: Broker, process: Process, effects: Effects
) -> None:
    """Connections to what has become read-only are given up, or it would stay read-only for us for ever."""
    name = urlsplit(database_url).path.strip("/")
    async with process() as one:
        await one.logged("queue.consuming")
        await administer(
            servers.database_url,
            f"ALTER DATABASE {name} SET default_transaction_read_only = on",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )
        await amqp.publish(event(1))
        await one.logged("ReadOnly", times=2)
        await administer(servers.database_url, f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await database.expire_connections()
        await eventually(lambda: took_effect(effects, ["evt_1"]), timeout=20)
        assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0
