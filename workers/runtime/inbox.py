"""Who has handled what: the inbox, one row per queue and event, written in the transaction of the handler's effects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from quittance.database import Connection
from quittance.event import Event

Key = tuple[str, bool, str]  # account, livemode, event id

# Two processes with the same event at once: the second waits here for the first's commit, and finds it handled; or
# for its rollback, and handles it. Keys go in sorted, or two such batches would wait for each other in a ring.
FIRST_SEEN: Final = """
INSERT INTO inbox (created, queue, account, livemode, event_id)
SELECT to_timestamp(created), $1, account, livemode, event_id
FROM unnest($2::bigint[], $3::text[], $4::boolean[], $5::text[]) AS given (created, account, livemode, event_id)
ORDER BY created, account, livemode, event_id
ON CONFLICT DO NOTHING
RETURNING account, livemode, event_id
"""


@dataclass(frozen=True)
class Sorted:
    """A batch, told apart: what the handler shall see, in order of delivery, and what has been handled before."""

    fresh: list[Event]
    duplicates: list[Event]


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
    new = {(row[0], row[1], row[2]) for row in rows}
    fresh: list[Event] = []
    for event in unique:
        if event.replay_id is not None or key(event) in new:
            fresh.append(event)
        else:
            duplicates.append(event)
    return Sorted(fresh, duplicates)
