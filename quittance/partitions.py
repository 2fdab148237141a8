"""Partitions by time: made ahead, filled from DEFAULT when they come late, dropped when all of it is old enough.

inbox, waiting_facts and waiting_documents go by week and are kept for 40 days, longer than Stripe resends (30). events
go by month and are kept for EVENTS_RETENTION_DAYS (0, the default: for ever), but never for less than those 40 days. What
has no sane time of its own lies in 1970, that is in DEFAULT, and is deleted when it has been here for that long.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import structlog

from quittance.database import close, connect

log = structlog.get_logger(__name__)

# "FOR VALUES FROM ('2026-11-16 00:00:00+00') TO ('2026-11-23 00:00:00+00')", as our sessions (UTC) print it.
RANGE: Final = re.compile(r"FROM \('([^']+)'\) TO \('([^']+)'\)")

KEPT_DAYS: Final = 40
# Made ahead: a process that is down for a month still finds a place for what comes meanwhile (else DEFAULT has one).
WEEKS_AHEAD: Final = 6
MONTHS_AHEAD: Final = 3
# Stripe resends for 30 days, so that old is the oldest event of ordinary traffic.
DAYS_BACK: Final = 35

EXISTING: Final = """
SELECT child.relname AS name, pg_get_expr(child.relpartbound, child.oid) AS bounds
FROM pg_inherits
JOIN pg_class AS parent ON parent.oid = inhparent
JOIN pg_class AS child ON child.oid = inhrelid
WHERE parent.relname = $1 AND parent.relnamespace = current_schema()::regnamespace
"""
ONE_AT_A_TIME: Final = "SELECT pg_try_advisory_xact_lock(7201, 2)"

# Functions of schema.sql: only the tables' owner can attach and drop, and the relay is not the owner.
MAKE: Final = "SELECT make_partition($1::text, $2::timestamptz)"
DROP: Final = "SELECT drop_partition($1::text, $2::timestamptz)"
EMPTY: Final = "SELECT empty_default_partition($1::text, $2::timestamptz)"
# Moving what lay in DEFAULT may take long; waiting for a lock may not, because everybody else then waits behind us.
LIMITS: Final = "SET LOCAL statement_timeout = '10min'; SET LOCAL lock_timeout = '2s'"
LONG: Final = 600.0


@dataclass(frozen=True)
class Partitioned:
    """A table partitioned by the range of a time (schema.sql, partition_column, says by which column)."""

    table: str
    monthly: bool


TABLES: Final = (
    Partitioned("events", monthly=True),
    Partitioned("inbox", monthly=False),
    Partitioned("waiting_facts", monthly=False),
    Partitioned("waiting_documents", monthly=False),
)


@dataclass(frozen=True)
class Period:
    """One partition's range: from `start`, up to but without `end`; both midnight UTC."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, moment: datetime, *, monthly: bool) -> "Period":
        """The month, or the week from Monday, that `moment` lies in."""
        day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if monthly:
            start = day.replace(day=1)
            return cls(start, (start + timedelta(days=32)).replace(day=1))
        start = day - timedelta(days=day.weekday())
        return cls(start, start + timedelta(days=7))

    def name(self, table: str) -> str:
        """The partition's name. Derived from its start, so that a second maker finds it."""
        return f"{table}_{self.start:%Y%m%d}"


def periods(now: datetime, *, monthly: bool) -> Iterator[Period]:
    """The periods that must be there at `now`, oldest first."""
    ahead = timedelta(days=31 * MONTHS_AHEAD if monthly else 7 * WEEKS_AHEAD)
    period = Period.of(now - timedelta(days=DAYS_BACK), monthly=monthly)
    while period.start <= now + ahead:
        yield period
        period = Period.of(period.end, monthly=monthly)


async def maintain(url: str, events_retention_days: int = 0) -> None:
    """Make the partitions that are missing and drop those that are old.

    One process at a time: another one that tries meanwhile passes it over. A table whose lock is not to be had within
    seconds is left for the next time (a log line says so). Raises OSError, TimeoutError or asyncpg's errors.
    """
    db = await connect(url, "partitions")
    try:
        now: datetime = await db.fetchval("SELECT now()")
        for partitioned in TABLES:
            kept = events_retention_days if partitioned.table == "events" else KEPT_DAYS
            oldest = now - timedelta(days=max(kept, KEPT_DAYS)) if kept else None
            try:
                await _maintain(db, partitioned, now, oldest)
            except asyncpg.LockNotAvailableError:
                log.warning("partitions.postponed", table=partitioned.table)
    finally:
        await close(db)


async def _maintain(db: asyncpg.Connection, partitioned: Partitioned, now: datetime, oldest: datetime | None) -> None:
    # One transaction a change: a lock is held for that change alone.
    for period in periods(now, monthly=partitioned.monthly):
        if oldest is None or period.end > oldest:
            await _change(db, partitioned, period)
    if oldest is None:
        return
    for name, period in await _existing(db, partitioned.table):
        # One that somebody made by hand, under a name of his own, is his to drop.
        if period.end <= oldest and name == period.name(partitioned.table):
            await _drop(db, partitioned.table, name, period)
    async with db.transaction():
        await db.execute(LIMITS)
        await db.execute(EMPTY, partitioned.table, oldest, timeout=LONG)


async def _change(db: asyncpg.Connection, partitioned: Partitioned, period: Period) -> None:
    name = period.name(partitioned.table)
    async with db.transaction():
        if not await db.fetchval(ONE_AT_A_TIME) or name in dict(await _existing(db, partitioned.table)):
            return
        await db.execute(LIMITS)
        await db.execute(MAKE, partitioned.table, period.start, timeout=LONG)
    log.info("partition.made", partition=name)


async def _drop(db: asyncpg.Connection, table: str, name: str, period: Period) -> None:
    async with db.transaction():
        if not await db.fetchval(ONE_AT_A_TIME) or name not in dict(await _existing(db, table)):
            return
        await db.execute(LIMITS)
        await db.execute(DROP, table, period.start, timeout=LONG)
    log.info("partition.dropped", partition=name)


async def _existing(db: asyncpg.Connection, table: str) -> list[tuple[str, Period]]:
    """Each partition but DEFAULT, with its range."""
    rows = await db.fetch(EXISTING, table)
    return [
        (row["name"], Period(datetime.fromisoformat(match[1]), datetime.fromisoformat(match[2])))
        for row in rows
        if (match := RANGE.search(row["bounds"]))
    ]
