"""What the relay does beside relaying: partitions made ahead and dropped, the planner's statistics, the outbox's gauges."""

import asyncio
from typing import Final

import structlog

from quittance import partitions, statistics
from quittance.database import DATABASE_ERRORS
from workers.runtime import metrics
from workers.runtime.backoff import pause_unless
from workers.runtime.batch import ACQUIRE_TIMEOUT, Database
from workers.runtime.relay import DESTINATIONS

log = structlog.get_logger(__name__)

PARTITIONS_EVERY: Final = 3600.0
STATISTICS_EVERY: Final = 2.0
GAUGES_EVERY: Final = 5.0

DEPTH: Final = """
SELECT destination, count(*) AS depth, extract(epoch FROM now() - min(queued_at))::double precision AS age
FROM (SELECT destination, queued_at FROM outbox ORDER BY id LIMIT 100000) AS oldest
GROUP BY destination
"""


async def keep_partitions(url: str, events_retention_days: int, stopping: asyncio.Event) -> None:
    """Maintain the partitions each hour (under an advisory lock: one process does it, others pass it over)."""
    while not stopping.is_set():
        try:
            await partitions.maintain(url, events_retention_days)
        except DATABASE_ERRORS as error:
            log.warning("partitions.postponed", error=f"{type(error).__name__}: {error}")
        await pause_unless(stopping, PARTITIONS_EVERY)


async def keep_statistics(database: Database, stopping: asyncio.Event) -> None:
    """Have tables that doubled analysed. To look costs a third of a millisecond."""
    while not stopping.is_set():
        try:
            async with database.acquire(timeout=ACQUIRE_TIMEOUT) as db:
                await statistics.refresh(db)
        except DATABASE_ERRORS as error:
            log.warning("statistics.postponed", error=f"{type(error).__name__}: {error}")
        await pause_unless(stopping, STATISTICS_EVERY)


async def keep_gauges(database: Database, stopping: asyncio.Event) -> None:
    """Measure the outbox every few seconds."""
    while not stopping.is_set():
        try:
            async with database.acquire(timeout=ACQUIRE_TIMEOUT) as db:
                rows = await db.fetch(DEPTH)
        except DATABASE_ERRORS as error:
            log.debug("gauges.postponed", error=f"{type(error).__name__}: {error}")
        else:
            found = {row["destination"]: row for row in rows}
            for destination in DESTINATIONS:
                row = found.get(destination)
                metrics.OUTBOX_DEPTH.labels(destination).set(row["depth"] if row else 0)
                metrics.OUTBOX_AGE.labels(destination).set(row["age"] if row else 0)
        await pause_unless(stopping, GAUGES_EVERY)
