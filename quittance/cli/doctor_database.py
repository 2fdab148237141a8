"""The database: reachable, safe, of this version's shape; and what its tables say of the work under way."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from quittance import partitions
from quittance.cli.connections import database
from quittance.cli.doctor_checks import Area, Check
from quittance.cli.doctor_work import check_work
from quittance.cli.output import length
from quittance.cli.running import CouldNot
from quittance.cli.schema_check import differences
from quittance.locks import Connection

OLDEST_VERSION: Final = 150_000

ABOUT: Final = """
SELECT current_setting('server_version_num')::integer AS version, current_setting('fsync') AS fsync,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('transaction_read_only') AS read_only, current_user AS role
"""
CLOCK: Final = "SELECT clock_timestamp()"
# Stripe gives an event its time before it sends it: an ingress that received one "earlier" has a clock that is behind.
NEWEST: Final = """
SELECT received_at, created FROM events
WHERE created > now() - interval '3 days' AND created < now() + interval '1 day'
ORDER BY created DESC LIMIT 200
"""
IN_DEFAULT: Final = {
    "events": "SELECT count(*) FROM (SELECT 1 FROM events_default WHERE created > '2010-01-01' LIMIT 10001) AS found",
    "inbox": "SELECT count(*) FROM (SELECT 1 FROM inbox_default WHERE created > '2010-01-01' LIMIT 10001) AS found",
}
MANY_IN_DEFAULT: Final = 10_000

# Seconds. Ours is told from the middle of a round trip, which on a network takes milliseconds.
SKEW_WARNING: Final = 2.0
SKEW_FAULT: Final = 60.0


async def check_database(url: str, *, quiet_queues: set[str] | None = None) -> list[Check]:
    """All of it. `quiet_queues`: those known to hold no message, for judging what they have not handled."""
    area = Area("database")
    try:
        async with database(url) as db:
            await _server(area, db)
            await _clock(area, db)
            if await _schema(area, db):
                await _partitions(area, db)
                await _arrivals(area, db)
                area.checks += await check_work(db, quiet_queues or set())
    except CouldNot as error:
        area.fault(str(error), "start Postgres, or mend DATABASE_URL; ingest goes on accepting, workers wait")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        area.fault(f"a check did not end ({type(error).__name__}): {error}", "look at Postgres's own log")
    return area.checks


async def _server(area: Area, db: Connection) -> None:
    row = await db.fetchrow(ABOUT)
    if row is None:
        return
    area.ok(f"reachable as {row['role']}, Postgres {row['version'] // 10_000}.{row['version'] % 10_000}")
    if row["version"] < OLDEST_VERSION:
        area.fault("Postgres is older than 15, which this is made for", "upgrade it")
    if row["read_only"] == "on":
        area.fault("it is read-only (a standby, or a failover under way)", "point DATABASE_URL at the primary")
    for setting in ("fsync", "full_page_writes"):
        if row[setting] != "on":
            area.fault(
                f"{setting} is off: a crash loses what was acknowledged", f"set {setting} = on and restart Postgres"
            )
    if row["synchronous_commit"] == "off":
        area.fault("synchronous_commit is off: a crash loses what was acknowledged", "set synchronous_commit = on")


async def _clock(area: Area, db: Connection) -> None:
    before = time.time()
    theirs: datetime = await db.fetchval(CLOCK)
    after = time.time()
    skew = theirs.timestamp() - (before + after) / 2
    says = f"its clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    cure = "let both follow one time server (chrony): webhook signatures are refused from 300 s on"
    if abs(skew) >= SKEW_FAULT:
        area.fault(says, cure)
    elif abs(skew) >= SKEW_WARNING:
        area.warning(says, cure)
    else:
        area.ok("its clock and this machine's agree")


async def _arrivals(area: Area, db: Connection) -> None:
    """The clock of ingest against Stripe's, as far as events that have come tell."""
    rows = await db.fetch(NEWEST)
    if not rows:
        area.note(
            "no event of the last days is in the archive, so nothing tells whether ingest's clock follows Stripe's"
        )
        return
    early = max((row["created"] - row["received_at"]).total_seconds() for row in rows)
    newest = max(row["received_at"] for row in rows)
    if early > SKEW_WARNING:
        area.warning(
            f"events were received up to {length(early)} before Stripe made them",
            "ingest's clock is behind (let it follow a time server), or the events are made up",
        )
    now: datetime = await db.fetchval("SELECT now()")
    area.note(f"the newest event came {length((now - newest).total_seconds())} ago")


async def _schema(area: Area, db: Connection) -> bool:
    """Whether there are tables at all; faults where they are not this version's."""
    try:
        found = await differences(db)
    except asyncpg.InsufficientPrivilegeError:
        area.note("the role may not create a schema, so the tables' shape cannot be compared with this version's")
        return True
    if any(line.startswith("column events.") and line.endswith("is missing") for line in found):
        area.fault("it has no tables of ours", "run `quittance init`")
        return False
    if not found:
        area.ok("its tables, constraints and indexes are those of this version")
        return True
    shown = "; ".join(found[:8]) + (f"; and {len(found) - 8} more" if len(found) > 8 else "")
    area.fault(
        f"its tables differ from this version's: {shown}",
        "`quittance init` creates what is missing; what is different needs the statements of CHANGELOG.md",
    )
    return True


async def _partitions(area: Area, db: Connection) -> None:
    now: datetime = await db.fetchval("SELECT now()")
    soon = now + timedelta(days=7)
    missing: list[str] = []
    for partitioned in partitions.TABLES:
        there = await _names(db, partitioned.table)
        for moment in (now, soon):
            name = partitions.Period.of(moment, monthly=partitioned.monthly).name(partitioned.table)
            if name not in there and name not in missing:
                missing.append(name)
    cure = "the relay makes them each hour, `quittance init` at once; until then rows go to the DEFAULT partition"
    if missing:
        area.warning(f"partitions are missing: {', '.join(missing)}", cure)
    else:
        area.ok("partitions are there for this week and the next")
    for table, statement in IN_DEFAULT.items():
        number: int = await db.fetchval(statement)
        if number > MANY_IN_DEFAULT:
            area.warning(f"more than {MANY_IN_DEFAULT:,} rows lie in {table}_default", cure)


async def _names(db: Connection, table: str) -> set[str]:
    rows: Sequence[Any] = await db.fetch(partitions.EXISTING, table)
    return {row["name"] for row in rows}
