"""The stand-in's webhooks, through our own workers: what a buyer does there is what a quote becomes here."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asyncpg.pool import Pool

from tests.fakes.stripe import StripeApi
from tests.stripe_fake.conftest import SELLER, Client
from tests.support.handling import accepted, pump
from workers import WORKERS

Step = Callable[[StripeApi, str], Awaitable[Any]]


async def card(fake: StripeApi, session: str) -> None:
    await fake.pay(session)


async def declined(fake: StripeApi, session: str) -> None:
    await fake.pay(session, "declined")


async def debit(fake: StripeApi, session: str) -> None:
    await fake.pay(session, "debit")


async def settled(fake: StripeApi, session: str) -> None:
    await fake.settle(session)


async def bounced(fake: StripeApi, session: str) -> None:
    await fake.settle(session, paid=False)


async def in_part(fake: StripeApi, session: str) -> None:
    await fake.refund(session, 500)


async def refunded(fake: StripeApi, session: str) -> None:
    await fake.refund(session)


async def disputed(fake: StripeApi, session: str) -> None:
    at = fake.payment(session)
    assert at.charge is not None
    at.story.goes_on()
    at.story.open_dispute(at.charge)


async def renewed(fake: StripeApi, session: str) -> None:
    await fake.renew(session)


async def over(fake: StripeApi, session: str) -> None:
    await fake.expire(session)


LIVES: dict[str, tuple[tuple[Step, ...], str]] = {
    "card": ((card,), "paid"),
    "declined": ((declined,), "pending"),  # the session is open: another card may do
    "declined, then paid": ((declined, card), "paid"),
    "declined, then over": ((declined, over), "payment_failed"),
    "debit": ((debit,), "processing"),
    "debit settled": ((debit, settled), "paid"),
    "debit bounced": ((debit, bounced), "payment_failed"),
    "over": ((over,), "pending"),
    "refunded": ((card, in_part, refunded), "refunded"),
    "refunded in part": ((card, in_part), "partially_refunded"),
    "disputed": ((card, disputed), "disputed"),
}


@pytest.mark.parametrize("mode", ["payment", "subscription"])
@pytest.mark.parametrize(("steps", "status"), LIVES.values(), ids=LIVES)
async def test_what_a_quote_becomes(
    client: Client, fake: StripeApi, database: Pool, steps: tuple[Step, ...], status: str, mode: str
) -> None:
    """INVARIANT: each event twice, in any order, of a connected account: the status that the buyer's deeds ask for."""
    carried: dict[str, Any] = {"metadata": {"quote_id": "Q-1", "quote_revision": "1", "owner_email": "o@example.com"}}
    where = "payment_intent_data" if mode == "payment" else "subscription_data"
    make: Callable[..., Awaitable[Any]] = client.session if mode == "payment" else client.subscription
    made = await make(account=SELLER, client_reference_id="Q-1", **carried, **{where: carried})
    for step in steps:
        await step(fake, made.id)
        await asyncio.sleep(0)
    sent = [accepted(event) for event in fake.events * 2]
    random.Random(7).shuffle(sent)
    for event in sent:
        await pump(list(WORKERS.values()), [event], database)
    row = await database.fetchrow("SELECT account, livemode, status FROM quotes WHERE quote_id = 'Q-1'")
    assert row is not None
    assert (row["account"], row["livemode"], row["status"]) == (SELLER, False, status)


async def test_a_subscription_has_an_invoice_for_each_charge(client: Client, fake: StripeApi, database: Pool) -> None:
    """INVARIANT: the first with all lines, the second with the recurring one; both are the quote's documents."""
    carried: dict[str, Any] = {"metadata": {"quote_id": "Q-1", "quote_revision": "1"}}
    made = await client.subscription(client_reference_id="Q-1", **carried, subscription_data=carried)
    await card(fake, made.id)
    await renewed(fake, made.id)
    await pump(list(WORKERS.values()), [accepted(event) for event in fake.events], database)
    rows = await database.fetch("SELECT kind, amount FROM documents ORDER BY amount DESC")
    assert [tuple(row) for row in rows] == [("invoice", 6_400), ("invoice", 4_900)]
    row = await database.fetchrow("SELECT status, data FROM quotes WHERE quote_id = 'Q-1'")
    assert row is not None
    assert row["status"] == "paid"
