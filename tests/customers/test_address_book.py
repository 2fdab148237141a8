"""One customer per account, mode and address; who checked out what; what is none of our business."""

from itertools import permutations
from typing import Any

import pytest
from asyncpg.pool import Pool
from msgspec.structs import replace

from quittance.domain.publishing.policies import HUBSPOT_2023
from quittance.errors import Rejected
from quittance.publishing import Published, publish
from tests.customers.address_events import book_of, created, deleted, event, moved, session, told, updated
from tests.support.handling import run_handler
from tests.support.stripe_environment import forget_settings
from workers import customers

TABLES = ("customers", "customer_aliases", "quote_customers", "customer_requests", "outbox")


async def rows(database: Pool) -> dict[str, int]:
    return {table: await database.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}


async def test_r18_one_customer_per_normalised_address(database: Pool) -> None:
    """INVARIANT: several Stripe customers of one address are aliases of one customer, and the first stands for it."""
    await run_handler(customers, [created("cus_1", "Ann@Example.com", at=1)], database)
    await run_handler(
        customers, [created("cus_2", "ann@example.com ", at=2), created("cus_3", "ANN@example.com", at=3)], database
    )
    book = await book_of(database)
    assert book.customers == {"ann@example.com": ("Ann@Example.com", "cus_1")}
    assert set(book.aliases.values()) == {("ann@example.com", False)}
    assert len(book.aliases) == 3


async def test_r18_accounts_and_modes_never_meet(database: Pool) -> None:
    """INVARIANT: the same address, ids and session in another account or mode are another customer's."""
    places = [("self", False), ("self", True), ("acct_1", False), ("acct_1", True)]
    events = []
    for number, (account, livemode) in enumerate(places):
        place: dict[str, Any] = {"account": None if account == "self" else account, "livemode": livemode}
        events += [
            created("cus_1", "ann@example.com", at=number, **place),
            session("cs_1", f"Q-{number}", "ann@example.com", **place),
        ]
    await run_handler(customers, events, database)
    for account, livemode in places:
        book = await book_of(database, account, livemode)
        assert book.customers == {"ann@example.com": ("ann@example.com", "cus_1")}
        assert book.checkouts == {"cs_1": ("ann@example.com", "cus_1")}
    await run_handler(customers, [deleted("cus_1", at=9, livemode=True)], database)
    canonical = [(await book_of(database, *place)).customers["ann@example.com"][1] for place in places]
    assert canonical == ["cus_1", None, "cus_1", "cus_1"]


async def test_r18_the_canonical_customer_is_stable_while_it_lives(database: Pool) -> None:
    """INVARIANT: who stands for an address stays while it lives there, then the next one in order of coming."""

    async def canonical(*events: object) -> str | None:
        await run_handler(customers, events, database)  # type: ignore[arg-type]
        return (await book_of(database)).customers["ann@example.com"][1]

    assert await canonical(created("cus_9", "ann@example.com", at=1)) == "cus_9"
    assert await canonical(created("cus_1", "ann@example.com", at=2)) == "cus_9"
    assert await canonical(created("cus_2", "bob@example.com", at=0)) == "cus_9"
    assert await canonical(moved("cus_2", "bob@example.com", "ann@example.com", at=4)) == "cus_9"
    assert await canonical(updated("cus_9", "ann@example.com", at=5)) == "cus_9"
    assert await canonical(moved("cus_9", "ann@example.com", "other@example.com", at=6)) == "cus_1"
    assert await canonical(moved("cus_9", "other@example.com", "ann@example.com", at=7)) == "cus_1"
    assert await canonical(deleted("cus_1", at=8)) == "cus_2"
    assert await canonical(deleted("cus_2", at=9)) == "cus_9"
    assert await canonical(deleted("cus_9", at=10)) is None
    book = await book_of(database)
    assert book.customers["bob@example.com"] == ("bob@example.com", None)
    assert book.aliases["cus_9"] == ("ann@example.com", True)


async def test_former_addresses_are_remembered_from_batch_to_batch(database: Pool) -> None:
    """INVARIANT: since when a customer is at an address does not depend on what else was heard of it in between."""
    facts = [
        created("cus_1", "ann@example.com", at=1),
        moved("cus_1", "ann@example.com", "bob@example.com", at=5),
        updated("cus_1", "ann@example.com", at=9),  # it came back; the event that says so is not here yet
        created("cus_2", "ann@example.com", at=4),
    ]
    canonical = set()
    for number, order in enumerate(permutations(facts)):
        account = f"acct_{number}"
        for one in order:
            await run_handler(customers, [replace(one, account=account)], database)
        canonical.add((await book_of(database, account)).customers["ann@example.com"][1])
    assert canonical == {"cus_1"}


async def test_a_quote_is_told_what_becomes_of_its_customer(database: Pool) -> None:
    """INVARIANT: each difference is told once, with the Stripe event that made it; what the session says itself is not."""
    checkout = session("cs_1", "Q-1", "Ann@example.com", "cus_1", at=1)
    assert await run_handler(customers, [checkout], database) == []
    assert await run_handler(customers, [created("cus_1", "ann@example.com")], database) == []
    move = moved("cus_1", "ann@example.com", "Bob@example.com", at=2)
    emitted = await run_handler(customers, [move, updated("cus_1", "Bob@example.com", at=3)], database)
    assert told(emitted) == [("cs_1", "Bob@example.com", "cus_1")]
    assert emitted[0].cause.id == move.id
    assert (emitted[0].cause.type, emitted[0].stream) == ("customer.updated", "Q-1")
    emitted = await run_handler(
        customers, [deleted("cus_1", at=4), created("cus_2", "bob@example.com", at=5)], database
    )
    assert told(emitted) == [("cs_1", "Bob@example.com", None), ("cs_1", "Bob@example.com", "cus_2")]
    versions = [int(one.id.rsplit(":", 1)[1]) for one in emitted]
    assert versions == sorted(set(versions))
    assert (await book_of(database)).checkouts == {"cs_1": ("Bob@example.com", "cus_2")}


async def test_r18_a_second_customer_of_an_address_is_told_as_the_canonical_one(database: Pool) -> None:
    """INVARIANT: two quotes bought with one address have one customer, though Checkout made two in Stripe."""
    await run_handler(customers, [session("cs_1", "Q-1", "ann@example.com", "cus_1", at=1)], database)
    emitted = await run_handler(customers, [session("cs_2", "Q-2", "Ann@Example.com", "cus_2", at=2)], database)
    assert told(emitted) == [("cs_2", "Ann@Example.com", "cus_1")]


async def test_a_guest_is_told_the_customer_of_the_address(database: Pool) -> None:
    """INVARIANT: a session without a customer hangs on its address, whichever is heard of first."""
    first = await run_handler(customers, [session("cs_1", "Q-1", "ann@example.com", at=1)], database)
    later = await run_handler(customers, [created("cus_1", "Ann@example.com", at=2)], database)
    again = await run_handler(customers, [session("cs_2", "Q-2", "ann@example.com", at=3)], database)
    assert first == []
    assert told(later) == [("cs_1", "ann@example.com", "cus_1")]
    assert told(again) == [("cs_2", "ann@example.com", "cus_1")]


async def test_the_greatest_snapshot_of_a_session_counts(database: Pool) -> None:
    """INVARIANT: a session's customer is that of its greatest snapshot (S2), in either order of arrival."""
    expired = session(
        "cs_1",
        "Q-1",
        "typo@example.com",
        payment_status="unpaid",
        event_type="checkout.session.expired",
        fields={"status": "expired"},
        at=1,
    )
    paid = session("cs_1", "Q-1", "ann@example.com", "cus_1", at=1)
    await run_handler(customers, [paid], database)
    assert await run_handler(customers, [expired], database) == []
    assert (await book_of(database)).checkouts == {"cs_1": ("ann@example.com", "cus_1")}


@pytest.mark.parametrize("shape", ["parent", "before basil", "lines"])
async def test_an_invoice_of_ours_shows_an_address(database: Pool, shape: str) -> None:
    """INVARIANT: in every shape of the copy of the subscription's metadata."""
    metadata = {"quote_id": "Q-1"}
    homes: dict[str, dict[str, Any]] = {
        "parent": {"parent": {"subscription_details": {"metadata": metadata, "subscription": "sub_1"}}},
        "before basil": {"subscription_details": {"metadata": metadata}},
        "lines": {"lines": {"data": [{"type": "subscription", "metadata": metadata}]}},
    }
    invoice = {
        "id": "in_1",
        "object": "invoice",
        "customer": "cus_1",
        "customer_email": "Ann@example.com",
        **homes[shape],
    }
    await run_handler(customers, [event("invoice.paid", invoice)], database)
    book = await book_of(database)
    assert book.aliases == {"cus_1": ("ann@example.com", False)}
    assert book.customers == {"ann@example.com": ("Ann@example.com", "cus_1")}
    assert book.checkouts == {}


async def test_the_session_of_an_old_api_version(database: Pool) -> None:
    """INVARIANT: `customer_email` stands in where there are no customer_details; a customer may come expanded."""
    old = {
        "id": "cs_1",
        "object": "checkout.session",
        "client_reference_id": "Q-1",
        "customer": {"id": "cus_1", "object": "customer"},
        "customer_email": "ann@example.com",
        "payment_status": "paid",
        "metadata": {},
    }
    await run_handler(customers, [event("checkout.session.completed", old)], database)
    book = await book_of(database)
    assert book.aliases == {"cus_1": ("ann@example.com", False)}
    assert book.checkouts == {"cs_1": ("ann@example.com", "cus_1")}


async def test_a_billing_address_is_never_taken(database: Pool) -> None:
    """INVARIANT: the cardholder is not the buyer."""
    billing = {"billing_details": {"email": "holder@example.com"}, "payment_method_details": {"email": "h@example.com"}}
    await run_handler(customers, [session("cs_1", "Q-1", None, "cus_1", fields=billing)], database)
    assert (await book_of(database)).customers == {}
    assert not any(name.startswith(("charge", "payment")) for name in customers.QUEUE.bindings["stripe.events"])


async def test_r18_unrelated_sessions_and_invoices_leave_nothing(database: Pool) -> None:
    """INVARIANT: what carries no quote of ours leaves no row and no event (S1)."""
    linked = {"client_reference_id": "Q-1", "payment_link": "plink_1"}
    unrelated = [
        session("cs_1", None, "ann@example.com", "cus_1"),
        session("cs_2", None, "ann@example.com"),
        session("cs_3", None, "ann@example.com", fields={"client_reference_id": "order 7"}),
        session("cs_4", None, "ann@example.com", fields=linked),
        session("cs_5", "Q-1", "ann@example.com", fields={"mode": "setup"}),
        event(
            "invoice.paid",
            {"id": "in_1", "object": "invoice", "customer": "cus_1", "customer_email": "ann@example.com"},
        ),
        created("cus_2", None),
    ]
    assert await run_handler(customers, unrelated, database) == []
    assert set((await rows(database)).values()) == {0}


async def test_s1_adoption_off_leaves_only_what_was_published_here(
    database: Pool, environment: pytest.MonkeyPatch
) -> None:
    """INVARIANT: with ADOPT_UNPUBLISHED=off a session counts only where its quote was published here."""
    environment.setenv("ADOPT_UNPUBLISHED", "off")
    forget_settings()
    for quote, facts in (("Q-adopted", "{}"), ("Q-published", '{"published": {"1": {}}}')):
        await database.execute(
            "INSERT INTO quotes (account, livemode, quote_id, sequence, facts, data, status, label)"
            " VALUES ('self', false, $1, 0, $2, '{}', 'pending', '')",
            quote,
            facts,
        )
    checkouts = [
        session(f"cs_{quote}", quote, f"{quote}@example.com") for quote in ("Q-adopted", "Q-published", "Q-new")
    ]
    await run_handler(customers, checkouts, database)
    assert set((await book_of(database)).checkouts) == {"cs_Q-published"}


async def test_r18_a_checkout_that_outruns_its_publication_still_has_its_customer(
    database: Pool, environment: pytest.MonkeyPatch
) -> None:
    """INVARIANT: what was published counts from the moment it is stored, whatever the quotes worker has heard of it."""
    environment.setenv("ADOPT_UNPUBLISHED", "off")
    forget_settings()
    body = {"title": "A day", "currency": "USD", "line_items": [{"name": "Consulting", "unit_amount": 10_000}]}
    async with database.acquire() as db, db.transaction():
        assert isinstance(await publish(db, "self", False, "2026-17", body, policy=HUBSPOT_2023), Published)
    await run_handler(customers, [session("cs_1", "2026-17", "ann@example.com")], database)
    assert set((await book_of(database)).checkouts) == {"cs_1"}
    assert await database.fetchval("SELECT count(*) FROM quotes") == 0


async def test_a_session_that_changes_its_quote_tells_the_new_one(database: Pool) -> None:
    """INVARIANT: what one quote was told, another was not."""
    await run_handler(
        customers, [created("cus_1", "ann@example.com"), session("cs_1", "Q-1", "ann@example.com")], database
    )
    emitted = await run_handler(customers, [session("cs_1", "Q-2", "ann@example.com", at=1)], database)
    assert told(emitted) == [("cs_1", "ann@example.com", "cus_1")]
    assert emitted[0].stream == "Q-2"


async def test_an_event_handled_again_changes_nothing(database: Pool) -> None:
    """INVARIANT: a replay, which runs the handler again, tells nothing twice."""
    events = [
        session("cs_1", "Q-1", "ann@example.com"),
        created("cus_1", "ann@example.com", at=1),
        moved("cus_1", "ann@example.com", "bob@example.com", at=2),
        created("cus_2", "ann@example.com", at=3),
    ]
    assert len(await run_handler(customers, events, database)) == 3
    before = await book_of(database)
    for one in events:
        assert await run_handler(customers, [replace(one, replay_id="again")], database) == []
    assert await book_of(database) == before


async def test_one_unreadable_event_is_rejected_and_said_so(database: Pool) -> None:
    """INVARIANT: an amount of another type makes a dead letter, not a guess."""
    with pytest.raises(Rejected):
        await run_handler(customers, [session("cs_1", "Q-1", "a@example.com", fields={"amount_total": "5"})], database)
    with pytest.raises(Rejected):
        await run_handler(customers, [event("customer.updated", {"email": "a@example.com"})], database)


async def test_no_event_of_the_batch_is_folded_away(database: Pool) -> None:
    """INVARIANT: in one batch, each event that makes a difference is told with itself as the cause."""
    events = [
        session("cs_1", "Q-1", "ann@example.com", at=1),
        created("cus_1", "ann@example.com", at=2),
        moved("cus_1", "ann@example.com", "bob@example.com", at=3),
        created("cus_2", "ann@example.com", at=4),
    ]
    emitted = await run_handler(customers, events, database)
    assert [one.cause.id for one in emitted] == [one.id for one in events[1:]]
    assert [known for _, _, known in told(emitted)] == ["cus_1", None, "cus_2"]
