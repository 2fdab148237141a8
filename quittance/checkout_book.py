"""The book of attempts to pay a quote, and of its coupons: what web and the checkouts worker write there.

An attempt's state only rises (schema.sql, checkout_sessions), and at most one attempt of a quote is neither complete nor
closed. Whoever calls Stripe for one holds its claim until `claimed_until`; anybody may go on after that, with the same
key and parameters, which makes it the same session.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

import stripe
from asyncpg import Record

from quittance.domain.publishing.offer import AttemptState
from quittance.locks import Connection

Key = tuple[str, bool, str, int]  # account, livemode, quote id, revision

LEASE: Final = 30.0  # seconds; all calls to Stripe under one claim end before

UNSETTLED: Final = """
SELECT id, account, livemode, quote_id, revision, attempt, state, idempotency_key, params, session_id, url, expires_at,
       created_at, claimed_until
FROM checkout_sessions
WHERE account = $1 AND livemode = $2 AND quote_id = $3 AND state IN ('creating', 'open', 'closing')
FOR UPDATE
"""
NEXT_ATTEMPT: Final = """
SELECT coalesce(max(attempt), 0) + 1 FROM checkout_sessions
WHERE account = $1 AND livemode = $2 AND quote_id = $3 AND revision = $4
"""
INSERT: Final = """
INSERT INTO checkout_sessions (
    account, livemode, quote_id, revision, attempt, state, idempotency_key, created_at, claim, claimed_until
)
VALUES ($1, $2, $3, $4, $5, 'creating', $6, clock_timestamp(), $7, clock_timestamp() + make_interval(secs => $8))
RETURNING id, account, livemode, quote_id, revision, attempt, state, idempotency_key, params, session_id, url, expires_at,
          created_at, claimed_until
"""
NOTE_COUPON: Final = """
INSERT INTO quote_coupons (account, livemode, quote_id, revision, coupon_id, state) VALUES ($1, $2, $3, $4, $5, 'live')
ON CONFLICT (account, livemode, quote_id, revision) DO NOTHING
"""
TAKE: Final = """
UPDATE checkout_sessions
SET state = $3, claim = $2, claimed_until = clock_timestamp() + make_interval(secs => $4)
WHERE id = $1
RETURNING id, account, livemode, quote_id, revision, attempt, state, idempotency_key, params, session_id, url, expires_at,
          created_at, claimed_until
"""
# What is sent is what the table gives back, the same each time: jsonb has an order of its own.
PREPARE: Final = """
UPDATE checkout_sessions SET params = $3::jsonb, expires_at = $4
WHERE id = $1 AND claim = $2 AND params IS NULL
RETURNING params
"""
# A recall may have come first, and even a webhook: neither is undone.
OPENED: Final = """
UPDATE checkout_sessions
SET state = CASE state WHEN 'creating' THEN 'open' ELSE state END, session_id = $3, url = $4, expires_at = $5,
    claim = NULL, claimed_until = NULL, due_at = clock_timestamp(), error = ''
WHERE id = $1 AND claim = $2
RETURNING state
"""
RELEASE: Final = """
UPDATE checkout_sessions
SET claim = NULL, claimed_until = NULL, due_at = clock_timestamp(), error = $3
WHERE id = $1 AND claim = $2
"""
NEVER_MADE: Final = """
UPDATE checkout_sessions
SET state = 'closed', claim = NULL, claimed_until = NULL, error = $3
WHERE id = $1 AND claim = $2 AND state IN ('creating', 'closing')
"""
RAISE: Final = """
UPDATE checkout_sessions
SET state = $2, claim = NULL, claimed_until = NULL, error = ''
WHERE id = $1 AND (state IN ('creating', 'open', 'closing') OR (state = 'complete' AND $2 = 'closed'))
"""
CLOSE_SESSIONS: Final = """
UPDATE checkout_sessions
SET state = 'closing', due_at = clock_timestamp(), attempts = 0, error = ''
WHERE state IN ('creating', 'open') AND (account, livemode, quote_id, revision) IN (
    SELECT * FROM unnest($1::text[], $2::boolean[], $3::text[], $4::integer[])
)
"""
ARCHIVE_COUPONS: Final = """
UPDATE quote_coupons
SET state = 'archiving', due_at = clock_timestamp(), attempts = 0, error = ''
WHERE state = 'live' AND (account, livemode, quote_id, revision) IN (
    SELECT * FROM unnest($1::text[], $2::boolean[], $3::text[], $4::integer[])
)
"""
# The checkouts worker's performer sleeps until there is something to do.
WAKE: Final = "SELECT pg_notify('performers', '')"


@dataclass(frozen=True)
class Attempt:
    """A row of checkout_sessions."""

    id: int
    account: str
    livemode: bool
    quote_id: str
    revision: int
    attempt: int
    state: AttemptState
    idempotency_key: str
    params: dict[str, Any] | None
    session_id: str | None
    url: str | None
    expires_at: datetime | None
    created_at: datetime
    claimed_until: datetime | None


async def unsettled(db: Connection, account: str, livemode: bool, quote_id: str) -> Attempt | None:
    """The one attempt of a quote, of whichever revision, that could be paid or may come to be; its row is locked."""
    row = await db.fetchrow(UNSETTLED, account, livemode, quote_id)
    return None if row is None else _attempt(row)


async def next_attempt(db: Connection, revision: Key) -> int:
    """The number of the revision's next attempt, from 1."""
    number = await db.fetchval(NEXT_ATTEMPT, *revision)
    return int(number)


async def insert(
    db: Connection, revision: Key, attempt: int, claim: UUID, *, key: str, coupon_id: str | None
) -> Attempt:
    """Begin an attempt under a claim, and note the coupon that it needs, so that a recall finds both."""
    if coupon_id is not None:
        await db.execute(NOTE_COUPON, *revision, coupon_id)
    (row,) = await db.fetch(INSERT, *revision, attempt, key, claim, LEASE)
    return _attempt(row)


async def take(db: Connection, attempt: Attempt, state: AttemptState, claim: UUID) -> Attempt:
    """Claim an attempt that nobody is at (the caller holds its row), and raise it to `state`."""
    (row,) = await db.fetch(TAKE, attempt.id, claim, state, LEASE)
    return _attempt(row)


async def prepare(
    db: Connection, attempt_id: int, claim: UUID, params: dict[str, Any], expires_at: datetime
) -> dict[str, Any] | None:
    """Note what will be sent, before it is; as it is to be sent. None where the claim is lost."""
    kept = await db.fetchval(PREPARE, attempt_id, claim, json.dumps(params), expires_at)
    return None if kept is None else dict(json.loads(kept))


async def opened(db: Connection, attempt_id: int, claim: UUID, session: stripe.checkout.Session) -> AttemptState | None:
    """Stripe made the session. The attempt's state from now on: `open`, or what came in between; None where the claim is
    lost, to somebody who has made the same session with the same key.
    """
    ends_at = datetime.fromtimestamp(session.expires_at, UTC)
    state: AttemptState | None = await db.fetchval(OPENED, attempt_id, claim, session.id, session.url, ends_at)
    if state == "closing":
        await db.execute(WAKE)
    return state


async def release(db: Connection, attempt_id: int, claim: UUID, error: str) -> None:
    """Give a claim back: what became of the call is not known, and the next one goes on at once."""
    await db.execute(RELEASE, attempt_id, claim, error)
    await db.execute(WAKE)


async def never_made(db: Connection, attempt_id: int, claim: UUID, why: str) -> None:
    """There is no session of this attempt and there will be none: the next one may begin."""
    await db.execute(NEVER_MADE, attempt_id, claim, why)


async def settle(db: Connection, attempt_id: int, state: Literal["complete", "closed"]) -> None:
    """An attempt came to its end, as Stripe says; whoever's claim it is."""
    await db.execute(RAISE, attempt_id, state)


async def close_all(db: Connection, revisions: Iterable[Key]) -> None:
    """What these revisions have open is to be expired, and their coupons archived, by the checkouts worker; to be called
    in the transaction that recalls them or lets them expire. May be repeated.

    Claims are left alone: a call that is under way ends before the worker goes on.
    """
    columns = [list(column) for column in zip(*revisions, strict=True)]
    if columns:
        await db.execute(CLOSE_SESSIONS, *columns)
        await db.execute(ARCHIVE_COUPONS, *columns)
        await db.execute(WAKE)


def _attempt(row: Record) -> Attempt:
    fields = dict(row)
    fields["params"] = None if row["params"] is None else json.loads(row["params"])
    return Attempt(**fields)
