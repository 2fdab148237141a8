"""The end of sessions and coupons at Stripe: the outside part of the checkouts worker."""

import asyncio
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import msgspec
import stripe
import structlog
from asyncpg import Record
from stripe import RequestOptions

from quittance.stripe_client import NO_ANSWER, StripeSettings, options
from quittance.stripe_making import NeverMade, make_session
from quittance.stripe_sessions import SessionStaysOpen, end_session
from workers.runtime.outcomes import Done, Failed, Outcome, Unavailable
from workers.stripe_customers import outcome_of

log = structlog.get_logger(__name__)

# The calls of an attempt must end before the runtime gives it up (20 s), and that before the lease does (30 s).
ATTEMPT_TIMEOUT: Final = 18.0
# Until a key of the right mode may have been set (seconds).
LOOK_AGAIN: Final = 600.0


@dataclass(frozen=True)
class StripeEndings:
    """Stripe's API, for our own account and those connected to it."""

    settings: StripeSettings
    client: stripe.StripeClient


class Ended(NamedTuple):
    """Nobody can pay this session any more: `closed`, or `complete` where somebody has; and what an SRE may want to know."""

    state: Literal["complete", "closed"]
    session_id: str | None
    note: str = ""


class Archived(NamedTuple):
    """The coupon is gone at Stripe."""


class Postponed(NamedTuple):
    """Stripe was not called, why, and when to look again (seconds)."""

    why: str
    seconds: float


async def end(claim: Record, outside: StripeEndings) -> Outcome:
    """Perform a row of checkout_sessions or quote_coupons; Done holds Ended, Archived, or Postponed."""
    why = outside.settings.silent(claim["livemode"])
    if why is not None:
        return Done(Postponed(why, LOOK_AGAIN))
    account = options(claim["account"])
    try:
        async with asyncio.timeout(ATTEMPT_TIMEOUT):
            if claim["kind"] == "coupon":
                return await _archive(claim["coupon_id"], outside.client, account)
            outcome = await _close(claim, outside.client, account)
    except stripe.StripeError as error:
        return outcome_of(error)
    except SessionStaysOpen:
        return Failed("Stripe will not expire the session, and calls it open")
    except NO_ANSWER as error:
        return Unavailable(f"no answer: {type(error).__name__}")
    if isinstance(outcome, Done):
        log.info("session.closed", quote_id=claim["quote_id"], attempt=claim["attempt"], state=outcome.result.state)
    return outcome


async def _archive(coupon_id: str, client: stripe.StripeClient, account: RequestOptions) -> Outcome:
    """Delete a coupon. Whoever has its discount already keeps it."""
    try:
        await client.v1.coupons.delete_async(coupon_id, options=account)
    except stripe.InvalidRequestError as refusal:
        if refusal.http_status != 404:
            raise
    return Done(Archived())


async def _close(claim: Record, client: stripe.StripeClient, account: RequestOptions) -> Outcome:
    session_id = claim["session_id"]
    if session_id is not None:
        return Done(Ended(await end_session(client, account, session_id), session_id))
    if claim["params"] is None:
        return Done(Ended("closed", None, "Stripe was never asked for it"))
    if claim["over"]:  # which is sooner than Stripe forgets a key, 24 h
        return Done(Ended("closed", None, "Stripe never told its id, and its time is up"))
    # The same request with the same key gives the session that was made, or makes it: then there is one to expire, and
    # whoever still waits for an answer to the first request gets the same.
    params = msgspec.json.decode(claim["params"])
    made = await make_session(client, claim["account"], claim["idempotency_key"], params, claim["began"])
    if isinstance(made, NeverMade):
        return Done(Ended("closed", None, f"Stripe never made it: {made.why}"))
    return Done(Ended(await end_session(client, account, made.id), made.id))
