"""Our own instance: private servers, a database and a vhost for each section, ingest and workers on them.

A section that had the database of another would measure what that left behind. `apart`: each worker and the relay in a
process of its own; `together`: all of them in one (`python -m workers all`). Ingest is always a process of its own.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

import aio_pika
import asyncpg

from bench.listener import listener
from bench.measure import Meter
from bench.smtp_sink import sink
from bench.target import Target
from dev import servers
from dev.rabbitmq import RabbitMQ
from dev.server import Server
from dev.servers import Servers
from dev.system import System, initialise, log_folder, system
from workers import WORKERS

Shape = Literal["apart", "together"]
SHAPES: Final[tuple[Shape, ...]] = ("apart", "together")

SECRET: Final = "whsec_bench_of_quittance"
# As one has them on a machine like this one. With Postgres' own (128 MB, 1 GB) there is a checkpoint a minute, half of the log
# is whole pages, and the backends write out what they read in.
POSTGRES: Final = {"shared_buffers": "1GB", "max_wal_size": "8GB"}
BESIDE: Final = "(CRM, SMTP, watching)"  # this process


class Addresses(NamedTuple):
    """Where an instance is."""

    url: str
    secret: str
    database_url: str
    amqp_url: str


class Place(NamedTuple):
    """A database and a vhost that have Quittance's tables and queues."""

    database_url: str
    amqp_url: str


def private_servers(purpose: str) -> AbstractContextManager[Servers]:
    """Servers to measure on, fsync on; or those that are given."""
    return servers.running(purpose, settings_of_postgres=POSTGRES)


@dataclass(frozen=True)
class Stage:
    """The servers. Those that were given (DATABASE_URL, AMQP_URL) are one place, which all sections share."""

    servers: Servers

    @property
    def pids(self) -> dict[str, int]:
        """The servers' processes, where they are ours."""
        postgres, broker = self.servers.postgres, self.servers.broker
        if isinstance(postgres, Server) and isinstance(broker, RabbitMQ):
            return {"broker": broker.pid, "postgres": postgres.pid}
        return {}

    @asynccontextmanager
    async def place(self, name: str) -> AsyncIterator[Place]:
        """A database and a vhost of that name; gone at the end, with the work that autovacuum would have with them."""
        if not self.servers.managed:
            place = Place(self.servers.database_url, self.servers.amqp_url)
            await asyncio.to_thread(initialise, *place, log_folder("bench-init"))
            yield place
            return
        place = Place(
            await asyncio.to_thread(self.servers.add_database, name),
            await asyncio.to_thread(self.servers.add_vhost, name),
        )
        await asyncio.to_thread(initialise, *place, log_folder("bench-init"))
        try:
            yield place
        finally:
            await asyncio.to_thread(self.servers.rabbitmqctl, "delete_vhost", name)
            db = await asyncpg.connect(self.servers.database_url)
            await db.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            await db.close()


@asynccontextmanager
async def connected(to: Addresses, meter: Meter, check: Callable[[], None]) -> AsyncIterator[Target]:
    """Connections for watching, and the CRM's. The queue `crm` of an instance that is not ours is left alone."""
    db = await asyncpg.connect(to.database_url)
    connection = await aio_pika.connect(to.amqp_url, timeout=10)
    try:
        async with connection, listener(to.amqp_url, whole_queue=bool(meter.processes)) as crm:
            channel = await connection.channel()
            yield Target(
                url=to.url, secret=to.secret, db=db, channel=channel, crm=crm, meter=meter, check=check, metrics={}
            )
    finally:
        await db.close()


@asynccontextmanager
async def processes(purpose: str) -> AsyncIterator[System]:
    """Children until the block ends. No purpose may begin another's name: old logs are found by it."""
    with system(purpose) as at:
        try:
            yield at
        finally:
            # In a thread: what is under way at the end may want an answer of the mail server, which lives in our loop.
            await asyncio.to_thread(at.stop)


@asynccontextmanager
async def ingest(stage: Stage, place: Place) -> AsyncIterator[Target]:
    """Ingest alone."""
    async with processes("bench-ingest") as at:
        environment = {
            "AMQP_URL": place.amqp_url,
            "LOG_LEVEL": "warning",
            "STRIPE_WEBHOOK_SECRETS": SECRET,
            "INGEST_HOST": "127.0.0.1",
        }
        child = at.start("ingest", ["ingest"], "INGEST_PORT", environment)
        await at.ready()
        to = Addresses(f"{child.url}/webhooks/stripe", SECRET, *place)
        meter = Meter.of({child.name: child.process.pid, **stage.pids, BESIDE: os.getpid()})
        async with connected(to, meter, at.check) as target:
            yield target


@asynccontextmanager
async def workers(
    target: Target, place: Place, shape: Shape, *, purpose: str = "bench-workers", suffix: str = ""
) -> AsyncIterator[Target]:
    """Every worker and the relay, beside what the target has already; they are watched with it."""
    async with sink() as smtp_url, processes(purpose) as at:
        environment = {
            "AMQP_URL": place.amqp_url,
            "DATABASE_URL": place.database_url,
            "LOG_LEVEL": "warning",
            "SMTP_URL": smtp_url,
            "MAIL_FROM": "quittance@example.com",
        }
        names = [*WORKERS, "relay"] if shape == "apart" else ["all"]
        for name in names:
            child_name = "workers" if name == "all" else name
            at.start(f"{child_name}{suffix}", ["workers", name], "METRICS_PORT", environment)
        await at.ready()
        own = Meter.of({child.name: child.process.pid for child in at.children})

        def check() -> None:
            target.check()
            at.check()

        yield replace(
            target,
            meter=Meter({**own.processes, **target.meter.processes}),
            check=check,
            metrics={**target.metrics, **{child.name: f"{child.url}/metrics" for child in at.children}},
        )


@asynccontextmanager
async def instance(stage: Stage, place: Place, shape: Shape) -> AsyncIterator[Target]:
    """Ingest and every worker once."""
    async with ingest(stage, place) as alone, workers(alone, place, shape) as target:
        yield target
