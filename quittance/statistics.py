"""The planner's statistics of tables that grow fast: taken as they double, not when autovacuum comes by.

Of a table without statistics the planner takes the first columns of a key (account, livemode) for as good as all of it,
and keeps that plan while the table grows: each lookup then reads the whole account. Autovacuum comes once a minute at
best; in a burst on a new table, or on the partition that begins tonight, that is minutes too late.
"""

from typing import Final

import structlog

from quittance.database import Connection

log = structlog.get_logger(__name__)

# Below 8 pages (64 KB) any plan will do. ANALYZE notes the pages that it saw; the plans made without it end with it.
GROWN: Final = """
SELECT relname FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
  AND pg_relation_size(oid) >= 2 * current_setting('block_size')::bigint * greatest(relpages, 4)
ORDER BY relname
"""
# A function of schema.sql: only a table's owner may analyse it, and the relay is not the owner.
ANALYZE: Final = "SELECT analyze_table($1::text)"
# A sample of a large table on a slow disk takes longer than any other statement of ours. It waits for no lock.
LIMIT: Final = "SET LOCAL statement_timeout = '10min'"
LONG: Final = 600.0


async def refresh(db: Connection) -> list[str]:
    """Analyse the tables that are twice as large as when they were last; answers which. One that is being vacuumed or
    analysed by somebody else just now is passed over. Raises OSError, TimeoutError or asyncpg's errors.
    """
    grown = [str(row["relname"]) for row in await db.fetch(GROWN)]
    for table in grown:
        async with db.transaction():
            await db.execute(LIMIT)
            await db.execute(ANALYZE, table, timeout=LONG)
        log.info("table.analyzed", table=table)
    return grown
