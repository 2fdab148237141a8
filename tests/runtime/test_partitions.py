"""Partitions: made ahead, filled from DEFAULT, dropped when all of it is old."""

import itertools
from datetime import UTC, datetime, timedelta

from asyncpg.pool import Pool

from quittance import partitions
from quittance.partitions import Period, periods
from tests.runtime.conftest import event
from tests.support.handling import accepted, run_handler
from workers import archive

NAMES = "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = $1::regclass ORDER BY 1"


async def names(database: Pool, table: str) -> list[str]:
    """A table's partitions."""
    return [row[0] for row in await database.fetch(NAMES.replace("$1", f"'{table}'"))]


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    moment = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    assert Period.of(moment, monthly=False) == Period(
        datetime(2026, 12, 28, tzinfo=UTC), datetime(2027, 1, 4, tzinfo=UTC)
    )
    assert Period.of(moment, monthly=True) == Period(
        datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    )


def test_periods_leave_no_gap_and_reach_from_the_oldest_resend_to_weeks_ahead() -> None:
    now = datetime(2026, 2, 28, 12, tzinfo=UTC)
    for monthly in (True, False):
        found = list(periods(now, monthly=monthly))
        assert all(one.end == next_one.start for one, next_one in itertools.pairwise(found))
        assert found[0].start <= now - timedelta(days=30)
        assert found[-1].end >= now + timedelta(days=42)


async def test_rows_in_default_move_when_their_partition_is_made(database: Pool, database_url: str) -> None:
    """INVARIANT: an event that waited in DEFAULT is still a duplicate after its partition has been made."""
    created = int(datetime.now(UTC).timestamp())
    week = Period.of(datetime.now(UTC), monthly=False).name("inbox")
    month = Period.of(datetime.now(UTC), monthly=True).name("events")
    await database.execute(f"DROP TABLE {week}; DROP TABLE {month}")
    late = accepted({"id": "evt_1", "type": "charge.succeeded", "created": created, "data": {"object": {}}})
    await run_handler(archive, [late], database)
    assert await database.fetchval("SELECT count(*) FROM inbox_default") == 1
    assert await database.fetchval("SELECT count(*) FROM events_default") == 1

    await partitions.maintain(database_url)
    assert await database.fetchval("SELECT count(*) FROM inbox_default") == 0
    assert await database.fetchval(f"SELECT count(*) FROM {week}") == 1
    assert await database.fetchval(f"SELECT body FROM {month}") == late.body
    await run_handler(archive, [late], database)
    assert await database.fetchval("SELECT count(*) FROM events") == 1
    assert await database.fetchval("SELECT count(*) FROM inbox") == 1


async def test_a_partition_is_dropped_when_its_end_is_old_enough_and_default_never(
    database: Pool, database_url: str
) -> None:
    now = datetime.now(UTC)
    await run_handler(archive, [event(1), accepted({"id": "evt_0", "type": "t", "data": {}})], database)
    await database.execute(
        "INSERT INTO inbox VALUES ('epoch', 'q', 'self', false, 'evt_old', now() - interval '41 days')"
    )
    for days in (40, 48, 90):
        period = Period.of(now - timedelta(days=days), monthly=False)
        name, start, end = period.name("inbox"), period.start.isoformat(), period.end.isoformat()
        await database.execute(
            f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF inbox FOR VALUES FROM ('{start}') TO ('{end}')"
        )
    await partitions.maintain(database_url)
    left = await names(database, "inbox")
    for name in left:
        if name != "inbox_default":
            begins = datetime.strptime(name.removeprefix("inbox_"), "%Y%m%d").replace(tzinfo=UTC)
            assert begins + timedelta(days=7) > now - timedelta(days=40)
    assert "inbox_default" in left
    youngest = Period.of(now - timedelta(days=40), monthly=False).name("inbox")
    assert youngest in left, "a part of it is younger"
    assert Period.of(now - timedelta(days=90), monthly=False).name("inbox") not in left
    assert await database.fetchval("SELECT count(*) FROM events_default") == 2, "no retention is set"
    waiting = await database.fetch("SELECT event_id FROM inbox_default ORDER BY event_id")
    assert [row[0] for row in waiting] == ["evt_0", "evt_1"], "without a time of its own, but not here for long"


async def test_events_are_kept_for_ever_unless_a_retention_is_set(database: Pool, database_url: str) -> None:
    old = Period.of(datetime.now(UTC) - timedelta(days=400), monthly=True)
    name = old.name("events")
    await database.execute(
        f"CREATE TABLE {name} PARTITION OF events"
        f" FOR VALUES FROM ('{old.start.isoformat()}') TO ('{old.end.isoformat()}')"
    )
    await partitions.maintain(database_url)
    assert name in await names(database, "events")
    await partitions.maintain(database_url, events_retention_days=365)
    assert name not in await names(database, "events")
    await partitions.maintain(database_url, events_retention_days=365)


async def test_partitions_have_the_indexes_of_their_table(database: Pool) -> None:
    """ATTACH without them would build them again, under a lock."""
    rows = await database.fetch(
        "SELECT tablename, count(*) FROM pg_indexes WHERE tablename LIKE 'events%' GROUP BY tablename"
    )
    counts = {row[0]: row[1] for row in rows}
    assert len(set(counts.values())) == 1, counts
    assert len(counts) > 3
