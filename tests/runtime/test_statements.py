"""Several statements as one: the rows of each, and nothing of what is left out."""

from asyncpg.pool import Pool

from quittance.statements import save, together

NAMING = """
INSERT INTO document_namings (account, livemode, quote_id, version)
SELECT * FROM unnest($1::text[], $2::boolean[], $3::text[], $4::bigint[])
ON CONFLICT (account, livemode, quote_id) DO UPDATE SET version = excluded.version
"""
OWNER = """
INSERT INTO document_owners (account, livemode, object_id, quote_id, version)
SELECT * FROM unnest($1::text[], $2::boolean[], $3::text[], $4::text[], $5::bigint[])
"""


def test_parameters_are_numbered_in_a_row() -> None:
    assert together("INSERT $1, $2, $10", "INSERT $1, $2") == (
        "WITH step_1 AS (INSERT $1, $2, $10), step_2 AS (INSERT $11, $12) SELECT"
    )


async def test_each_part_writes_its_rows_and_one_without_rows_is_left_out(database: Pool) -> None:
    async with database.acquire() as db:
        await save(db, (NAMING, [("self", False, "Q-1", 3)]), (OWNER, [("self", False, "ch_1", "Q-1", 3)]))
        await save(db, (NAMING, [("self", False, "Q-1", 4), ("self", True, "Q-1", 1)]), (OWNER, []))
        await save(db, (NAMING, []), (OWNER, []))
        namings = await db.fetch("SELECT livemode, version FROM document_namings ORDER BY livemode")
        owners = await db.fetch("SELECT object_id, version FROM document_owners")
    assert [tuple(row) for row in namings] == [(False, 4), (True, 1)]
    assert [tuple(row) for row in owners] == [("ch_1", 3)]
