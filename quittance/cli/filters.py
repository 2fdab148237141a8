"""What several commands let people choose by: accounts and modes, times, limits."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeVar

import typer

from quittance.locks import Connection

T = TypeVar("T")

UNITS: Final = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
AGO: Final = re.compile(r"(\d{1,6})\s*(s|m|min|h|d|w)")

# A quote's own id, and every object that it reaches through: an event of a charge names none of our ids.
IDS_OF_QUOTE: Final = """
SELECT object_id FROM stripe_objects
WHERE quote_id = $1 AND ($2::text IS NULL OR account = $2) AND ($3::boolean IS NULL OR livemode = $3)
"""


def moment(text: str) -> datetime:
    """A point in time: `2 h`, `30m`, `7d` ago, or an ISO date or time (UTC where it names no zone)."""
    if ago := AGO.fullmatch(text.strip().lower()):
        return datetime.now(UTC) - timedelta(seconds=int(ago[1]) * UNITS[ago[2]])
    try:
        parsed = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a length of time (30m, 2h, 7d) nor an ISO date or time"
        ) from None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed


def optional(parse: Callable[[str], T], text: str | None) -> T | None:
    """`parse`, where there is something to parse."""
    return None if text is None else parse(text)


def livemode(mode: str | None) -> bool | None:
    """What `--mode` says; None for both."""
    if mode is None:
        return None
    if mode not in ("live", "test"):
        raise typer.BadParameter(f"--mode is live or test, not {mode!r}")
    return mode == "live"


async def ids_of_quote(
    db: Connection, quote_id: str, account: str | None = None, live: bool | None = None
) -> list[str]:
    """The quote's id and those of its Stripe objects: an event that holds one of them is the quote's."""
    rows = await db.fetch(IDS_OF_QUOTE, quote_id, account, live)
    return [quote_id, *(row["object_id"] for row in rows)]


Account = Annotated[str | None, typer.Option(help="Only of this Stripe account (acct_…, or `self`).")]
Mode = Annotated[str | None, typer.Option(help="Only of this mode: live or test.")]
Since = Annotated[
    str | None, typer.Option(help="Not before: a length of time ago (30m, 2h, 7d), or an ISO date or time.")
]
Until = Annotated[str | None, typer.Option(help="Not after; as --since.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Actor = Annotated[str | None, typer.Option(help="Who does this, for the history. Default: $USER.", show_default=False)]
