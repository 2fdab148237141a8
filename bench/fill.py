"""A database as it is after years: two real lives, a card payment and a subscription, copied by the hundred thousand.

The lives went through ingest and all workers, so their rows are what the product writes, in every table. SQL copies each row
with another number in its ids: the older, the less, as Stripe's are. Where the number is scattered (bench/bodies.py), copies and
the lives that come afterwards lie among each other. Archive and inbox lie back by up to DAYS, in the partitions that are in use
and in those before. What the archive has more than nine rows for a quote are lives that are only there. One index, the archive's
over ids, is made anew at the end.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

import asyncpg
from msgspec import Struct

from bench.bodies import DIGITS, SCATTER, digits, scattered
from quittance.partitions import DAYS_BACK

ARCHIVE: Final = "events"
SEEDS: Final = 2  # lives, one of each kind
FIRST_SEED: Final = 987_654_320  # its number, and the next: beyond those of copies and of what is sent afterwards
CHUNK: Final = 10_000  # copies a statement
LONG: Final = 6 * 3600.0  # seconds
DAYS: Final = DAYS_BACK - 7

TABLES: Final = """
SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
AND relname <> 'outbox' ORDER BY relname
"""
COLUMNS: Final = """
SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute
WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = '' ORDER BY attnum
"""
# `place`: among all copies, the oldest first; `quote`: among those that have a quote, the newest ones, the others null.
NUMBERS: Final = """
CREATE UNLOGGED TABLE bench_numbers AS
SELECT lpad(n::text, {digits}, '0') AS digits, lpad((n * {scatter} % {all})::text, {digits}, '0') AS scattered,
       n AS place, CASE WHEN n >= {lives} - {quotes} THEN n - ({lives} - {quotes}) END AS quote
FROM generate_series(0::bigint, {lives} - 1) AS n
"""
SEED: Final = """
CREATE UNLOGGED TABLE bench_seed_{table} AS
SELECT one.*, mark.* FROM {table} AS one
JOIN (VALUES {marks}) AS mark (bench_digits, bench_scattered) ON strpos(one::text, bench_digits) > 0
"""
COPY: Final = """
INSERT INTO {table} ({columns})
SELECT {values} FROM bench_seed_{table} AS seed CROSS JOIN LATERAL (
    SELECT digits, scattered, place FROM bench_numbers WHERE {counter} >= $1::bigint AND {counter} < $2::bigint ORDER BY place
) AS number
"""
SPAN: Final = "SELECT max(created) - min(created) FROM events"
INDEX: Final = "SELECT pg_get_indexdef('events_ids'::regclass)"
ROWS: Final = "SELECT count(*) FROM {}"


class Filled(Struct):
    """Rows by table, bytes of the whole database, and how many seconds it took."""

    rows: dict[str, int]
    bytes: int
    seconds: float


async def fill(database_url: str, archive: int, quotes: int, tell: Callable[[str], None]) -> Filled:
    """Copy the two seeds until there are so many. Nobody else may be at work in the database."""
    began = time.monotonic()
    db = await asyncpg.connect(database_url, command_timeout=LONG)
    other = await asyncpg.connect(database_url, command_timeout=LONG)
    try:
        per_pair = int(await db.fetchval(ROWS.format(ARCHIVE)))
        copies, with_quote = max(1, archive // per_pair), max(1, quotes // SEEDS)
        lives = max(copies, with_quote)
        tables = await _seeds(db)
        await _numbers(db, lives, with_quote)
        index = str(await db.fetchval(INDEX)).replace(" ON ONLY ", " ON ")
        await db.execute("DROP INDEX events_ids")
        told = _Progress(copies, tell)
        # The archive is half of the work: it has a connection, and so a core, of its own.
        await asyncio.gather(
            _copy(db, [ARCHIVE], _Copies("place", copies, lives), told),
            _copy(other, [table for table in tables if table != ARCHIVE], _Copies("quote", with_quote, lives), told),
        )
        tell("growth: the archive's index over ids, VACUUM, ANALYZE")
        await db.execute("SET maintenance_work_mem = '512MB'")
        await db.execute(index)
        await db.execute("DROP TABLE bench_numbers")
        for table in tables:
            await db.execute(f"DROP TABLE bench_seed_{table}")
        await db.execute("VACUUM (ANALYZE)")
        await db.execute("CHECKPOINT")
        rows = {table: int(await db.fetchval(ROWS.format(table))) for table in tables}
        size = int(await db.fetchval("SELECT pg_database_size(current_database())"))
        return Filled(rows, size, time.monotonic() - began)
    finally:
        await db.close()
        await other.close()


class _Progress:
    """Tells how far the archive is."""

    def __init__(self, copies: int, tell: Callable[[str], None]) -> None:
        self._copies, self._tell = copies, tell

    def __call__(self, table: str, done: int) -> None:
        if table == ARCHIVE:
            self._tell(f"growth: filling the database, {100 * done // self._copies} % of the archive")


async def _seeds(db: asyncpg.Connection) -> list[str]:
    """The tables that have rows of the seeds; these stand in a table bench_seed_… each, with what is to be replaced."""
    numbers = [digits(FIRST_SEED + seed) for seed in range(SEEDS)]
    marks = ", ".join(f"('{number.decode()}', '{scattered(number).decode()}')" for number in numbers)
    found = []
    for (table,) in await db.fetch(TABLES):
        await db.execute(SEED.format(table=table, marks=marks))
        if await db.fetchval(ROWS.format(f"bench_seed_{table}")):
            found.append(table)
        else:
            await db.execute(f"DROP TABLE bench_seed_{table}")
    return found


async def _numbers(db: asyncpg.Connection, lives: int, quotes: int) -> None:
    statement = NUMBERS.format(scatter=SCATTER, all=10**DIGITS, digits=DIGITS, lives=lives, quotes=quotes)
    await db.execute(statement)
    await db.execute("CREATE INDEX ON bench_numbers (place)")
    await db.execute("CREATE INDEX ON bench_numbers (quote)")
    await db.execute("ANALYZE bench_numbers")


class _Copies(NamedTuple):
    """Which numbers a table gets: those whose `counter` is below `below`; of `lives` in all."""

    counter: str
    below: int
    lives: int


async def _copy(
    db: asyncpg.Connection, tables: Sequence[str], copies: _Copies, told: Callable[[str, int], None]
) -> None:
    """Write the copies of some tables' seeds, a chunk at a time."""
    before = await db.fetchval(SPAN) + timedelta(days=1)
    for table in tables:
        columns = await db.fetch(COLUMNS, table)
        values = ", ".join(_value(name, kind, copies.lives, before) for name, kind in columns)
        names = ", ".join(name for name, _ in columns)
        statement = COPY.format(table=table, columns=names, values=values, counter=copies.counter)
        for first in range(0, copies.below, CHUNK):
            await db.execute(statement, first, min(first + CHUNK, copies.below))
            told(table, min(first + CHUNK, copies.below))


def _value(name: str, kind: str, lives: int, before: timedelta) -> str:
    """The expression for a column of a copy."""
    column = f"seed.{name}"
    if name == "message_id":  # a digest of what it is about: no id in it
        return f"overlay({column} placing number.scattered from 2)"
    if kind == "bytea":
        text = _renumbered(f"convert_from({column}, 'UTF8')")
        return f"convert_to({text}, 'UTF8')"
    if kind in ("text", "text[]", "jsonb"):
        return f"{_renumbered(f'{column}::text')}::{kind}"
    if name == "created" and kind == "timestamp with time zone":
        back = (
            f"interval '{before.total_seconds():.0f} s' + interval '{DAYS} days' * ({lives} - number.place) / {lives}"
        )
        return f"{column} - ({back})"
    return column


def _renumbered(text: str) -> str:
    """The expression for a text of a copy."""
    return f"replace(replace({text}, seed.bench_digits, number.digits), seed.bench_scattered, number.scattered)"
