"""Life by the clock: quotes expire at the end of their day (R28), once, however many processes run.

What passed while nothing ran expires at the first round: the table says what is due, nobody's memory does.
"""

import asyncio
import random
from typing import Final

import structlog
from asyncpg.pool import Pool

from quittance.database import CONNECT_TIMEOUT, DATABASE_ERRORS
from quittance.publishing import expire
from web.metrics import CLOCK_POSTPONED, EXPIRED

EVERY: Final = 1.0  # seconds
AT_ONCE: Final = 200  # quotes in one transaction

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


async def run(pool: Pool, stopping: asyncio.Event) -> None:
    """Let quotes expire until told to stop."""
    pause = EVERY
    while not stopping.is_set():
        try:
            expired = await tick(pool)
        except DATABASE_ERRORS as error:
            CLOCK_POSTPONED.inc()
            log.warning("clock.postponed", error=f"{type(error).__name__}: {error}")
            pause = min(2 * pause, 10.0)
        else:
            pause = EVERY
            if expired:
                log.info("quotes.expired", count=expired)
        await _pause_unless(stopping, pause)


async def tick(pool: Pool) -> int:
    """Let everything expire whose time is up; how many quotes that were."""
    total = 0
    while True:
        async with pool.acquire(timeout=CONNECT_TIMEOUT) as db, db.transaction():
            count = await expire(db, AT_ONCE)
        EXPIRED.inc(count)
        total += count
        if count < AT_ONCE:
            return total


async def _pause_unless(stopping: asyncio.Event, seconds: float) -> None:
    try:
        # Not all processes at once.
        async with asyncio.timeout(seconds * random.uniform(0.8, 1.2)):  # noqa: S311 - spreads load, keeps no secret
            await stopping.wait()
    except TimeoutError:
        pass
