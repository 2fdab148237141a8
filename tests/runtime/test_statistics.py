"""Statistics: taken as a table doubles, so that no lookup reads a whole account until autovacuum comes by."""

from asyncpg.pool import Pool

from quittance import statistics
from quittance.database import Connection
from workers.quote_ledger import OWNERS

SOME = """
INSERT INTO stripe_objects (account, livemode, object_id, quote_id, kind, snapshot)
SELECT 'self', true, 'pi_' || n, 'Q-' || n, 'payment_intent', '{}' FROM generate_series($1::integer, $2::integer) AS n
"""


async def looked_up_by(db: Connection) -> str:
    """What the prepared statement's plan looks objects up by; the plan is the one that Postgres kept."""
    plan = [str(row[0]) for row in await db.fetch("EXPLAIN EXECUTE owners(NULL, NULL, NULL)")]
    return next(line for line in plan if "Index Cond" in line)


async def test_a_plan_made_on_an_empty_table_ends_when_the_table_has_grown(database: Pool) -> None:
    """INVARIANT: objects are looked up by their id, not by reading all objects of the account."""
    async with database.acquire() as db:
        await db.execute("SET plan_cache_mode = force_generic_plan")
        await db.execute(f"PREPARE owners AS {OWNERS}")
        assert "object_id" not in await looked_up_by(db), "then Postgres knows better by itself: is this still needed?"
        await db.execute(SOME, 1, 5_000)
        assert await statistics.refresh(db) == ["stripe_objects"]
        assert "object_id" in await looked_up_by(db)


async def test_a_table_is_analysed_again_when_it_has_doubled_and_not_before(database: Pool) -> None:
    async with database.acquire() as db:
        assert await statistics.refresh(db) == []
        await db.execute(SOME, 1, 2_000)
        assert await statistics.refresh(db) == ["stripe_objects"]
        await db.execute(SOME, 2_001, 2_500)
        assert await statistics.refresh(db) == []
        await db.execute(SOME, 2_501, 5_000)
        assert await statistics.refresh(db) == ["stripe_objects"]


async def test_who_analyses_it_already_is_not_waited_for(database: Pool) -> None:
    async with database.acquire() as db, database.acquire() as other:
        await db.execute(SOME, 1, 2_000)
        async with other.transaction():
            await other.execute("LOCK TABLE stripe_objects IN SHARE UPDATE EXCLUSIVE MODE")
            await db.execute("SET lock_timeout = '1ms'")
            assert await statistics.refresh(db) == ["stripe_objects"]
