"""Everything that is known of one quote, from every worker's tables."""

from typing import Any, Final

import msgspec

from quittance.cli.changes import with_difference
from quittance.cli.selection import LIMIT_OF_ONE_QUOTE, Selection, matching
from quittance.domain.quote import QuoteFacts
from quittance.domain.tracked import Tracked
from quittance.locks import Connection

QUOTES: Final = """
SELECT account, livemode, quote_id, sequence, facts::text AS facts, data::text AS data, number, title, locale, time_zone,
       first_seen_at, changed_at
FROM quotes
WHERE quote_id = $1 AND ($2::text IS NULL OR account = $2) AND ($3::boolean IS NULL OR livemode = $3)
ORDER BY account, livemode
"""
OBJECTS: Final = """
SELECT object_id, kind, snapshot::text AS snapshot, changed_at FROM stripe_objects
WHERE account = $1 AND livemode = $2 AND quote_id = $3 ORDER BY kind, object_id
"""
CHANGES: Final = """
SELECT sequence, previous, status, label, cause_id, cause_type, data::text AS data, changed_at FROM quote_status_changes
WHERE account = $1 AND livemode = $2 AND quote_id = $3 ORDER BY sequence
"""
DOCUMENTS: Final = """
SELECT object_id, kind, number, status, currency, amount, amount_paid, amount_refunded, url, pdf_url, changed_at
FROM documents WHERE account = $1 AND livemode = $2 AND quote_id = $3 ORDER BY object_id
"""
CUSTOMERS: Final = """
SELECT whose.session_id, coalesce(whose.email_normalised, alias.email_normalised) AS email_normalised, customer.email,
       customer.stripe_customer_id,
       ARRAY(SELECT other.stripe_customer_id FROM customer_aliases AS other
             WHERE other.account = whose.account AND other.livemode = whose.livemode
               AND other.email_normalised = customer.email_normalised AND NOT other.deleted
             ORDER BY 1) AS aliases,
       request.state AS request_state, request.due_at AS request_due_at, request.error AS request_error
FROM quote_customers AS whose
LEFT JOIN customer_aliases AS alias USING (account, livemode, stripe_customer_id)
LEFT JOIN customers AS customer
    ON customer.account = whose.account AND customer.livemode = whose.livemode
   AND customer.email_normalised = coalesce(whose.email_normalised, alias.email_normalised)
LEFT JOIN customer_requests AS request
    ON request.account = whose.account AND request.livemode = whose.livemode
   AND request.email_normalised = coalesce(whose.email_normalised, alias.email_normalised)
WHERE whose.account = $1 AND whose.livemode = $2 AND whose.quote_id = $3 ORDER BY whose.session_id
"""
MAILS: Final = """
SELECT revision, kind, recipient, subject, state, due_at, attempts, error, created_at, sent_at FROM emails
WHERE account = $1 AND livemode = $2 AND quote_id = $3 ORDER BY id
"""
# A date beyond all others is how `never by itself` is kept.
ATTEMPTS: Final = """
SELECT revision, attempt, state, session_id, created_at, expires_at, nullif(due_at, 'infinity') AS due_at, attempts, error
FROM checkout_sessions WHERE account = $1 AND livemode = $2 AND quote_id = $3 ORDER BY revision, attempt
"""
COUPONS: Final = """
SELECT revision, coupon_id, state, created_at, nullif(due_at, 'infinity') AS due_at, attempts, error
FROM quote_coupons WHERE account = $1 AND livemode = $2 AND quote_id = $3 ORDER BY revision
"""
UNPUBLISHED: Final = """
SELECT destination, count(*) AS changes, min(queued_at) AS oldest FROM outbox
WHERE stream = $1 AND headers ->> 'account' = $2 AND (headers ->> 'livemode')::boolean = $3
GROUP BY destination ORDER BY destination
"""
FAILED: Final = """
SELECT id, queue, event_id, type, state, reason, error, attempts, last_failed_at, next_at FROM failed_deliveries
WHERE id = ANY ($1::bigint[]) AND account = $2 AND livemode = $3 ORDER BY id
"""


class Quote(msgspec.Struct):
    """One quote with all that hangs on it; rows as dictionaries, `data` that of its newest CRM event."""

    row: dict[str, Any]
    data: dict[str, Any]
    facts: QuoteFacts
    objects: dict[str, Tracked]
    changes: list[dict[str, Any]]
    documents: list[dict[str, Any]]
    customers: list[dict[str, Any]]
    mails: list[dict[str, Any]]
    attempts: list[dict[str, Any]]  # to pay it in a Checkout Session that we made
    coupons: list[dict[str, Any]]
    unpublished: list[dict[str, Any]]
    failed: list[dict[str, Any]]


async def find(db: Connection, quote_id: str, account: str | None, live: bool | None) -> list[dict[str, Any]]:
    """The quotes of that id: one in each account and mode that has one."""
    return [dict(row.items()) for row in await db.fetch(QUOTES, quote_id, account, live)]


async def load(db: Connection, row: dict[str, Any]) -> Quote:
    """All that hangs on a quote, given its row."""
    account, livemode, quote_id = key = (row["account"], row["livemode"], row["quote_id"])
    selection = Selection(
        states=("dead", "retrying", "replaying", "discarded"), quote=quote_id, account=account, livemode=livemode
    )
    failed_ids = await matching(db, selection, LIMIT_OF_ONE_QUOTE)
    changes = await _rows(db, CHANGES, *key)
    before = None
    for change in changes:
        data = msgspec.json.decode(change["data"])
        change["changed"] = with_difference(data, before)["changed"]
        change["data"] = before = data
    return Quote(
        row={name: value for name, value in row.items() if name not in ("facts", "data")},
        data=msgspec.json.decode(row["data"]),
        facts=msgspec.json.decode(row["facts"], type=QuoteFacts),
        objects={
            one["object_id"]: msgspec.json.decode(one["snapshot"], type=Tracked)
            for one in await _rows(db, OBJECTS, *key)
        },
        changes=changes,
        documents=await _rows(db, DOCUMENTS, *key),
        customers=await _rows(db, CUSTOMERS, *key),
        mails=await _rows(db, MAILS, *key),
        attempts=await _rows(db, ATTEMPTS, *key),
        coupons=await _rows(db, COUPONS, *key),
        unpublished=await _rows(db, UNPUBLISHED, quote_id, account, livemode),
        failed=await _rows(db, FAILED, failed_ids, account, livemode),
    )


async def _rows(db: Connection, statement: str, *arguments: object) -> list[dict[str, Any]]:
    return [dict(row.items()) for row in await db.fetch(statement, *arguments)]
