"""Checkout Sessions at Stripe that were made before: ended, or found again by what is written on them.

Both web (a buyer clicks again) and the checkouts worker (recall, expiry) end sessions; it does no harm when they do so at
once, nor when either does so twice.
"""

from collections.abc import Mapping
from typing import Final, Literal

import stripe
from stripe import RequestOptions

PAGE: Final = 100
# A search that ends: the sessions of an account in the minutes around an attempt are fewer than these.
PAGES: Final = 10


class SessionStaysOpen(Exception):
    """Stripe refuses to expire a session, and calls it open all the same."""


async def end_session(
    client: stripe.StripeClient, options: RequestOptions, session_id: str
) -> Literal["complete", "closed"]:
    """See to it that nobody can pay a session any more: `closed`, or `complete` where somebody has handed in payment.

    Raises SessionStaysOpen, stripe.StripeError, aiohttp.ClientError and TimeoutError.
    """
    sessions = client.v1.checkout.sessions
    try:
        await sessions.expire_async(session_id, options=options)
    except stripe.InvalidRequestError as refusal:
        if refusal.http_status == 404:
            return "closed"  # there is none that could be paid
        if refusal.http_status != 400:
            raise
    else:
        return "closed"
    # Only an open one can be expired: it is complete, or expired by itself or by somebody else.
    try:
        session = await sessions.retrieve_async(session_id, options=options)
    except stripe.InvalidRequestError as refusal:
        if refusal.http_status == 404:
            return "closed"
        raise
    if session.status == "open":
        raise SessionStaysOpen(session_id)
    return "complete" if session.status == "complete" else "closed"


async def find_session(
    client: stripe.StripeClient, options: RequestOptions, metadata: Mapping[str, str], since: int
) -> stripe.checkout.Session | None:
    """The session that carries all of `metadata`, made at `since` (Unix seconds) or later; None where there is none.

    Raises stripe.StripeError, aiohttp.ClientError and TimeoutError.
    """
    after: str | None = None
    for _ in range(PAGES):
        page = await client.v1.checkout.sessions.list_async(
            {"created": {"gte": since}, "limit": PAGE, **({"starting_after": after} if after else {})}, options
        )
        for session in page.data:
            written = session.metadata.to_dict() if session.metadata is not None else {}
            if metadata.items() <= written.items():
                return session
        if not page.has_more or not page.data:
            break
        after = page.data[-1].id
    return None
