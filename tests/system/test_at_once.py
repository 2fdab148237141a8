"""Twenty senders at once, two processes of everything: of one event, and of one customer's events. One effect each."""

import json
from collections import Counter
from typing import Any

import pytest
from asyncpg.pool import Pool

from dev.story_after import FullStory
from dev.stripe_objects import customer, purchase
from quittance.event import Event
from tests.support.crm_side import assert_told_in_order, everything_told, quotes_in
from tests.support.many_lives import lately
from tests.support.random_lives import as_event
from tests.support.stripe_side import Stripe
from tests.support.system import System, by_queue, settled, system

SENDERS = 20
HANDLED = "SELECT queue, event_id FROM inbox WHERE event_id = ANY($1::text[])"
CAUSES = "SELECT cause_id FROM quote_status_changes ORDER BY sequence"

# One address, as two people type it.
TYPED = ("Anna.Svensson@Example.com", "anna.svensson@example.com")


async def all_at_once(running: System, events: list[Event]) -> None:
    """Each event by twenty senders, every one of them on a connection of its own, at the same moment."""
    stripe = Stripe(running.url)
    copies = [event for _ in range(SENDERS) for event in events]
    await stripe.send(copies, lanes=len(copies))
    assert stripe.accepted == Counter({event.id: SENDERS for event in events})
    await settled(running, stripe.events)


async def handled(database: Pool, *events: Event) -> Counter[str]:
    """How many rows the inbox has of the events, by queue."""
    return Counter(row["queue"] for row in await database.fetch(HANDLED, [event.id for event in events]))


async def test_one_event_from_twenty_senders_has_one_effect(database: Pool, database_url: str, amqp_url: str) -> None:
    """INVARIANT: one archived event, one inbox row a queue, one customer here and at Stripe, one mail, one change."""
    story = FullStory(purchase("at-once", begins=lately()))
    story.complete(story.open_session())
    (event,) = map(as_event, story.events)
    async with system(database_url, amqp_url) as running:
        await running.start("ingest", "all-1", "all-2")
        await all_at_once(running, [event])
        assert await handled(database, event) == {"archive": 1, "checkouts": 1, "customers": 1, "quotes": 1}
        assert await database.fetchval("SELECT count(*) FROM events") == 1
        assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0
        assert await database.fetchval("SELECT array_agg(email) FROM customers") == [story.p.email]
        assert running.stripe.made() == len(running.stripe.calls_of("POST")) == 1
        assert [mail.recipients for mail in running.mails.received] == [[story.p.owner_email]]
    # One of the session, one of the customer that was made for it.
    assert [row[0] for row in await database.fetch(CAUSES)] == [event.id, event.id]
    assert assert_told_in_order(await everything_told(amqp_url), await quotes_in(database)) == 0


def of_one_customer(*, known: bool) -> tuple[list[Event], dict[str, Any]]:
    """Two guests' sessions with one address in two spellings; and, where the customer is `known`, that customer's own
    events and a session of it. The events, and the customer.
    """
    guests = [FullStory(purchase(f"guest-{n}", email=email, begins=lately())) for n, email in enumerate(TYPED)]
    for story in guests:
        story.complete(story.open_session())
    events = [sent for story in guests for sent in story.events]
    details = purchase("known", email=TYPED[1], begins=lately() - 60)
    made = customer(details, "cus_Anna0000000000", details.begins)
    if known:
        story = FullStory(details)
        story.emit("customer.created", made)
        story.wait(30)
        story.change("customer.updated", made, name="Anna Svensson")
        story.wait(30)
        session = story.open_session()
        session["customer"] = made["id"]
        story.complete(session)
        events += story.events
    return [as_event(sent) for sent in events], made


@pytest.mark.parametrize("known", [True, False], ids=["known to Stripe", "known to nobody"])
async def test_one_customers_events_from_twenty_senders_make_one_customer(
    database: Pool, database_url: str, amqp_url: str, known: bool
) -> None:
    """INVARIANT (R18): whatever comes at once, an address has one customer here, and one at Stripe at most."""
    events, anna = of_one_customer(known=known)
    async with system(database_url, amqp_url) as running:
        if known:
            running.stripe.add(**{name: anna[name] for name in ("email", "id", "created", "name")})
        await running.start("ingest", "all-1", "all-2")
        await all_at_once(running, events)
        (at_stripe,) = running.stripe.customers["self", False].values()
        assert len(running.stripe.calls_of("POST")) == (0 if known else 1)
        assert len(running.mails.received) == len({event.id for event in events if "session" in event.type})
    wanted = by_queue((event.id, event.type) for event in events)
    assert await handled(database, *events) == {queue: len(ids) for queue, ids in wanted.items() if ids}
    rows = await database.fetch("SELECT email_normalised, stripe_customer_id FROM customers")
    assert [tuple(row) for row in rows] == [(TYPED[1], at_stripe["id"])]
    aliases = await database.fetch("SELECT stripe_customer_id FROM customer_aliases")
    assert [row[0] for row in aliases] == [at_stripe["id"]]
    quotes = await quotes_in(database)
    buyers = [json.loads(row["data"])["customer"] for row in quotes.values()]
    assert {buyer["stripe_customer_id"] for buyer in buyers} == {at_stripe["id"]}
    assert {row["status"] for row in quotes.values()} == {"paid"}
    assert assert_told_in_order(await everything_told(amqp_url), quotes) == 0
