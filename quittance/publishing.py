"""Publishing and recalling a quote: what the quotes API and messages from the CRM do, in the caller's transaction.

Under a lock on the quote, so that of two who publish at once one is first and the other finds its quote there. What is
published is never changed (R17): the same content again is the same revision, other content is refused until the quote
is recalled, and then makes revision + 1. Each step puts its event into the outbox; the quotes worker tells the CRM.
"""

import json
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from asyncpg import Record

from quittance import outbox
from quittance.checkout_book import close_all
from quittance.domain.publishing.content import read_content
from quittance.domain.publishing.faults import Fault, Faults
from quittance.domain.publishing.policies import HUBSPOT_2023, POLICIES, Policy, step
from quittance.domain.publishing.record import content_hash, content_json, fault_json, totals_json
from quittance.domain.publishing.rules import Draft, faults_of, warnings_of
from quittance.domain.publishing.totals import totals_of
from quittance.event import Event, first_event
from quittance.expiry import expiry_of
from quittance.locks import Connection, lock
from quittance.settings import Reader

# It stands in addresses, in Stripe's client_reference_id (which takes 200 characters) and in the ids of events.
QUOTE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}")

NEWEST: Final = """
SELECT quote_id, revision, content_hash, content, totals, warnings, page_token, checkout_key, published_at, expires_at,
       recalled_at, expired_at
FROM published_quotes
WHERE account = $1 AND livemode = $2 AND quote_id = $3
ORDER BY revision DESC LIMIT 1
"""
# Under the lock: the time of the transaction's beginning may be that of somebody else's turn.
NOW_AND_ACCOUNT: Final = """
SELECT clock_timestamp() AS now, charges_enabled, deauthorised_at IS NOT NULL AS disconnected
FROM (VALUES (1)) AS one_row LEFT JOIN accounts ON account = $1 AND livemode = $2
"""
INSERT: Final = """
INSERT INTO published_quotes (
    account, livemode, quote_id, revision, content_hash, content, totals, warnings, page_token, checkout_key,
    published_at, expires_at
)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb, $8::jsonb, $9, $10, $11, $12)
RETURNING quote_id, revision, content_hash, content, totals, warnings, page_token, checkout_key, published_at,
          expires_at, recalled_at, expired_at
"""
RECALL: Final = """
UPDATE published_quotes SET recalled_at = clock_timestamp()
WHERE account = $1 AND livemode = $2 AND quote_id = $3 AND revision = $4 AND recalled_at IS NULL
RETURNING quote_id, revision, content_hash, content, totals, warnings, page_token, checkout_key, published_at,
          expires_at, recalled_at, expired_at
"""
# Nobody's lock is needed: a row that a recall or a click on Check out holds is passed over, and is here at the next round.
EXPIRE: Final = """
UPDATE published_quotes SET expired_at = clock_timestamp()
WHERE (account, livemode, quote_id, revision) IN (
    SELECT account, livemode, quote_id, revision FROM published_quotes
    WHERE recalled_at IS NULL AND expired_at IS NULL AND expires_at <= now()
    ORDER BY expires_at LIMIT $1
    FOR UPDATE SKIP LOCKED
)
RETURNING account, livemode, quote_id, revision, expired_at
"""


@dataclass(frozen=True)
class Quote:
    """One revision as published; `content`, `totals` and `warnings` as quittance/domain/publishing/record.py writes them."""

    quote_id: str
    revision: int
    content_hash: bytes
    content: dict[str, Any]
    totals: dict[str, Any]
    warnings: list[dict[str, Any]]
    page_token: str
    checkout_key: str
    published_at: datetime
    expires_at: datetime | None
    recalled_at: datetime | None
    expired_at: datetime | None

    @property
    def state(self) -> str:
        """`published`, `recalled` or `expired`: its life, whatever was paid."""
        if self.recalled_at is not None:
            return "recalled"
        return "expired" if self.expired_at is not None else "published"


@dataclass(frozen=True)
class Published:
    """A new revision."""

    quote: Quote


@dataclass(frozen=True)
class Unchanged:
    """It was published before with the same content, or recalled before."""

    quote: Quote


@dataclass(frozen=True)
class Recalled:
    """It can no longer be checked out."""

    quote: Quote


@dataclass(frozen=True)
class Conflict:
    """Something else is published under this id: `fault` says what to do."""

    quote: Quote
    fault: Fault


@dataclass(frozen=True)
class Refused:
    """Every rule that the quote breaks."""

    faults: list[Fault]


def currency_policy(reader: Reader) -> Policy:
    """CURRENCY_POLICY: `hubspot-2023` (the article's lists, the default) or `stripe-2026` (what Stripe takes)."""
    return POLICIES[reader.choice("CURRENCY_POLICY", HUBSPOT_2023.name, tuple(POLICIES))]


async def publish(
    db: Connection, account: str, livemode: bool, quote_id: str, body: object, *, policy: Policy
) -> Published | Unchanged | Conflict | Refused:
    """Publish `body` (decoded JSON) as `quote_id`."""
    faults = Faults()
    if not QUOTE_ID.fullmatch(quote_id):
        allowed = "1 to 200 letters, digits and ._:~-, beginning with a letter or digit"
        faults.add(
            "format", "quote_id_malformed", f"The quote's id must be {allowed}.", given=quote_id, allowed=allowed
        )
    content = read_content(body, faults)
    if content is None or faults.found:
        return Refused(faults.found)
    await lock(db, "publishing", [(account, livemode, quote_id)])
    newest = await find(db, account, livemode, quote_id)
    if newest is not None and newest.recalled_at is None:
        # Before the rules: what was published is not refused for what has changed since (its expiry, the account).
        return (
            Unchanged(newest) if newest.content_hash == content_hash(content) else Conflict(newest, _conflict(newest))
        )
    now, charges_enabled, disconnected = await _found_out(db, account, livemode)
    expires_at = expiry_of(content, faults)
    expired = expires_at is not None and expires_at <= now
    totals = totals_of(content, step(content.currency))
    draft = Draft(content, totals, policy, expired=expired, charges_enabled=charges_enabled, disconnected=disconnected)
    if broken := faults.found + faults_of(draft):
        return Refused(broken)
    revision = 1 if newest is None else newest.revision + 1
    (row,) = await db.fetch(
        INSERT,
        account,
        livemode,
        quote_id,
        revision,
        content_hash(content),
        _json(content_json(content)),
        _json(totals_json(content, totals)),
        _json([fault_json(warning) for warning in warnings_of(draft)]),
        secrets.token_urlsafe(24),
        secrets.token_hex(16),
        now,
        expires_at,
    )
    quote = _quote(row)
    await outbox.write(db, [_published(account, livemode, quote)])
    return Published(quote)


async def recall(
    db: Connection, account: str, livemode: bool, quote_id: str, revision: int | None = None
) -> Recalled | Unchanged | Conflict | None:
    """Take the quote back; None where none of this id was published. With `revision`, that one only: somebody who asks
    again does not recall what has been published since.
    """
    await lock(db, "publishing", [(account, livemode, quote_id)])
    newest = await find(db, account, livemode, quote_id)
    if newest is None:
        return None
    if revision is not None and revision != newest.revision:
        message = f"Revision {newest.revision} is the newest."
        return Conflict(
            newest, Fault("R17", "not_the_newest_revision", message, given=revision, allowed=newest.revision)
        )
    row = await db.fetchrow(RECALL, account, livemode, quote_id, newest.revision)
    if row is None:
        return Unchanged(newest)
    await close_all(db, [(account, livemode, quote_id, newest.revision)])
    await outbox.write(db, [_ended("quote.recalled", account, livemode, row, row["recalled_at"])])
    return Recalled(_quote(row))


async def expire(db: Connection, most: int) -> int:
    """Let at most `most` quotes expire whose time is up, each once; how many there were."""
    rows = await db.fetch(EXPIRE, most)
    await close_all(db, [(row["account"], row["livemode"], row["quote_id"], row["revision"]) for row in rows])
    events = [_ended("quote.expired", row["account"], row["livemode"], row, row["expired_at"]) for row in rows]
    await outbox.write(db, events)
    return len(rows)


async def find(db: Connection, account: str, livemode: bool, quote_id: str) -> Quote | None:
    """The newest revision."""
    row = await db.fetchrow(NEWEST, account, livemode, quote_id)
    return None if row is None else _quote(row)


def _conflict(newest: Quote) -> Fault:
    message = f"Revision {newest.revision} is published with other content: recall the quote, then publish again."
    return Fault("R17", "published_with_other_content", message)


async def _found_out(db: Connection, account: str, livemode: bool) -> tuple[datetime, bool | None, bool]:
    (row,) = await db.fetch(NOW_AND_ACCOUNT, account, livemode)
    return row["now"], row["charges_enabled"], row["disconnected"]


def _published(account: str, livemode: bool, quote: Quote) -> Event:
    content, totals = quote.content, quote.totals
    subject = {
        "quote_id": quote.quote_id,
        "revision": quote.revision,
        "number": content.get("number"),
        "title": content["title"],
        "currency": content["currency"],
        "exponent": totals["exponent"],
        "amount_due": totals["due"],
        "payment_enabled": content["payment_enabled"],
        "locale": content["locale"],
        "time_zone": content["time_zone"],
        "expires_at": None if quote.expires_at is None else int(quote.expires_at.timestamp()),
        "deal_id": content.get("deal_id"),
        "owner": {"name": None, "email": None} | content.get("owner", {}),
        "checkout_key": quote.checkout_key,
    }
    return _event("quote.published", account, livemode, subject, quote.published_at)


def _ended(event_type: str, account: str, livemode: bool, row: Record, at: datetime) -> Event:
    subject = {"quote_id": row["quote_id"], "revision": row["revision"]}
    return _event(event_type, account, livemode, subject, at)


def _event(event_type: str, account: str, livemode: bool, subject: dict[str, Any], at: datetime) -> Event:
    return first_event(
        f"{event_type}:{subject['quote_id']}:{subject['revision']}",
        event_type,
        subject,
        account=account,
        livemode=livemode,
        at=at.timestamp(),
        stream=subject["quote_id"],
    )


def _quote(row: Record) -> Quote:
    fields = dict(row)
    for name in ("content", "totals", "warnings"):
        fields[name] = json.loads(fields[name])
    return Quote(**fields)


def _json(value: object) -> str:
    # The standard library's: a net price may have more than 64 bits, as long as what is due has not.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
