"""Finding archived events: by id, by type and time, by any Stripe id or quote id in them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from quittance.cli.filters import ids_of_quote
from quittance.event import Cause, Event, sane_created
from quittance.locks import Connection

# By Stripe's time of the event, which is what the archive is partitioned by and indexed on; what has no sane time lies in
# 1970. An event's own id is the first of its `ids`, and indexed there alone.
MATCH: Final = """
SELECT created, account, livemode, event_id FROM events
WHERE ($1::text[] IS NULL OR ids && $1 AND event_id = ANY ($1))
  AND ($2::text IS NULL OR type = $2)
  AND ($3::text IS NULL OR starts_with(type, $3))
  AND ($4::text[] IS NULL OR ids && $4)
  AND ($5::text IS NULL OR account = $5)
  AND ($6::boolean IS NULL OR livemode = $6)
  AND ($7::timestamptz IS NULL OR created >= $7)
  AND ($8::timestamptz IS NULL OR created <= $8)
ORDER BY created DESC, account DESC, livemode DESC, event_id DESC
LIMIT $9
"""
LOAD: Final = """
SELECT created, extract(epoch FROM created)::bigint AS seconds, account, livemode, event_id, type, api_version, ids,
       received_at, archived_at, length(body) AS bytes, body
FROM events
JOIN unnest($1::timestamptz[], $2::text[], $3::boolean[], $4::text[]) AS key (created, account, livemode, event_id)
    USING (created, account, livemode, event_id)
ORDER BY created DESC, account DESC, livemode DESC, event_id DESC
"""
# What became of it: which queues have handled it, and which have not.
HANDLED: Final = """
SELECT queue, handled_at FROM inbox
WHERE created = $1 AND account = $2 AND livemode = $3 AND event_id = $4 ORDER BY handled_at, queue
"""
FAILED: Final = """
SELECT id, queue, state, reason, error, attempts, last_failed_at FROM failed_deliveries
WHERE account = $1 AND livemode = $2 AND event_id = $3 ORDER BY id
"""
QUOTES: Final = """
SELECT quote_id FROM stripe_objects WHERE account = $1 AND livemode = $2 AND object_id = ANY ($3::text[])
UNION
SELECT quote_id FROM quotes WHERE account = $1 AND livemode = $2 AND quote_id = ANY ($3::text[])
"""
CAUSED: Final = """
SELECT quote_id, sequence, previous, status, label, changed_at FROM quote_status_changes
JOIN unnest($1::text[], $2::boolean[], $3::text[]) AS key (account, livemode, quote_id)
    USING (account, livemode, quote_id)
WHERE cause_id = $4 ORDER BY changed_at, quote_id, sequence
"""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are meant; None does not restrict. A `type` that ends in `*` takes all that begin so."""

    event_ids: list[str] = []
    type: str | None = None
    any_id: str | None = None
    quote: str | None = None
    account: str | None = None
    livemode: bool | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def restricts(self) -> bool:
        """Whether anything was said at all."""
        return any(value not in (None, []) for value in msgspec.structs.asdict(self).values())


async def find(db: Connection, search: Search, limit: int | None) -> list[dict[str, Any]]:
    """The events meant, newest first, at most `limit`."""
    ids = None if search.any_id is None else [search.any_id]
    if search.quote is not None:
        ids = [*(ids or []), *await ids_of_quote(db, search.quote, search.account, search.livemode)]
    many = search.type is not None and search.type.endswith("*")
    keys = await db.fetch(
        MATCH,
        search.event_ids or None,
        None if many else search.type,
        search.type.rstrip("*") if search.type is not None and many else None,
        ids,
        search.account,
        search.livemode,
        search.since,
        search.until,
        limit,
    )
    columns = [[row[name] for row in keys] for name in ("created", "account", "livemode", "event_id")]
    return [dict(row.items()) for row in await db.fetch(LOAD, *columns)]


def event_of(row: dict[str, Any], replay_id: str | None) -> Event:
    """The event as it came, to be handled again under `replay_id`."""
    return Event(
        id=row["event_id"],
        type=row["type"],
        account=row["account"],
        livemode=row["livemode"],
        created=sane_created(row["seconds"]),
        received_at=row["received_at"].timestamp(),
        body=row["body"],
        cause=Cause(row["event_id"], row["type"]),
        replay_id=replay_id,
    )


async def fate(db: Connection, row: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What became of an event: who handled it, what failed, which changes of status it caused."""
    key = (row["account"], row["livemode"], row["event_id"])
    ids: Sequence[str] = row["ids"]
    quotes = await db.fetch(QUOTES, row["account"], row["livemode"], ids)
    names = [quote["quote_id"] for quote in quotes]
    caused = await db.fetch(
        CAUSED, [row["account"]] * len(names), [row["livemode"]] * len(names), names, row["event_id"]
    )
    found = {
        "handled": await db.fetch(HANDLED, row["created"], *key),
        "failed": await db.fetch(FAILED, *key),
        "caused": caused,
    }
    return {name: [dict(entry.items()) for entry in rows] for name, rows in found.items()}
