"""Published quotes, and attempts to pay them as web leaves them behind, answered by Stripe or not."""

import json
import time
from typing import Any, NamedTuple

from asyncpg.pool import Pool

from quittance import publishing
from quittance.domain.publishing.policies import HUBSPOT_2023
from quittance.event import Event, first_event
from quittance.stripe_client import connected, options, stripe_settings
from tests.fakes.stripe import StripeApi
from tests.support.handling import accepted

DAY = 86_400
AMOUNT = 10_000

ATTEMPT = """
INSERT INTO checkout_sessions (account, livemode, quote_id, revision, attempt, state, idempotency_key, params, session_id,
                               url, expires_at, claim, claimed_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, to_timestamp($11), $12, $13)
"""
COUPON = """
INSERT INTO quote_coupons (account, livemode, quote_id, revision, coupon_id, state) VALUES ($1, $2, $3, $4, $5, 'live')
"""


class Quote(NamedTuple):
    """A revision that was published."""

    account: str
    livemode: bool
    quote_id: str
    revision: int
    checkout_key: str

    def metadata(self, attempt: int = 1) -> dict[str, str]:
        """What a session of it carries."""
        return {
            "quote_id": self.quote_id,
            "quote_revision": str(self.revision),
            "quote_checkout_key": self.checkout_key,
            "quote_attempt": str(attempt),
        }


async def published(
    database: Pool, quote_id: str = "Q-1", *, account: str = "self", livemode: bool = False, **given: Any
) -> Quote:
    """Publish a quote; `quote.published` waits in the outbox."""
    body = {
        "title": "A quote",
        "currency": "USD",
        "owner": {"name": "Sal Seller", "email": "sal@example.com"},
        "line_items": [{"name": "Consulting", "quantity": 1, "unit_amount": AMOUNT}],
        **given,
    }
    async with database.acquire() as db, db.transaction():
        answer = await publishing.publish(db, account, livemode, quote_id, body, policy=HUBSPOT_2023)
    assert isinstance(answer, publishing.Published), answer
    return Quote(account, livemode, quote_id, answer.quote.revision, answer.quote.checkout_key)


def parameters(quote: Quote, attempt: int = 1, *, coupon: str | None = None, lasts: int = DAY - 60) -> dict[str, Any]:
    """A session of it."""
    price = {"currency": "usd", "unit_amount": AMOUNT, "product_data": {"name": "Consulting"}}
    return {
        "mode": "payment",
        "client_reference_id": quote.quote_id,
        "line_items": [{"quantity": 1, "price_data": price}],
        "metadata": quote.metadata(attempt),
        "payment_intent_data": {"metadata": quote.metadata(attempt)},
        "success_url": "https://quotes.example.com/q/token/return",
        "expires_at": int(time.time()) + lasts,
        **({"discounts": [{"coupon": coupon}]} if coupon else {}),
    }


def key_of(quote: Quote, attempt: int = 1) -> str:
    """The idempotency key of an attempt."""
    return f"key-{quote.account}-{quote.livemode}-{quote.quote_id}-{quote.revision}-{attempt}"


async def make(quote: Quote, params: dict[str, Any], attempt: int = 1) -> Any:
    """Ask Stripe for a session, as web does."""
    async with connected(stripe_settings()) as client:
        given = options(quote.account, key_of(quote, attempt))
        return await client.v1.checkout.sessions.create_async(params, given)  # type: ignore[arg-type]


async def begun(
    database: Pool, quote: Quote, attempt: int = 1, *, told: bool = True, made: bool = True, coupon: str | None = None
) -> str:
    """An attempt: `made` at Stripe, and, where web was `told`, open. Gives the session's id."""
    params = parameters(quote, attempt, coupon=coupon)
    session = await make(quote, params, attempt) if made else None
    session_id, url = (session.id, session.url) if session is not None else ("", "")
    told = told and made
    await database.execute(
        ATTEMPT,
        *quote[:4],
        attempt,
        "open" if told else "creating",
        key_of(quote, attempt),
        json.dumps(params),
        session_id if told else None,
        url if told else None,
        params["expires_at"],
        None,
        None,
    )
    return session_id


async def discounted(database: Pool, quote: Quote, coupon_id: str = "coupon-of-Q-1") -> str:
    """The coupon of a quote, noted and made at Stripe."""
    await database.execute(COUPON, *quote[:4], coupon_id)
    params = {
        "id": coupon_id,
        "amount_off": 1_000,
        "currency": "usd",
        "duration": "once",
        "metadata": {"quote_id": quote.quote_id, "quote_revision": str(quote.revision)},
    }
    async with connected(stripe_settings()) as client:
        await client.v1.coupons.create_async(params, options(quote.account))  # type: ignore[arg-type]
    return coupon_id


def ended(quote: Quote, event_type: str = "quote.recalled") -> Event:
    """The event alone, of a quote whose rows nobody has marked."""
    return first_event(
        f"{event_type}:{quote.quote_id}:{quote.revision}",
        event_type,
        {"quote_id": quote.quote_id, "revision": quote.revision},
        account=quote.account,
        livemode=quote.livemode,
        at=1_790_000_000.0,
        stream=quote.quote_id,
    )


async def recall(database: Pool, quote: Quote) -> None:
    """The seller takes it back."""
    async with database.acquire() as db, db.transaction():
        answer = await publishing.recall(db, *quote[:3])
    assert isinstance(answer, publishing.Recalled), answer


async def expire(database: Pool, quote: Quote) -> None:
    """Its time is up, and the clock notices."""
    await database.execute(
        "UPDATE published_quotes SET expires_at = now() - interval '1 second'"
        " WHERE account = $1 AND livemode = $2 AND quote_id = $3 AND revision = $4",
        *quote[:4],
    )
    async with database.acquire() as db, db.transaction():
        assert await publishing.expire(db, 100) == 1


def webhooks(stripe_api: StripeApi, *types: str) -> list[Any]:
    """Stripe's events so far (of these types), as the ingress accepts them."""
    return [accepted(event) for event in stripe_api.events if not types or event["type"] in types]


async def states(database: Pool) -> dict[tuple[str, int, int], str]:
    """The state of each attempt, by quote, revision and number."""
    rows = await database.fetch("SELECT quote_id, revision, attempt, state FROM checkout_sessions")
    return {(row["quote_id"], row["revision"], row["attempt"]): row["state"] for row in rows}


async def attempt_of(database: Pool, number: int = 1) -> dict[str, Any]:
    """The row of an attempt."""
    row = await database.fetchrow("SELECT * FROM checkout_sessions WHERE attempt = $1", number)
    assert row is not None
    return dict(row)


async def coupon_of(database: Pool) -> dict[str, Any]:
    """The row of the coupon."""
    row = await database.fetchrow("SELECT * FROM quote_coupons")
    assert row is not None
    return dict(row)


async def coupons_of(database: Pool) -> list[str]:
    """The states of all coupons."""
    return [row["state"] for row in await database.fetch("SELECT state FROM quote_coupons")]
