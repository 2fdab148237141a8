"""What the parts can do at most, on this machine, in this run: the figures that ours stand beside."""

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import aio_pika
import asyncpg
import uvloop
from aio_pika import DeliveryMode, Message
from msgspec import Struct

from bench.bodies import DIGITS, numbered_lives, templates
from bench.client import Door, Line, lines
from dev.venv import ROOT

SECONDS: Final = 3.0
CONNECTIONS: Final = 32
IN_FLIGHT: Final = 100
BATCH: Final = 200

CREATE: Final = "CREATE TABLE {} (event_id text PRIMARY KEY, received_at timestamptz NOT NULL DEFAULT now())"
INSERT: Final = "INSERT INTO {} (event_id) SELECT * FROM unnest($1::text[]) ON CONFLICT DO NOTHING RETURNING event_id"


class Limits(Struct, kw_only=True):
    """Operations a second; None where it was not measured."""

    http: float | None  # bare aiohttp handler, CONNECTIONS connections
    publish: float | None  # aio-pika, confirmed, IN_FLIGHT at a time, one quorum queue
    insert: float | None  # Postgres, BATCH event ids a transaction, one connection


def measure(database_url: str, amqp_url: str, run: str) -> Limits:
    """All three, one after the other, before the system runs: each has the machine to itself."""
    return Limits(
        http=uvloop.run(http()),
        publish=uvloop.run(publish(amqp_url, run)),
        insert=uvloop.run(insert(database_url, run)),
    )


def typical_body() -> bytes:
    """The `checkout.session.completed` of a card payment."""
    (told,) = numbered_lives("limit", 0, 1)
    types = [each.type for each in templates("limit")[0]]
    return told[types.index("checkout.session.completed")][1]


class Bare(NamedTuple):
    """The bare handler."""

    url: str
    pid: int


@asynccontextmanager
async def bare_server() -> AsyncIterator[Bare]:
    """The bare handler in a process of its own."""
    command = [sys.executable, "-m", "bench.bare_http"]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), 20))
        yield Bare(f"http://127.0.0.1:{port}/webhooks/stripe", process.pid)
    finally:
        process.terminate()
        await process.wait()


async def http() -> float:
    """Requests a second of the bare handler."""
    body = typical_body()
    async with bare_server() as bare:
        door = Door.at(bare.url, "whsec_limit")
        request = door.request(body)
        until = time.perf_counter() + SECONDS

        async def lane(line: Line) -> int:
            for number in itertools.count(1):
                await line.post(request)
                if time.perf_counter() > until:
                    return number
            raise AssertionError("count() has no end")

        began = time.perf_counter()
        all_lines = await lines(door, CONNECTIONS)
        done = await asyncio.gather(*map(lane, all_lines))
        took = time.perf_counter() - began
        for line in all_lines:
            line.close()
    return sum(done) / took


async def publish(amqp_url: str, run: str) -> float:
    """Confirmed publishes a second of a persistent message the size of an event."""
    body = typical_body()
    connection = await aio_pika.connect(amqp_url, timeout=10)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(
            f"bench-limit-{run}",
            durable=True,
            arguments={"x-queue-type": "quorum", "x-delivery-limit": 20},
        )
        await asyncio.sleep(1.0)  # a queue's first second is not its usual one
        until = time.perf_counter() + SECONDS

        async def lane() -> int:
            for number in itertools.count(1):
                message = Message(body, delivery_mode=DeliveryMode.PERSISTENT)
                await channel.default_exchange.publish(message, routing_key=queue.name, timeout=10)
                if time.perf_counter() > until:
                    return number
            raise AssertionError("count() has no end")

        began = time.perf_counter()
        try:
            done = await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))
            took = time.perf_counter() - began
        finally:
            await channel.queue_delete(queue.name)
    return sum(done) / took


def _batches(run: str) -> Iterator[list[str]]:
    for number in itertools.count():
        yield [f"evt_{run}{number * BATCH + each:0{DIGITS}}" for each in range(BATCH)]


async def insert(database_url: str, run: str) -> float:
    """Event ids a second that a deduplicating insert takes in."""
    name = f"bench_limit_{run.lower()}"
    db = await asyncpg.connect(database_url)
    try:
        await db.execute(CREATE.format(name))
        statement = INSERT.format(name)
        began = time.perf_counter()
        done = 0
        for batch in _batches(run):
            await db.fetch(statement, batch)
            done += len(batch)
            if time.perf_counter() - began > SECONDS:
                break
        took = time.perf_counter() - began
        await db.execute(f"DROP TABLE {name}")
    finally:
        await db.close()
    return done / took
