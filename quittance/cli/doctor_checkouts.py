"""What is left to end at Stripe: Checkout Sessions of quotes that are over, and the coupons behind them."""

from typing import Final

from asyncpg import Record

from quittance.cli.doctor_checks import Area, Check
from quittance.cli.output import count, length
from quittance.locks import Connection

# Refused for good: never due again by itself.
SESSIONS: Final = """
SELECT count(*) AS waiting,
       count(*) FILTER (WHERE due_at = 'infinity') AS refused,
       max(error) FILTER (WHERE due_at = 'infinity') AS refusal,
       count(*) FILTER (WHERE due_at < now() - interval '1 minute') AS late,
       extract(epoch FROM now() - min(due_at) FILTER (WHERE due_at < now() - interval '1 minute'))::float8 AS oldest,
       count(*) FILTER (WHERE due_at < 'infinity' AND error <> '') AS troubled,
       max(error) FILTER (WHERE due_at < 'infinity' AND error <> '') AS error
FROM checkout_sessions WHERE state = 'closing'
"""
# `untold`: only the quotes worker's word is missing.
COUPONS: Final = """
WITH free AS (
    SELECT account, livemode, quote_id, revision, due_at, error
    FROM quote_coupons AS coupon
    WHERE state = 'archiving' AND NOT EXISTS (
        SELECT FROM checkout_sessions AS session
        WHERE (session.account, session.livemode, session.quote_id, session.revision)
              = (coupon.account, coupon.livemode, coupon.quote_id, coupon.revision)
          AND session.state IN ('creating', 'open', 'closing')
    )
), judged AS (
    SELECT free.due_at, free.error,
           coalesce(facts -> 'recalled' ? free.revision::text OR facts -> 'expired' ? free.revision::text, false) AS told
    FROM free LEFT JOIN quotes USING (account, livemode, quote_id)
)
SELECT count(*) AS waiting,
       count(*) FILTER (WHERE due_at = 'infinity') AS refused,
       max(error) FILTER (WHERE due_at = 'infinity') AS refusal,
       count(*) FILTER (WHERE told AND due_at < now() - interval '1 minute') AS late,
       count(*) FILTER (WHERE NOT told AND due_at < now() - interval '1 minute') AS untold,
       count(*) FILTER (WHERE due_at < 'infinity' AND error <> '') AS troubled,
       max(error) FILTER (WHERE due_at < 'infinity' AND error <> '') AS error
FROM judged
"""

REPLAY: Final = (
    "`quittance dead-letters list --queue checkouts` says why; mend it (the key, the account), then replay them; or expire "
    "them in Stripe's dashboard"
)
START: Final = "start `python -m workers checkouts`; where it runs, its logs say what Stripe answers"
AGAIN: Final = (
    "each is tried again by itself; set STRIPE_API_KEY for the checkouts worker where that is what is missing"
)


async def check_checkouts(db: Connection) -> list[Check]:
    """What recalled and expired quotes have left at Stripe."""
    sessions, coupons = await db.fetchrow(SESSIONS), await db.fetchrow(COUPONS)
    if sessions is None or coupons is None:
        return []
    return [*_sessions(sessions), *_coupons(coupons)]


def _sessions(row: Record) -> list[Check]:
    """A buyer who has such a session open can still pay."""
    area = Area("sessions at Stripe")
    if row["refused"]:
        number = count(row["refused"], "session")
        area.fault(f"{number} of ended quotes could not be expired at Stripe: {row['refusal']}", REPLAY)
    if row["late"]:
        why = f", the last error: {row['error']}" if row["error"] else ""
        area.fault(
            f"{count(row['late'], 'session')} of ended quotes should have been expired at Stripe, the first "
            f"{length(row['oldest'])} ago{why}",
            START,
        )
    elif row["troubled"]:
        area.warning(f"{count(row['troubled'], 'session')} of ended quotes wait to be expired: {row['error']}", AGAIN)
    if not area.checks:
        area.ok(f"{row['waiting'] or 'none'} to be expired")
    return area.checks


def _coupons(row: Record) -> list[Check]:
    """They give their discount to nobody any more; they only lie about in the seller's account."""
    area = Area("coupons at Stripe")
    if row["refused"]:
        area.warning(f"{count(row['refused'], 'coupon')} could not be deleted at Stripe: {row['refusal']}", REPLAY)
    if row["late"]:
        area.warning(f"{count(row['late'], 'coupon')} of ended quotes should have been deleted at Stripe", START)
    elif row["troubled"]:
        area.warning(f"{count(row['troubled'], 'coupon')} of ended quotes wait to be deleted: {row['error']}", AGAIN)
    if row["untold"]:
        area.warning(
            f"{count(row['untold'], 'coupon')} wait until the quotes worker knows of their quote's end",
            "start `python -m workers quotes` and `relay`; where they run: `quittance dead-letters list --queue quotes`",
        )
    if not area.checks:
        area.ok(f"{row['waiting'] or 'none'} to be deleted")
    return area.checks
