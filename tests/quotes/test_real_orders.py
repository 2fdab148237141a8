"""Two orders in which Stripe really delivered one flow, a subscription bought through Checkout (pay-rails/pay, issue
282): in the second, `customer.subscription.updated` came before `created`, and the session before most invoices.
"""

from typing import Any

import pytest
from asyncpg import Pool

from dev.story_after import FullStory
from dev.stripe_events import SHAPES, Shape
from dev.stripe_objects import purchase
from quittance.event import Event
from tests.support.handling import pump
from tests.support.random_lives import as_event
from workers import WORKERS

ORDER_A = """charge.succeeded payment_method.attached invoice.created customer.subscription.created invoice.updated
invoice.updated invoice.finalized customer.subscription.updated invoice.paid invoice.updated invoice.payment_succeeded
payment_intent.created payment_intent.succeeded checkout.session.completed""".split()
ORDER_B = """charge.succeeded checkout.session.completed invoice.created payment_method.attached invoice.updated
invoice.updated customer.subscription.updated payment_intent.succeeded customer.subscription.created
invoice.payment_succeeded invoice.updated invoice.paid invoice.finalized payment_intent.created""".split()


def flow(shape: Shape) -> list[Event]:
    """The events of the flow, in causal order; those of one second share it, as they did."""
    story = FullStory(purchase("pay-282", shape=shape))
    session = story.open_session(mode="subscription")
    subscription = story.subscribe(session, story.add_customer()["id"])
    bill = story.bill(subscription, reason="subscription_create")
    session["invoice"] = bill["id"]
    for _ in range(2):
        story.emit("invoice.updated", bill)
    story.bill_paid(bill, story.bill_intent(bill))
    story.emit("invoice.updated", bill)
    story.change("customer.subscription.updated", subscription, status="active")
    story.complete(session)
    return [as_event(sent) for sent in story.events]


def in_order(events: list[Event], types: list[str]) -> list[Event]:
    """`events` in the order that `types` gives, whatever it does not name first."""
    left = [event for event in events if event.type not in types]
    by_type = {name: [event for event in events if event.type == name] for name in types}
    return left + [by_type[name].pop(0) for name in types if by_type[name]]


async def end(database: Pool, events: list[Event]) -> list[Any]:
    """What a day's end looks like to people: each event a delivery of its own."""
    for event in events:
        await pump(list(WORKERS.values()), [event], database)
    quotes = await database.fetch("SELECT quote_id, data - 'sequence' - 'previous' - 'cause' AS data FROM quotes")
    documents = await database.fetch("SELECT object_id, kind, status, amount_paid FROM documents ORDER BY 1")
    mails = await database.fetch("SELECT kind, revision FROM emails ORDER BY 1")
    customers = await database.fetch("SELECT email, stripe_customer_id FROM customers ORDER BY 1")
    return [[tuple(row) for row in table] for table in (quotes, documents, mails, customers)]


async def wipe(database: Pool) -> None:
    """As if nothing had ever come."""
    tables = await database.fetchval("SELECT string_agg(tablename, ', ') FROM pg_tables WHERE schemaname = 'public'")
    await database.execute(f"TRUNCATE {tables}")


@pytest.mark.parametrize("shape", SHAPES)
async def test_both_real_orders_of_one_flow_end_the_same(database: Pool, shape: Shape) -> None:
    events = flow(shape)
    one = await end(database, in_order(events, ORDER_A))
    await wipe(database)
    other = await end(database, in_order(events, ORDER_B))
    assert one == other
    quotes, documents, mails, customers = one
    assert '"status": "paid"' in quotes[0][1]
    assert '"subscription_status": "active"' in quotes[0][1]
    assert [row[1:3] for row in documents] == [("invoice", "paid")]
    assert mails == [("paid", 1)]
    assert len(customers) == 1
