"""Checkouts: what became of the Checkout Sessions that we made; and their end, with that of their quote (R16, R28).

Consumes  quittance.events  quote.recalled, quote.expired: its sessions are to be closed, its coupon to be archived
          stripe.events     checkout.session.*: how far our own sessions have come; anybody else's are passed over
Writes    checkout_sessions, quote_coupons: their states, which only rise
Emits     nothing
Asks      Stripe, to expire sessions of ours and to delete coupons of ours. A coupon goes last, once the quotes worker
          knows of the quote's end: until then its deletion would be somebody's interference (anomaly coupon_changed)
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

from asyncpg import Record

from quittance.broker import QUITTANCE_EVENTS, STRIPE_EVENTS, Queue
from quittance.checkout_book import Key, close_all
from quittance.domain.payload import minor_units
from quittance.domain.quote import quote_id_of
from quittance.errors import Rejected
from quittance.event import Event, data_of, first_event
from quittance.locks import Connection
from quittance.settings import Reader
from quittance.stripe_client import StripeSettings, connected, stripe_settings
from workers.checkout_endings import Archived, Ended, Postponed, StripeEndings, end
from workers.checkout_progress import SAID, follow
from workers.runtime.intake import AT_LEISURE
from workers.runtime.outcomes import Done, Failed, Outcome, Refused, Unavailable

QUEUE: Final = Queue(
    "checkouts",
    {
        QUITTANCE_EVENTS: ("quote.recalled", "quote.expired"),
        STRIPE_EVENTS: (
            "checkout.session.completed",
            "checkout.session.async_payment_succeeded",
            "checkout.session.async_payment_failed",
            "checkout.session.expired",
        ),
    },
)
INTAKE: Final = AT_LEISURE

# What Stripe refused is tried again when the event is handled: its dead letter is this very event, and ends with that.
REARM_SESSIONS: Final = """
UPDATE checkout_sessions SET due_at = now(), attempts = 0, error = ''
WHERE state = 'closing' AND due_at = 'infinity' AND (account, livemode, quote_id, revision) IN (
    SELECT * FROM unnest($1::text[], $2::boolean[], $3::text[], $4::integer[])
)
"""
REARM_COUPONS: Final = """
UPDATE quote_coupons SET due_at = now(), attempts = 0, error = ''
WHERE state = 'archiving' AND due_at = 'infinity' AND (account, livemode, quote_id, revision) IN (
    SELECT * FROM unnest($1::text[], $2::boolean[], $3::text[], $4::integer[])
)
"""
WAKE_PERFORMERS: Final = "SELECT pg_notify('performers', '')"

# Not while web holds a session: its answer may be on its way. A coupon, once nobody can use it any more at Stripe, and
# the quotes worker knows why. `event_type`: what the dead letter is about, should Stripe refuse.
CLAIM: Final = """
WITH due_sessions AS MATERIALIZED (
    SELECT id FROM checkout_sessions
    WHERE state = 'closing' AND due_at <= now() AND (claimed_until IS NULL OR claimed_until < now())
    ORDER BY due_at FOR UPDATE SKIP LOCKED LIMIT $2::bigint
), due_coupons AS MATERIALIZED (
    SELECT coupon.id FROM quote_coupons AS coupon
    WHERE state = 'archiving' AND due_at <= now() AND (claimed_until IS NULL OR claimed_until < now())
      AND NOT EXISTS (
          SELECT FROM checkout_sessions AS session
          WHERE (session.account, session.livemode, session.quote_id, session.revision)
                = (coupon.account, coupon.livemode, coupon.quote_id, coupon.revision)
            AND session.state IN ('creating', 'open', 'closing')
      )
      AND EXISTS (
          SELECT FROM quotes
          WHERE (quotes.account, quotes.livemode, quotes.quote_id)
                = (coupon.account, coupon.livemode, coupon.quote_id)
            AND (quotes.facts -> 'recalled' ? coupon.revision::text OR quotes.facts -> 'expired' ? coupon.revision::text)
      )
    ORDER BY due_at FOR UPDATE OF coupon SKIP LOCKED LIMIT $2::bigint - (SELECT count(*) FROM due_sessions)
), sessions AS (
    UPDATE checkout_sessions AS session SET claim = $1::uuid, claimed_until = now() + interval '30 seconds'
    FROM due_sessions WHERE session.id = due_sessions.id
    RETURNING session.id, account, livemode, quote_id, revision, attempts, created_at, attempt, session_id,
              idempotency_key, params::text AS params, coalesce(expires_at, created_at + interval '1 day') AS ends_at
), coupons AS (
    UPDATE quote_coupons AS coupon SET claim = $1::uuid, claimed_until = now() + interval '30 seconds'
    FROM due_coupons WHERE coupon.id = due_coupons.id
    RETURNING coupon.id, account, livemode, quote_id, revision, attempts, created_at, coupon_id
), claimed AS (
    SELECT 'session' AS kind, id, account, livemode, quote_id, revision, attempts, created_at, attempt, session_id,
           idempotency_key, params, ends_at, NULL AS coupon_id
    FROM sessions
    UNION ALL
    SELECT 'coupon', id, account, livemode, quote_id, revision, attempts, created_at, NULL, NULL, NULL, NULL, NULL, coupon_id
    FROM coupons
), named AS (
    SELECT claimed.kind, claimed.id, account, livemode, quote_id, revision, claimed.attempts, claimed.attempt,
           claimed.session_id, claimed.idempotency_key, claimed.params, claimed.coupon_id,
           claimed.created_at AS began, claimed.ends_at <= now() AS over,
           coalesce(published.recalled_at, published.expired_at, published.published_at) AS event_at,
           CASE WHEN published.recalled_at IS NOT NULL THEN 'quote.recalled'
                WHEN published.expired_at IS NOT NULL THEN 'quote.expired' ELSE 'quote.published' END AS event_type
    FROM claimed JOIN published_quotes AS published USING (account, livemode, quote_id, revision)
)
SELECT kind, id, account, livemode, quote_id, revision, attempts, attempt, session_id, idempotency_key, params, coupon_id,
       began, over, event_at, event_type, event_type || ':' || quote_id || ':' || revision AS event_id
FROM named
"""
# What Stripe's own events have said meanwhile stays: a state that has risen is not closed any more.
SESSION_ENDED: Final = """
UPDATE checkout_sessions
SET state = CASE state WHEN 'closing' THEN $3 ELSE state END, session_id = coalesce(session_id, $4), error = $5,
    attempts = attempts + 1, claim = NULL, claimed_until = NULL
WHERE id = $1 AND claim = $2
"""
COUPON_ARCHIVED: Final = """
UPDATE quote_coupons SET state = 'archived', error = '', attempts = attempts + 1, claim = NULL, claimed_until = NULL
WHERE id = $1 AND claim = $2
"""
# $3: why; $4: seconds until the next attempt, null for never by itself; $5: whether this one counted.
SESSION_WAITS: Final = """
UPDATE checkout_sessions
SET due_at = coalesce(now() + make_interval(secs => $4), 'infinity'), error = $3, attempts = attempts + $5,
    claim = NULL, claimed_until = NULL
WHERE id = $1 AND claim = $2
"""
COUPON_WAITS: Final = """
UPDATE quote_coupons
SET due_at = coalesce(now() + make_interval(secs => $4), 'infinity'), error = $3, attempts = attempts + $5,
    claim = NULL, claimed_until = NULL
WHERE id = $1 AND claim = $2
"""


async def handle(events: Sequence[Event], db: Connection) -> list[Event]:
    """Note how far our sessions have come, and which are to be closed. See the module's page."""
    about = [(_revision(event), event.type) for event in events if event.type not in SAID]
    if about:
        # Whoever ended them marked them in the same transaction, as a rule. A dead letter may also be about a quote that
        # is live, one session of which was to make way for another: then only that is tried again.
        await close_all(db, {revision for revision, event_type in about if event_type != "quote.published"})
        columns = _columns({revision for revision, _ in about})
        await db.execute(REARM_SESSIONS, *columns)
        await db.execute(REARM_COUPONS, *columns)
    if await follow([event for event in events if event.type in SAID], db) or about:
        await db.execute(WAKE_PERFORMERS)
    return []


def outside_settings(reader: Reader) -> StripeSettings:
    """What `outside` needs of the environment."""
    return StripeSettings.read(reader)


@asynccontextmanager
async def outside() -> AsyncIterator[StripeEndings]:
    """What `perform` is given: a client of Stripe's, for the life of the process."""
    settings = stripe_settings()
    async with connected(settings) as client:
        yield StripeEndings(settings, client)


def destination(claim: Record) -> tuple[str, str]:
    """One account's limits and troubles are not another's."""
    return ("stripe", claim["account"])


async def perform(claim: Record, outside: StripeEndings) -> Outcome:
    """Expire a session, or delete a coupon. Done holds Ended, Archived, or Postponed."""
    return await end(claim, outside)


async def settle(claim: Record, outcome: Outcome, token: UUID, db: Connection) -> list[Event]:
    """Record what came of `perform`, where the claim still holds."""
    key = (claim["id"], token)
    waits = SESSION_WAITS if claim["kind"] == "session" else COUPON_WAITS
    match outcome:
        case Done(Ended(state, session_id, note)):
            await db.execute(SESSION_ENDED, *key, state, session_id, note)
            await db.execute(WAKE_PERFORMERS)  # its coupon may go now
        case Done(Archived()):
            await db.execute(COUPON_ARCHIVED, *key)
        case Done(Postponed(why, seconds)):
            await db.execute(waits, *key, why, seconds, 0)
        case Refused(reason, detail):
            await db.execute(waits, *key, f"{reason}: {detail}", None, 1)
        case Unavailable(detail, retry_after):
            await db.execute(waits, *key, detail, retry_after or 0.0, 0)
        case Failed(detail, retry_in):
            await db.execute(waits, *key, detail, retry_in, 1)
        case _:
            raise TypeError(f"perform never returns {outcome!r}")
    return []


def event_behind(claim: Record) -> Event:
    """The quote's own event, for the dead letter: replaying it tries again what was refused."""
    return first_event(
        claim["event_id"],
        claim["event_type"],
        {"quote_id": claim["quote_id"], "revision": claim["revision"]},
        account=claim["account"],
        livemode=claim["livemode"],
        at=claim["event_at"].timestamp(),
        stream=claim["quote_id"],
    )


def _revision(event: Event) -> Key:
    """Which revision an event of ours is about. Raises Rejected where it does not say."""
    subject, _ = data_of(event)
    revision = minor_units(subject, "revision")
    if revision is None or not 1 <= revision < 1 << 31:
        raise Rejected("unreadable_payload", "revision must be a whole number from 1")
    return event.account, event.livemode, quote_id_of(subject), revision


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows turned into the columns that `unnest` takes."""
    return [list(column) for column in zip(*rows, strict=True)]
