"""A full database for the benchmark, and the count that ends a run where an event is missing."""

import time
from datetime import UTC, datetime, timedelta
from operator import itemgetter

import asyncpg
import pytest
from asyncpg.pool import Pool

from bench.bodies import DIGITS, digits, numbered_lives, scattered, templates
from bench.fill import FIRST_SEED, fill
from bench.growth import check_room
from bench.runs import handled
from dev.places import CannotStart
from dev.settled import CONSUMERS

EVENT = """
INSERT INTO events (created, account, livemode, event_id, type, ids, body, received_at)
VALUES ($1, '', true, $2, 'charge.succeeded', $3, $4, now())
"""
QUOTE = """
INSERT INTO quotes (account, livemode, quote_id, sequence, facts, data, status, label)
VALUES ('', true, $1, 1, $2, '{}', 'paid', 'Paid')
"""
MAIL = """
INSERT INTO emails (account, livemode, quote_id, revision, kind, to_owner, message_id, event_id, event_type, event_headers,
                    event_body, state)
VALUES ('', true, $1, 1, 'paid', true, $2, 'x', 'y', '{}', '', 'sent')
"""


async def seed(database: Pool, created: datetime) -> None:
    """Two lives of two events each, their quotes and mails; and a row that belongs to nobody's life."""
    for number in (0, 1):
        mark = digits(FIRST_SEED + number)
        quote_id = f"Q-{number}-{scattered(mark).decode()}{mark.decode()}"
        for name in ("a", "b"):
            event_id = f"evt_{number}{name}{mark.decode()}"
            body = f'{{"id": "{event_id}"}}'.encode()
            await database.execute(EVENT, created, event_id, [event_id, quote_id], body)
        await database.execute(QUOTE, quote_id, f'{{"charge": "ch_{mark.decode()}"}}')
        await database.execute(MAIL, quote_id, f"<{'ab'[number] * 40}@example.com>")
    await database.execute(QUOTE, "Q-other", "{}")


async def test_lives_are_copied_into_every_table(database_url: str, database: Pool) -> None:
    now = datetime.now(UTC)
    await seed(database, now)
    filled = await fill(database_url, archive=40, quotes=12, tell=lambda _: None)
    assert filled.rows == {"emails": 14, "events": 44, "quotes": 15}
    rows = await database.fetch("SELECT event_id, ids, convert_from(body, 'UTF8') AS body, created FROM events")
    assert len({row["event_id"] for row in rows}) == 44
    assert all(row["ids"][0] == row["event_id"] and row["event_id"] in row["body"] for row in rows)
    old = [row for row in rows if row["created"] < now - timedelta(hours=12)]
    assert len(old) == 40
    assert min(row["created"] for row in old) > now - timedelta(days=35)
    copies = [row for row in old if row["event_id"].startswith("evt_0a")]
    assert sorted(copies, key=itemgetter("created")) == sorted(copies, key=itemgetter("event_id"))


async def test_a_copy_has_its_number_scattered_where_the_original_has(database_url: str, database: Pool) -> None:
    await seed(database, datetime.now(UTC))
    await fill(database_url, archive=40, quotes=12, tell=lambda _: None)
    rows = await database.fetch("SELECT event_id, ids FROM events")
    numbers = {row["event_id"][-DIGITS:] for row in rows}
    assert len(numbers) == 12  # of ten copies and two seeds
    for row in rows:
        number = row["event_id"][-DIGITS:]
        assert row["ids"][1].endswith(scattered(number.encode()).decode() + number)


async def test_the_index_is_back_and_nothing_of_the_filling_is_left(database_url: str, database: Pool) -> None:
    await seed(database, datetime.now(UTC))
    await fill(database_url, archive=8, quotes=2, tell=lambda _: None)
    assert await database.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = 'events_ids'::regclass")
    assert await database.fetchval("SELECT count(*) FROM pg_class WHERE relname LIKE 'bench%'") == 0


def test_a_disk_without_room_is_said_before_the_work() -> None:
    with pytest.raises(CannotStart, match="GB are free"):
        check_room(archive=10**12, quotes=1)


async def test_a_missing_event_ends_the_run(database_url: str) -> None:
    db = await asyncpg.connect(database_url)
    try:
        began = time.time()
        told = [event_id for life in numbered_lives("MISS", 0, 2) for event_id, _ in life]
        types = [each.type for life in templates("MISS") for each in life]
        for event_id, event_type in zip(told, types, strict=True):
            await db.execute(
                EVENT.replace("'charge.succeeded'", "$5"), datetime.now(UTC), event_id, [], b"", event_type
            )
        with pytest.raises(RuntimeError, match=f"{CONSUMERS[0]} handled 0 events of"):
            await handled(db, "MISS", len(told), began)
        await db.execute("DELETE FROM events WHERE event_id = $1", told[0])
        with pytest.raises(RuntimeError, match=f"archive handled {len(told) - 1} events of {len(told)}"):
            await handled(db, "MISS", len(told), began)
    finally:
        await db.close()
