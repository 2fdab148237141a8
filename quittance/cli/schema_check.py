"""Whether the database has the tables of this version: schema.sql is applied anew to a scratch schema, in a transaction
that is rolled back, and the two are compared in Postgres's own words. Extra tables, columns and indexes are no fault.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from quittance.database import SCHEMA_FILE
from quittance.locks import Connection

SCRATCH: Final = "quittance_scratch"
# Roles and rights are not compared: from here on the file is about the whole cluster, and no scratch copy of it.
RIGHTS: Final = "\n-- Rights --"

# Of the schema named: columns, constraints and indexes as text, without the schema's own name in them.
COLUMNS: Final = """
SELECT format('column %s.%s', class.relname, attname) AS what,
       concat_ws(' ', format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'NOT NULL' END,
                 nullif(attidentity::text, ''), pg_get_expr(adbin, adrelid)) AS definition
FROM pg_attribute
JOIN pg_class AS class ON class.oid = attrelid
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relnamespace = $1::text::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
  AND attnum > 0 AND NOT attisdropped
"""
CONSTRAINTS: Final = """
SELECT format('constraint %s on %s', conname, class.relname) AS what, pg_get_constraintdef(con.oid) AS definition
FROM pg_constraint AS con
JOIN pg_class AS class ON class.oid = conrelid
WHERE connamespace = $1::text::regnamespace AND NOT relispartition AND contype <> 'n'
"""
INDEXES: Final = """
SELECT format('index %s', class.relname) AS what, pg_get_indexdef(indexrelid) AS definition
FROM pg_index
JOIN pg_class AS class ON class.oid = indexrelid
JOIN pg_class AS indexed ON indexed.oid = indrelid
WHERE class.relnamespace = $1::text::regnamespace AND NOT indexed.relispartition
"""


class _Undo(Exception):
    """Ends the transaction without a trace."""


async def differences(db: Connection) -> list[str]:
    """What is missing or different in the current schema, one line each; nothing where it is this version's.

    Raises asyncpg.InsufficientPrivilegeError where the role may not create a schema to compare with.
    """
    schema = (await asyncio.to_thread(SCHEMA_FILE.read_text, "utf-8")).partition(RIGHTS)[0]
    current: str = await db.fetchval("SELECT current_schema()")
    wanted: dict[str, str] = {}
    there: dict[str, str] = {}
    try:
        async with db.transaction():
            await db.execute("SET LOCAL client_min_messages = warning")
            await db.execute(f"CREATE SCHEMA {SCRATCH}")
            await db.execute(f"SET LOCAL search_path = {SCRATCH}")
            await db.execute(schema)
            wanted = await _described(db, SCRATCH)
            there = await _described(db, current)
            raise _Undo
    except _Undo:
        pass
    return compare(wanted, there)


def compare(wanted: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """One line for each thing that is missing or different."""
    lines = []
    for what in sorted(wanted):
        if what not in there:
            lines.append(f"{what} is missing")
        elif there[what] != wanted[what]:
            lines.append(f"{what} is `{there[what]}`, not `{wanted[what]}`")
    return lines


async def _described(db: Connection, schema: str) -> dict[str, str]:
    described: dict[str, Any] = {}
    for statement in (COLUMNS, CONSTRAINTS, INDEXES):
        rows: list[asyncpg.Record] = await db.fetch(statement, schema)
        described |= {row["what"]: row["definition"] for row in rows}
    prefixes = (f"{schema}.", f'"{schema}".')
    return {what: _without(definition, prefixes) for what, definition in described.items()}


def _without(definition: str, prefixes: tuple[str, ...]) -> str:
    for prefix in prefixes:
        definition = definition.replace(prefix, "")
    return definition
