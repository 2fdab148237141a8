"""A database whose clock is ahead: for what happens only after weeks, like the end of a partition."""

from typing import Final

import asyncpg
from asyncpg.pool import Pool

# Our own statements read the clock as `now()`, and so do the functions that the relay calls; what else stands in schema.sql
# was bound to the true one when it was declared.
SHIFTED: Final = """
CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql STABLE
AS $$ SELECT pg_catalog.now() + interval '{days} days' $$;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$;
ALTER FUNCTION make_partition SET search_path = public, pg_catalog;
ALTER FUNCTION drop_partition SET search_path = public, pg_catalog;
ALTER FUNCTION empty_default_partition SET search_path = public, pg_catalog
"""


async def move(db: asyncpg.Connection | Pool, days: int) -> None:
    """From now on the database is so many days ahead, for whoever connects; those who are connected notice nothing."""
    await db.execute(SHIFTED.format(days=days))
