"""`GET /v1/changes`: all changes of all quotes of an account, in an order in which a reader can stop and go on.

No reader misses a change, whatever commits late:

- Every change has a place, `feed_place` >= the number of the transaction that wrote it (schema.sql, quote_saving.py).
- A page holds only changes whose place is below the `xmin` of the statement's own snapshot, in order of (place, quote,
  sequence). Below `xmin` every transaction has ended, so every change with such a place is visible to this statement, or
  was rolled back. What somebody writes later has a number, and so a place, of `xmin` or more.
- So below the end of a page nothing can appear any more, and the end of a page is where the next one begins.
- Of one quote the places never fall, because each is no less than the one before, which is read under the quote's lock:
  the changes of a quote come in sequence, even where the later one was written by the earlier transaction.

A transaction that stays open holds the feed back (ours are ended by Postgres after 30 s), and loses nothing.

The numbers are those of one cluster. The cursor names it, so that a reader who comes with a cursor from before a restore
into another cluster is told to begin again instead of being told nothing (docs/operations.md).
"""

import base64
import json
from dataclasses import dataclass
from typing import Any, Final, Self

from asyncpg import Record

from quittance.domain.payload import GREATEST_INTEGER, storable
from quittance.locks import Connection
from web.problems import Problem
from web.tokens import Caller

CLUSTER: Final = "SELECT system_identifier::text FROM pg_control_system()"
PAGE: Final = """
SELECT quote_id, sequence, data, changed_at, feed_place::text AS feed_place
FROM quote_status_changes
WHERE account = $1 AND livemode = $2 AND feed_place < pg_snapshot_xmin(pg_current_snapshot())
  AND (feed_place, quote_id, sequence) > ($3::text::xid8, $4::text, $5::bigint)
ORDER BY feed_place, quote_id, sequence LIMIT $6
"""


@dataclass(frozen=True)
class Cursor:
    """A place between two changes."""

    cluster: str
    place: int = 0
    quote_id: str = ""
    sequence: int = 0

    def text(self) -> str:
        """As callers see it."""
        told = json.dumps([self.cluster, self.place, self.quote_id, self.sequence], separators=(",", ":"))
        return base64.urlsafe_b64encode(told.encode()).decode().rstrip("=")

    @classmethod
    def of(cls, text: str) -> Self:
        """The inverse of `text`. Raises Problem where it is not one of ours."""
        try:
            padded = text.encode("ascii") + b"=" * (-len(text) % 4)
            cluster, place, quote_id, sequence = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except (ValueError, TypeError, RecursionError):
            raise _malformed() from None
        numbers = [(place, 2 * GREATEST_INTEGER + 1), (sequence, GREATEST_INTEGER)]
        if not (
            isinstance(cluster, str)
            and isinstance(quote_id, str)
            and storable(quote_id)
            and all(type(number) is int and 0 <= number <= most for number, most in numbers)
        ):
            raise _malformed()
        return cls(cluster, place, quote_id, sequence)


async def changes_after(db: Connection, caller: Caller, after: str | None, limit: int) -> dict[str, Any]:
    """A page of the feed; `cursor` is where the next one begins, also when there is nothing more yet."""
    cluster: str = await db.fetchval(CLUSTER)
    cursor = Cursor(cluster) if after is None else Cursor.of(after)
    if cursor.cluster != cluster:
        detail = "The database was restored: begin again without `after`. Numbers that you know change nothing."
        raise Problem(410, "cursor_of_another_database", detail)
    rows = await db.fetch(
        PAGE, caller.account, caller.livemode, str(cursor.place), cursor.quote_id, cursor.sequence, limit + 1
    )
    page = rows[:limit]
    if page:
        last = page[-1]
        cursor = Cursor(cluster, int(last["feed_place"]), last["quote_id"], last["sequence"])
    return {
        "changes": [_change(caller, row) for row in page],
        "cursor": cursor.text(),
        "has_more": len(rows) > limit,
    }


def _change(caller: Caller, row: Record) -> dict[str, Any]:
    """The CRM event that told it; `time` is when it was stored."""
    mode = "live" if caller.livemode else "test"
    return {
        "specversion": "1.0",
        "id": f"{row['quote_id']}:{row['sequence']}",
        "source": f"/accounts/{caller.account}/{mode}/quotes",
        "type": "quote.payment_status_changed",
        "subject": row["quote_id"],
        "time": row["changed_at"].isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "sequence": f"{row['sequence']:020d}",
        "data": json.loads(row["data"]),
    }


def _malformed() -> Problem:
    return Problem(400, "malformed_cursor", "`after` must be a `cursor` that an earlier answer gave.")
