"""Fixtures for every test: real servers, a fresh database each, a broker with its topology declared."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
import structlog
from asyncpg.pool import Pool

from dev.servers import BrokerControl, PostgresControl, Servers, running
from dev.setup import uses_given_servers
from quittance import broker, database, partitions
from tests.support.messages import Broker
from workers import WORKERS

T = TypeVar("T")

# What a failing test prints shall be about the test.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

# A quorum queue whose node is killed sooner after its declaration can come back unusable (facts: 1.5 s was enough).
SETTLED_AFTER = 3.0


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two lanes or more, each with servers of its own; of servers that were given there is one vhost, whose queues every
    test empties: no lanes.
    """
    return 0 if uses_given_servers() else min(4, max(2, os.cpu_count() or 1))


def in_thread(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end beside whatever event loop the test has."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(lambda: asyncio.run(work())).result()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """A private Postgres and RabbitMQ for this run, or those that DATABASE_URL and AMQP_URL name."""
    with running("test") as started:
        yield started


# Postgres ------------------------------------------------------------------------------------------------------------


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def administer(url: str, *statements: str) -> None:
    """Run statements that cannot be in a transaction."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def template(servers: Servers) -> Iterator[str]:
    """A database with schema and partitions, to make others from: its name."""
    name = f"template_{uuid4().hex[:12]}"

    async def build() -> None:
        await administer(servers.database_url, f"CREATE DATABASE {name}")
        url = with_database(servers.database_url, name)
        await database.apply_schema(url)
        await partitions.maintain(url)

    in_thread(build)
    yield name
    if not servers.managed:
        in_thread(lambda: administer(servers.database_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def database_url(servers: Servers, template: str) -> Iterator[str]:
    """The address of a fresh database of this test's own, with schema and partitions."""
    name = f"test_{uuid4().hex[:12]}"
    in_thread(lambda: administer(servers.database_url, f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield with_database(servers.database_url, name)
    in_thread(lambda: administer(servers.database_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(name="database")
async def open_database(database_url: str) -> AsyncIterator[Pool]:
    """A pool on the fresh database: `await database.fetch(…)`, `async with database.acquire() as db`."""
    async with database.pool(database_url, "test", 10) as pool:
        yield pool
        pool.terminate()


# RabbitMQ ------------------------------------------------------------------------------------------------------------


def with_vhost(url: str, name: str) -> str:
    """The same broker, another vhost."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


class Topology:
    """Where topology has been declared, and since when."""

    def __init__(self, url: str) -> None:
        self.url = url
        in_thread(lambda: broker.declare(url, [worker.QUEUE for worker in WORKERS.values()]))
        self.declared_at = time.monotonic()

    def settle(self) -> None:
        """Return when the broker may be killed."""
        time.sleep(max(0.0, self.declared_at + SETTLED_AFTER - time.monotonic()))


@pytest.fixture(scope="session")
def topology(servers: Servers) -> Topology:
    """The session's vhost with every exchange, queue and binding."""
    url = servers.add_vhost("tests") if servers.managed else servers.amqp_url
    return Topology(url)


@pytest.fixture
def amqp_url(topology: Topology) -> str:
    """The address of the session's vhost, all its queues emptied."""

    async def purge() -> None:
        async with Broker.at(topology.url) as open_broker:
            await open_broker.purge()

    in_thread(purge)
    return topology.url


@pytest.fixture
async def amqp(amqp_url: str) -> AsyncIterator[Broker]:
    """A connection to the session's vhost: publish, depth, get (tests/support/messages.py); `.url`."""
    async with Broker.at(amqp_url) as open_broker:
        yield open_broker


@pytest.fixture
def fresh_amqp_url(servers: Servers) -> Iterator[str]:
    """A vhost of this test's own with topology declared; costs about two seconds."""
    if not servers.managed:
        pytest.skip("AMQP_URL names a server on which no vhost can be made")
    name = f"test-{uuid4().hex[:12]}"
    yield Topology(servers.add_vhost(name)).url
    servers.rabbitmqctl("delete_vhost", name)


# Servers that a test may kill ----------------------------------------------------------------------------------------


@pytest.fixture
def killable_broker(servers: Servers, topology: Topology) -> BrokerControl:
    """The broker, to be stopped, killed or paused; the test starts or resumes it again."""
    if not servers.managed:
        pytest.skip("AMQP_URL names a server that may not be stopped")
    topology.settle()
    return servers.broker


@pytest.fixture
def killable_postgres(servers: Servers) -> PostgresControl:
    """Postgres, to be stopped, killed or paused; the test starts or resumes it again."""
    if not servers.managed:
        pytest.skip("DATABASE_URL names a server that may not be stopped")
    return servers.postgres


# Recorded payloads ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def payloads() -> Path:
    """The folder of recorded Stripe payloads that STRIPE_PAYLOADS names."""
    folder = os.environ.get("STRIPE_PAYLOADS", "")
    if not folder:
        pytest.skip("STRIPE_PAYLOADS is not set: recorded Stripe payloads are not part of this project")
    return Path(folder)
