"""Attempts that were made before: whether they can still be paid in, and how a click ends one that is in its way."""

from uuid import UUID

import stripe
from asyncpg.pool import Pool

from quittance import checkout_book, stripe_client
from quittance.checkout_book import Attempt
from quittance.database import CONNECT_TIMEOUT
from quittance.stripe_making import NeverMade, make_session
from quittance.stripe_sessions import end_session


async def still_open(pool: Pool, client: stripe.StripeClient, attempt: Attempt) -> bool:
    """Whether an open attempt is open at Stripe too: its webhook may be on its way. Where Stripe does not say, its page will."""
    if attempt.session_id is None:
        return False
    options = stripe_client.options(attempt.account)
    try:
        session = await client.v1.checkout.sessions.retrieve_async(attempt.session_id, options=options)
        status = session.status
    except stripe.InvalidRequestError as refusal:
        if refusal.http_status != 404:
            raise
        status = "expired"
    except (stripe.StripeError, *stripe_client.NO_ANSWER):
        return True
    if status not in ("complete", "expired"):
        return True
    async with pool.acquire(timeout=CONNECT_TIMEOUT) as db:
        await checkout_book.settle(db, attempt.id, "complete" if status == "complete" else "closed")
    return False


async def end_attempt(pool: Pool, client: stripe.StripeClient, attempt: Attempt, claim: UUID) -> None:
    """See to it that nobody can pay in an attempt any more, under its claim. What Stripe's calls raise, this raises."""
    session_id = attempt.session_id
    if session_id is None:
        # Its answer was lost: the same key and parameters say which session it is, or make it, so that it can be ended.
        made = await _made(client, attempt)
        if isinstance(made, NeverMade):
            async with pool.acquire(timeout=CONNECT_TIMEOUT) as db:
                await checkout_book.never_made(db, attempt.id, claim, made.why)
            return
        session_id = made.id
    state = await end_session(client, stripe_client.options(attempt.account), session_id)
    async with pool.acquire(timeout=CONNECT_TIMEOUT) as db:
        await checkout_book.settle(db, attempt.id, state)


async def _made(client: stripe.StripeClient, attempt: Attempt) -> stripe.checkout.Session | NeverMade:
    if attempt.params is None:
        return NeverMade("nothing was sent")
    key, since = attempt.idempotency_key, attempt.created_at
    return await make_session(client, attempt.account, key, attempt.params, since=since)
