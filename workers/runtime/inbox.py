"""Who has handled what: the inbox, one row per queue and event, written in the transaction of the handler's effects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from quittance.database import Connection
from quittance.event import Event

Key = tuple[str, bool, str]  # account, livemode, event id

# Two processes with the same event at once: the second waits here for the first's commit, and finds it handled; or
# for its rollback, and handles it. Keys go in sorted, or two such batches would wait for each other in a ring.
#
# With it come the open failures: rows that wait for a retry or a person, of events that are handled now. Such a row that
# another process writes a moment later is found when its event is sent again.
FIRST_SEEN: Final = """
WITH given AS MATERIALIZED (
    SELECT created, account, livemode, event_id
    FROM unnest($2::bigint[], $3::text[], $4::boolean[], $5::text[]) AS given (created, account, livemode, event_id)
    ORDER BY created, account, livemode, event_id
), entered AS (
    INSERT INTO inbox (created, queue, account, livemode, event_id)
    SELECT to_timestamp(created), $1, account, livemode, event_id FROM given
    ON CONFLICT DO NOTHING
    RETURNING account, livemode, event_id
)
SELECT account, livemode, event_id, NULL AS failed_delivery_id FROM entered
UNION ALL
SELECT account, livemode, event_id, failed_deliveries.id FROM given JOIN failed_deliveries USING (account, livemode, event_id)
WHERE queue = $1 AND state IN ('retrying', 'replaying', 'dead')
"""


@dataclass(frozen=True)
class Sorted:
    """A batch, told apart: what the handler shall see, in order of delivery, and what has been handled before."""

    fresh: list[Event]
    duplicates: list[Event]
    failed: list[int]  # ids of failed_deliveries that are still open


def key(event: Event) -> Key:
    """What makes two deliveries the same event."""
    return (event.account, event.livemode, event.id)


async def first_seen(db: Connection, queue: str, events: Sequence[Event]) -> Sorted:
    """Enter `events` as handled by `queue`, and say which of them the handler shall see.

    A replay is seen whatever the inbox says. Of an event that is in the batch twice only one is seen, the replay if
    one of them is one.
    """
    chosen: dict[Key, Event] = {}
    duplicates: list[Event] = []
    for event in events:
        other = chosen.setdefault(key(event), event)
        if other is event:
            continue
        if event.replay_id is not None and other.replay_id is None:
            chosen[key(event)] = event
            duplicates.append(other)
        else:
            duplicates.append(event)
    unique = list(chosen.values())
    rows = await db.fetch(
        FIRST_SEEN,
        queue,
        [event.created for event in unique],
        [event.account for event in unique],
        [event.livemode for event in unique],
        [event.id for event in unique],
    )
    new = {(row[0], row[1], row[2]) for row in rows if row[3] is None}
    fresh: list[Event] = []
    for event in unique:
        if event.replay_id is not None or key(event) in new:
            fresh.append(event)
        else:
            duplicates.append(event)
    return Sorted(fresh, duplicates, sorted(row[3] for row in rows if row[3] is not None))
