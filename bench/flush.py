"""A disk that really flushes, emulated: Postgres waits a millisecond before each commit (`commit_delay=1000`,
`commit_siblings=0`), with fsync on as ever. Rounds with and without it in turn, on one instance.

The broker's flushes cannot be slowed so: its share of a slow disk is not in the figure.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from bench.bodies import fresh_run
from bench.instance import Shape, Stage, instance
from bench.options import Chosen
from bench.ratios import Compared, Side, compare
from bench.runs import Fast, fast, warm

SETTINGS: Final = {"commit_delay": "1000", "commit_siblings": "0"}
WARM_UP_LIVES: Final = 100


async def measure(stage: Stage, shape: Shape, chosen: Chosen, tell: Callable[[str], None]) -> Compared:
    """All rounds."""
    async with stage.place("bench_flush") as place, instance(stage, place, shape) as target:

        async def as_it_is() -> Fast:
            return await fast(target, target.job(fresh_run(), chosen.round_lives, chosen.senders))

        async def flushing() -> Fast:
            async with slow_commits(place.database_url):
                return await as_it_is()

        await warm(target, fresh_run(), WARM_UP_LIVES)
        return await compare(
            "flush", Side("as it is", as_it_is), Side("with a flush of 1 ms", flushing), chosen.rounds, tell
        )


@asynccontextmanager
async def slow_commits(database_url: str) -> AsyncIterator[None]:
    """For the length of the block, in the whole server."""
    db = await asyncpg.connect(database_url)
    try:
        for name, value in SETTINGS.items():
            await db.execute(f"ALTER SYSTEM SET {name} = {value}")
        await _reloaded(db, SETTINGS["commit_delay"])
        yield
    finally:
        for name in SETTINGS:
            await db.execute(f"ALTER SYSTEM RESET {name}")
        await _reloaded(db, "0")
        await db.close()


async def _reloaded(db: asyncpg.Connection, commit_delay: str) -> None:
    """The postmaster tells its children some time after it was told."""
    await db.fetchval("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 10
    while await db.fetchval("SHOW commit_delay") != commit_delay:
        if time.monotonic() > deadline:
            raise TimeoutError("Postgres has not read its configuration again after 10 s")
        await asyncio.sleep(0.05)
