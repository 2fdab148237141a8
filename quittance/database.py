"""Postgres: how to connect, with which time limits, and how the schema gets there.

jsonb travels as text (asyncpg's default): what a handler stores is encoded by msgspec, never by a codec of the
connection, so a value cannot change shape between two processes of different versions.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import asyncpg
from asyncpg.pool import Pool

from quittance import locks

Connection = locks.Connection

# What acquiring a connection, or anything on one, may raise when Postgres is away or refuses (TimeoutError is an OSError).
DATABASE_ERRORS: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

# Beside the packages in a checkout and in the image alike (pyproject.toml, force-include).
SCHEMA_FILE: Final = Path(__file__).resolve().parent.parent / "schema.sql"

# Postgres ends a statement itself well before the client stops waiting: then its answer is known, and it did not commit.
STATEMENT_TIMEOUT: Final = "10s"
# Longer than any sane transaction of ours, shorter than a person's patience; a lock timeout is tried again at once.
LOCK_TIMEOUT: Final = "3s"
# Frees the locks of a process that was stopped, or cut off, in the middle of a transaction.
IDLE_IN_TRANSACTION_TIMEOUT: Final = "30s"
# No answer at all for this long means that Postgres is away (seconds).
COMMAND_TIMEOUT: Final = 15.0
CONNECT_TIMEOUT: Final = 5.0

# Workers and web look rows up by key, a batch at a time. Of a table without statistics Postgres thinks that it is small:
# it reads all of it instead, and keeps that plan while the table grows, until the first ANALYZE (a minute, or for ever
# where autovacuum is off). So for them there are indexes and nested loops, also where the table is small.
BY_KEY: Final = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}

# Two `quittance init` at once would trip over each other's CREATE … IF NOT EXISTS.
SCHEMA_LOCK: Final = "SELECT pg_advisory_xact_lock(7201, 1)"


def connect_arguments(url: str, name: str, **more: str) -> dict[str, Any]:
    """The arguments of asyncpg.connect and asyncpg.create_pool that every process of ours uses; `name` is for SREs, `more`
    are settings of Postgres.
    """
    return {
        "dsn": url,
        "timeout": CONNECT_TIMEOUT,
        "command_timeout": COMMAND_TIMEOUT,
        # Postgres's "unnest" plans depend little on their arguments; the cache keeps one plan per SQL constant.
        "server_settings": {
            "application_name": f"quittance {name}"[:63],
            "statement_timeout": STATEMENT_TIMEOUT,
            "lock_timeout": LOCK_TIMEOUT,
            "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT,
            "timezone": "UTC",
            # Compiling a plan takes longer than any of our statements.
            "jit": "off",
            **more,
        },
    }


async def connect(url: str, name: str) -> asyncpg.Connection:
    """One connection of its own (LISTEN, maintenance). Raises OSError, TimeoutError or asyncpg's errors."""
    return await asyncpg.connect(**connect_arguments(url, name))


def pool(url: str, name: str, size: int) -> Pool:
    """At most `size` connections, each opened when it is first needed; to be awaited, or entered. For statements that
    find their rows by key (BY_KEY).

    Nothing of ours leaves anything behind in a session (locks and settings end with their transaction), so a
    connection goes back without the reset query that would cost each batch a round trip.
    """
    return asyncpg.create_pool(
        min_size=0,
        max_size=size,
        max_inactive_connection_lifetime=60.0,
        # A new connection has to plan every statement anew: not every 50,000 queries, that is each quarter of an hour.
        max_queries=10_000_000,
        reset=_nothing_to_reset,
        **connect_arguments(url, name, **BY_KEY),
    )


async def _nothing_to_reset(_connection: object) -> None:
    return


async def apply_schema(url: str, warn: Callable[[str], None] = lambda _said: None) -> None:
    """Apply schema.sql, in one transaction; safe to repeat, and to run twice at once. `warn` hears what could not be done."""
    schema = await asyncio.to_thread(SCHEMA_FILE.read_text, "utf-8")
    db = await connect(url, "init")
    try:
        # "IF NOT EXISTS, skipping" is what is wanted: no line for each of it.
        await db.execute("SET client_min_messages = warning")
        db.add_log_listener(lambda _, said: warn(said.message))
        async with db.transaction():
            await db.execute(SCHEMA_LOCK)
            await db.execute(schema)
    finally:
        await close(db)


async def close(db: asyncpg.Connection) -> None:
    """Close a connection that may be dead already, within seconds."""
    try:
        await db.close(timeout=2)
    except DATABASE_ERRORS:
        db.terminate()


def on_notify(action: Callable[[str], None]) -> Callable[..., None]:
    """A LISTEN callback that calls `action` with what the notification says."""

    def wake(_connection: object, _process: int, _channel: str, payload: str) -> None:
        action(payload)

    return wake
