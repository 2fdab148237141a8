"""Choosing failed deliveries: by id, or by what they are; the same filters for list, replay and discard."""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
import typer

from quittance.cli.filters import ids_of_quote
from quittance.locks import Connection

# Enough to explain one quote; a handler that is broken fails for many others too.
LIMIT_OF_ONE_QUOTE: Final = 200

STATES: Final = ("retrying", "dead", "replaying", "resolved", "discarded")

# By time of the last failure: what broke at noon shows up at noon, also when it is retried for hours.
MATCH: Final = """
SELECT id FROM failed_deliveries
WHERE ($1::text[] IS NULL OR state = ANY ($1))
  AND ($2::bigint[] IS NULL OR id = ANY ($2))
  AND ($3::text IS NULL OR queue = $3)
  AND ($4::text IS NULL OR type = $4)
  AND ($5::text IS NULL OR reason = $5)
  AND ($6::text IS NULL OR starts_with(fingerprint, $6))
  AND ($7::text IS NULL OR account = $7)
  AND ($8::boolean IS NULL OR livemode = $8)
  AND ($9::timestamptz IS NULL OR last_failed_at >= $9)
  AND ($10::timestamptz IS NULL OR last_failed_at <= $10)
  AND ($11::text IS NULL OR quote_id = $11
       OR event_id IN (SELECT event_id FROM events WHERE ids && $12::text[]))
ORDER BY last_failed_at DESC, id DESC
LIMIT $13
"""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which failed deliveries are meant. None, or nothing, does not restrict."""

    ids: list[int] = []
    states: tuple[str, ...] = ()
    queue: str | None = None
    type: str | None = None
    reason: str | None = None
    quote: str | None = None
    fingerprint: str | None = None
    account: str | None = None
    livemode: bool | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def restricts(self) -> bool:
        """Whether anything but the state was said."""
        chosen = msgspec.structs.asdict(self)
        del chosen["states"]
        return any(value not in (None, []) for value in chosen.values())


async def matching(db: Connection, selection: Selection, limit: int | None) -> list[int]:
    """The ids of the failed deliveries meant, newest failure first, at most `limit`."""
    ids = [] if selection.quote is None else await ids_of_quote(db, selection.quote)
    rows = await db.fetch(
        MATCH,
        list(selection.states) or None,
        selection.ids or None,
        selection.queue,
        selection.type,
        selection.reason,
        selection.fingerprint,
        selection.account,
        selection.livemode,
        selection.since,
        selection.until,
        selection.quote,
        ids,
        limit,
    )
    return [row["id"] for row in rows]


def state_names(states: list[str] | None, default: tuple[str, ...]) -> tuple[str, ...]:
    """What `--state` says: names, several or comma-separated, or `any`."""
    if not states:
        return default
    names = [name.strip() for given in states for name in given.split(",") if name.strip()]
    if "any" in names:
        return STATES
    if wrong := [name for name in names if name not in STATES]:
        raise typer.BadParameter(f"--state is one of {', '.join(STATES)} or any, not {wrong[0]!r}")
    return tuple(names)


def plain(row: Any) -> dict[str, Any]:
    """A row as a dictionary."""
    return dict(row.items())


Ids = Annotated[list[int] | None, typer.Argument(help="Ids of failed deliveries, as `list` shows them.", min=1)]
QueueName = Annotated[str | None, typer.Option(help="Only of this queue.")]
Type = Annotated[str | None, typer.Option("--type", help="Only events of this type.")]
ReasonName = Annotated[str | None, typer.Option(help="Only those that failed for this reason.")]
Quote = Annotated[
    str | None, typer.Option(help="Only events of this quote, also those that reach it through a charge.")
]
Fingerprint = Annotated[str | None, typer.Option(help="Only failures of this cause; the beginning is enough.")]
States = Annotated[
    list[str] | None,
    typer.Option("--state", help="dead (the default), retrying, replaying, resolved, discarded, any; may be repeated."),
]
