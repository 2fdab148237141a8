"""A database in which handlers fail, and the means to mend it: a bug as an SRE meets it."""

from asyncpg.pool import Pool

# NOT VALID: what is there stays; only what is written from now on is refused.
BREAK = "ALTER TABLE stripe_objects ADD CONSTRAINT broken CHECK (kind <> 'charge') NOT VALID"
MEND = "ALTER TABLE stripe_objects DROP CONSTRAINT broken"


async def break_charges(database: Pool) -> None:
    """From now on the quotes worker fails on every event that tells it of a charge."""
    await database.execute(BREAK)


async def mend_charges(database: Pool) -> None:
    """The bug is mended."""
    await database.execute(MEND)
