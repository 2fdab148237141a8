"""One batch, one transaction: inbox, the handler's effects, the outbox, and the end of failed deliveries."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import asyncpg
from asyncpg.pool import Pool

from quittance import outbox
from quittance.database import CONNECT_TIMEOUT, DATABASE_ERRORS, Connection
from quittance.event import Event
from workers.runtime import failures, inbox

Handler = Callable[[Sequence[Event], Connection], Awaitable[list[Event]]]
Database = Pool

ACQUIRE_TIMEOUT: Final = CONNECT_TIMEOUT + 1


@dataclass(frozen=True)
class Handled:
    """What a batch came to: events that ran, events that had run before, events that came of it."""

    fresh: list[Event]
    duplicates: list[Event]
    emitted: list[Event]
    resolved: int


class Lost(Exception):
    """The database connection could not be had, or was lost, and the batch with it."""


async def run(database: Database, queue: str, handle: Handler, events: Sequence[Event]) -> Handled:
    """Run `events` through `handle`: all of it commits, or nothing does.

    Raises what the handler or Postgres raised; Lost, from that, where it came of a connection that is gone.
    """
    try:
        db = await database.acquire(timeout=ACQUIRE_TIMEOUT)
    except DATABASE_ERRORS as error:
        raise Lost(f"{type(error).__name__}: {error}") from error
    try:
        async with db.transaction():
            return await within(db, queue, handle, events)
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        # The same classes tell of mistakes in a handler: only the connection itself can say which it was.
        if db.is_closed():
            raise Lost(f"{type(error).__name__}: {error}") from error
        raise
    finally:
        with suppress(*DATABASE_ERRORS):
            await database.release(db, timeout=ACQUIRE_TIMEOUT)


async def within(db: Connection, queue: str, handle: Handler, events: Sequence[Event]) -> Handled:
    """The batch in a transaction that the caller commits, or rolls back (a preview)."""
    told = await inbox.first_seen(db, queue, events)
    emitted = await handle(told.fresh, db) if told.fresh else []
    await outbox.write(db, emitted)
    await failures.resolve(db, queue, told.failed)
    return Handled(told.fresh, told.duplicates, emitted, len(told.failed))
