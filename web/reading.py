"""Reading quotes: one, or a page of many. What was published, and what was paid, side by side."""

import base64
from typing import Any, Final, get_args

from asyncpg import Record

from quittance import answers, publishing
from quittance.answers import page_url, time_text
from quittance.domain.payload import storable
from quittance.domain.status import Status
from quittance.locks import Connection
from quittance.publishing import Quote
from web.problems import Problem, not_found
from web.tokens import Caller

STATUSES: Final[tuple[str, ...]] = get_args(Status)

# With a status: as the quotes worker has it. Without: also those that it has not come to yet.
PAGE: Final = """
WITH named AS (
    (SELECT quote_id FROM quotes
     WHERE account = $1 AND livemode = $2 AND quote_id > $3 AND ($4::text IS NULL OR status = $4)
     ORDER BY quote_id LIMIT $5)
    UNION
    (SELECT DISTINCT quote_id FROM published_quotes
     WHERE account = $1 AND livemode = $2 AND quote_id > $3 AND $4::text IS NULL
     ORDER BY quote_id LIMIT $5)
)
SELECT named.quote_id, published.revision AS published_revision, published.page_token, published.published_at,
       published.expires_at, published.recalled_at, published.expired_at, quotes.revision, quotes.status, quotes.label,
       quotes.paid_at, quotes.changed_at
FROM named
LEFT JOIN quotes ON quotes.account = $1 AND quotes.livemode = $2 AND quotes.quote_id = named.quote_id
LEFT JOIN LATERAL (
    SELECT revision, page_token, published_at, expires_at, recalled_at, expired_at FROM published_quotes
    WHERE account = $1 AND livemode = $2 AND quote_id = named.quote_id
    ORDER BY revision DESC LIMIT 1
) AS published ON true
ORDER BY named.quote_id LIMIT $5
"""


class Pages:
    """Where quote pages are."""

    def __init__(self, public_url: str) -> None:
        self.public_url = public_url

    def url(self, page_token: str) -> str:
        """The address of a revision's page."""
        return page_url(self.public_url, page_token)


async def quote_of(db: Connection, caller: Caller, quote_id: str, pages: Pages) -> dict[str, Any]:
    """One quote of the caller's. Raises Problem 404 where there is none: somebody else's is none."""
    if not storable(quote_id):
        raise not_found()
    quote = await publishing.find(db, caller.account, caller.livemode, quote_id)
    payment = await payment_of(db, caller, quote_id)
    if quote is not None:
        return representation(quote, payment, caller, pages)
    if payment is None:
        raise not_found()
    return _adopted(payment, caller)


async def payment_of(db: Connection, caller: Caller, quote_id: str) -> dict[str, Any] | None:
    """The data of the newest CRM event; None while there is none."""
    return await answers.payment_of(db, caller.account, caller.livemode, quote_id)


def representation(quote: Quote, payment: dict[str, Any] | None, caller: Caller, pages: Pages) -> dict[str, Any]:
    """A published quote as the API shows it."""
    return answers.quote_json(quote, payment, caller.account, caller.livemode, pages.public_url)


def _adopted(payment: dict[str, Any], caller: Caller) -> dict[str, Any]:
    """A quote that was not published here: Stripe's objects name it (S1)."""
    absent = ("url", "published_at", "expires_at", "recalled_at", "expired_at", "totals", "content")
    return {
        "quote_id": payment["quote_id"],
        "account": caller.account,
        "livemode": caller.livemode,
        "revision": payment["revision"],
        "state": "not_published",
        **dict.fromkeys(absent),
        "warnings": [],
        "payment": payment,
    }


async def quotes_page(
    db: Connection, caller: Caller, pages: Pages, *, status: str | None, cursor: str | None, limit: int
) -> dict[str, Any]:
    """A page of the caller's quotes in order of their ids. Raises Problem 400 for a status or cursor that is none."""
    if status is not None and status not in STATUSES:
        raise Problem(400, "unknown_status", f"`status` must be one of {', '.join(STATUSES)}.")
    after = "" if cursor is None else _quote_id_in(cursor)
    rows = await db.fetch(PAGE, caller.account, caller.livemode, after, status, limit + 1)
    more = len(rows) > limit
    return {
        "quotes": [_summary(row, pages) for row in rows[:limit]],
        "next_cursor": _cursor(rows[limit - 1]["quote_id"]) if more else None,
    }


def _summary(row: Record, pages: Pages) -> dict[str, Any]:
    return {
        "quote_id": row["quote_id"],
        "revision": row["published_revision"] or row["revision"],
        "state": _state(row),
        "url": None if row["page_token"] is None else pages.url(row["page_token"]),
        "published_at": time_text(row["published_at"]),
        "expires_at": time_text(row["expires_at"]),
        "recalled_at": time_text(row["recalled_at"]),
        "expired_at": time_text(row["expired_at"]),
        "status": row["status"],
        "label": row["label"],
        "paid_at": time_text(row["paid_at"]),
        "changed_at": time_text(row["changed_at"]),
    }


def _state(row: Record) -> str:
    if row["published_revision"] is None:
        return "not_published"
    if row["recalled_at"] is not None:
        return "recalled"
    return "published" if row["expired_at"] is None else "expired"


def _cursor(quote_id: str) -> str:
    return base64.urlsafe_b64encode(quote_id.encode()).decode().rstrip("=")


def _quote_id_in(cursor: str) -> str:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        quote_id = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except ValueError:
        quote_id = ""
    if not quote_id or not storable(quote_id):
        raise Problem(400, "malformed_cursor", "`cursor` must be a `next_cursor` that an earlier answer gave.")
    return quote_id
