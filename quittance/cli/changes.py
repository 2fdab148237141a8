"""What a replay changed: the status changes and mails that came of given events since it began."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from quittance.event import Event
from quittance.locks import Connection
from workers.archive import ids_in
from workers.quote_changes import NOT_COMPARED

# An event's quotes: named by it, or reached through an object that it names.
QUOTES_OF_IDS: Final = """
SELECT DISTINCT account, livemode, quote_id FROM (
    SELECT account, livemode, quote_id FROM stripe_objects
    JOIN unnest($1::text[], $2::boolean[], $3::text[]) AS named (account, livemode, object_id)
        USING (account, livemode, object_id)
    UNION ALL
    SELECT account, livemode, quote_id FROM quotes
    JOIN unnest($1::text[], $2::boolean[], $3::text[]) AS named (account, livemode, quote_id)
        USING (account, livemode, quote_id)
) AS found
"""
CHANGES: Final = """
SELECT change.data::text AS data, before.data::text AS before
FROM unnest($1::text[], $2::boolean[], $3::text[]) AS key (account, livemode, quote_id)
JOIN quote_status_changes AS change USING (account, livemode, quote_id)
LEFT JOIN quote_status_changes AS before
    ON before.account = change.account AND before.livemode = change.livemode AND before.quote_id = change.quote_id
   AND before.sequence = change.sequence - 1
WHERE change.cause_id = ANY ($4::text[]) AND change.changed_at >= $5
ORDER BY change.changed_at, change.quote_id, change.sequence
"""
MAILS: Final = """
SELECT account, livemode, quote_id, revision, kind, recipient, subject, state
FROM emails WHERE created_at >= $1 AND (account, livemode, quote_id) IN (
    SELECT * FROM unnest($2::text[], $3::boolean[], $4::text[])
)
ORDER BY id
"""
# What the events caused and the relay has not published yet: more is to come.
PENDING: Final = """
SELECT count(*) FROM outbox WHERE headers ->> 'cause-id' = ANY ($1::text[]) OR event_id = ANY ($1::text[])
"""

# The relay takes milliseconds; the workers behind it some more.
LONGEST_WAIT: Final = 5.0
AFTERWARDS: Final = 0.5


class Changed(msgspec.Struct, frozen=True):
    """Status changes (the data of their CRM events, and what differs: `with_difference`) and mails."""

    status_changes: list[dict[str, Any]]
    mails: list[dict[str, Any]]


async def since(db: Connection, events: Sequence[Event], began: datetime) -> Changed:
    """What the events have changed since `began` (the database's time), once what they caused has been passed on."""
    await _passed_on(db, [event.id for event in events])
    named = [(event.account, event.livemode, name) for event in events for name in ids_in(event)]
    quotes = await db.fetch(QUOTES_OF_IDS, *_columns(named))
    keys = [(row["account"], row["livemode"], row["quote_id"]) for row in quotes]
    causes = {event.id for event in events} | {event.cause.id for event in events}
    rows = await db.fetch(CHANGES, *_columns(keys), sorted(causes), began)
    mails = await db.fetch(MAILS, began, *_columns(keys))
    changes = [
        with_difference(msgspec.json.decode(row["data"]), row["before"] and msgspec.json.decode(row["before"]))
        for row in rows
    ]
    return Changed(changes, [dict(row.items()) for row in mails])


def with_difference(data: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The data of a CRM event, and as `changed` the names of what differs from the event before it."""
    if before is None:
        return data | {"changed": []}
    compared = [name for name in data if name not in NOT_COMPARED]
    return data | {"changed": [name for name in compared if data[name] != before.get(name)]}


async def _passed_on(db: Connection, ids: list[str]) -> None:
    deadline = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < deadline and await db.fetchval(PENDING, ids):  # noqa: ASYNC110 - another process's work
        await asyncio.sleep(0.1)
    await asyncio.sleep(AFTERWARDS)


def _columns(keys: Iterable[tuple[str, bool, str]]) -> tuple[list[str], list[bool], list[str]]:
    rows = sorted(set(keys))
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
