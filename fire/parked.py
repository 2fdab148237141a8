"""What stands in failed_deliveries, as the rows of the table and the checker speak of it."""

from collections.abc import Collection
from typing import Final

import asyncpg

# Whatever its state, but that it is over: an attempt that was counted is looked for as well as what is dead.
PARKED: Final = """
SELECT queue, event_id, reason FROM failed_deliveries
WHERE state <> 'resolved' AND ($1::text[] IS NULL OR event_id = ANY($1)) AND ($2 OR state = 'dead')
"""


def named(queue: str, event_id: str, reason: str) -> str:
    """A parked delivery as text."""
    return f"{queue} {event_id} ({reason})"


async def parked(db: asyncpg.Connection, events: Collection[str] | None = None, *, retrying: bool = True) -> list[str]:
    """Each delivery that failed, "queue event (reason)"; of these events alone, or only what is not `retrying`."""
    rows = await db.fetch(PARKED, None if events is None else list(events), retrying)
    return [named(*row) for row in rows]
