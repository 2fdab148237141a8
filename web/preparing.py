"""What a Checkout Session needs at Stripe before it can be made: the coupon of its quote, and who the buyer is there."""

from typing import Final

import stripe
from asyncpg.pool import Pool
from stripe.params import CouponCreateParams

from quittance import stripe_client
from quittance.database import CONNECT_TIMEOUT
from quittance.domain.customers import normalised
from quittance.domain.publishing.checkout import Buyer, Revision, Words, coupon_params

# The address's canonical customer (R18).
CUSTOMER: Final = """
SELECT stripe_customer_id FROM customers WHERE account = $1 AND livemode = $2 AND email_normalised = $3
"""


class CouponDiffers(Exception):
    """There is a coupon of the quote's id at Stripe with another discount: nobody shall pay another price than the page's."""


async def ensure_coupon(client: stripe.StripeClient, revision: Revision, words: Words) -> None:
    """See to it that the revision's coupon is at Stripe, where it has a discount (R15). It is never changed there (R16); one
    that somebody deleted by hand is made again, since the published price stands until the quote is recalled (R17).

    Its id is its idempotency key: a kept answer would hide that it was deleted. Raises CouponDiffers, and what Stripe's
    calls raise.
    """
    wanted = coupon_params(revision, words)
    if wanted is None:
        return
    options = stripe_client.options(revision.account)
    try:
        await client.v1.coupons.create_async(_typed(wanted), options)
    except stripe.InvalidRequestError as refusal:
        if refusal.code != "resource_already_exists":
            raise
        there = await client.v1.coupons.retrieve_async(wanted["id"], options=options)
        metadata = {} if there.metadata is None else there.metadata.to_dict()
        same = all(getattr(there, name) == wanted[name] for name in ("amount_off", "currency", "duration"))
        if not (same and there.valid and revision.metadata.items() <= metadata.items()):
            raise CouponDiffers from refusal


async def find_buyer(client: stripe.StripeClient, pool: Pool, revision: Revision) -> Buyer:
    """The customer who has the contact's address (R18): ours where we know one, else the oldest of Stripe's; else the
    address alone. Nobody is made here: who does not pay shall be no customer.
    """
    email, address = revision.content.contact_email, normalised(revision.content.contact_email)
    if email is None or address is None:
        return Buyer()
    async with pool.acquire(timeout=CONNECT_TIMEOUT) as db:
        known = await db.fetchval(CUSTOMER, revision.account, revision.livemode, address)
    if known is not None:
        return Buyer(customer=known, email=email)
    options = stripe_client.options(revision.account)
    found: list[stripe.Customer] = []
    for spelling in sorted({email, email.lower()}):  # Stripe compares addresses letter by letter, in their case
        page = await client.v1.customers.list_async({"email": spelling, "limit": 100}, options)
        found += page.data
    oldest = min(found, key=lambda customer: (customer.created, customer.id), default=None)
    return Buyer(email=email) if oldest is None else Buyer(customer=oldest.id, email=email)


def _typed(params: dict[str, object]) -> CouponCreateParams:
    return params  # type: ignore[return-value]
