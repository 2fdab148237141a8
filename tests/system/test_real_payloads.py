"""What Stripe really sent, through the front door; and what its API answered, as events, through every worker."""

import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from asyncpg.pool import Pool

from quittance.event import Event
from tests.support.crm_side import assert_told_in_order, assert_valid, everything_told, quotes_in
from tests.support.handling import pump
from tests.support.stripe_side import Stripe
from tests.support.system import settled, system
from tests.system.ends import every_event_once
from tests.system.recorded import answer, answers, whole_events, wrapped
from workers import WORKERS

QUOTE = "Q-recorded"
NAMED = {"quote_id": QUOTE}
HOW_MANY = 196

TABLES = ("quotes", "documents", "emails", "customer_requests", "outbox", "quote_status_changes")


async def test_every_recorded_event_is_accepted_archived_and_handled(
    database: Pool, database_url: str, amqp_url: str, payloads: Path
) -> None:
    """INVARIANT: each is answered 200, kept byte for byte, handled by every worker that uses it, and none has failed."""
    events = whole_events(payloads)
    assert len({event.id for event in events}) == HOW_MANY
    async with system(database_url, amqp_url) as running:
        await running.start("ingest", "all")
        stripe = Stripe(running.url)
        await stripe.send([*events, *events])
        await settled(running, stripe.events)
        await running.stop_all()
    await every_event_once(database, events)
    assert await database.fetch("SELECT * FROM failed_deliveries") == []
    told = await everything_told(amqp_url)
    assert_told_in_order(told, await quotes_in(database))
    assert_valid(told)


# Objects of the API, made into events --------------------------------------------------------------------------------


async def through(database: Pool, events: Sequence[Event]) -> dict[str, Any]:
    """Each event a delivery of its own, through every worker; the data of the one quote ({} without one)."""
    for event in events:
        await pump(list(WORKERS.values()), [event], database)
    found = await database.fetch("SELECT data FROM quotes")
    assert len(found) <= 1
    data: dict[str, Any] = json.loads(found[0]["data"]) if found else {}
    tables = await database.fetchval("SELECT string_agg(tablename, ', ') FROM pg_tables WHERE schemaname = 'public'")
    await database.execute(f"TRUNCATE {tables}")
    return data


def money(data: dict[str, Any]) -> tuple[Any, ...]:
    names = ("status", "currency", "amount_due", "amount_captured", "amount_refunded", "amount_lost")
    return tuple(data[name] for name in names)


async def test_no_object_is_unreadable_and_none_is_ours_unless_it_says_so(database: Pool, payloads: Path) -> None:
    every = list(answers(payloads))
    assert {one.release for one in every} == {"acacia", "clover", "dahlia"}
    events = [wrapped(one) for one in every]
    for event in events:  # one by one: nothing is rejected, alone or beside others
        assert await pump(list(WORKERS.values()), [event], database) == []
    counts = {table: await database.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
    assert counts == dict.fromkeys(TABLES, 0)
    assert await database.fetchval("SELECT count(*) FROM events") == len(every)
    kept = await database.fetch("SELECT stripe_customer_id FROM customer_aliases")
    assert {row[0] for row in kept} == {one.object["id"] for one in every if one.object["object"] == "customer"}


async def test_a_card_payment_of_2025(database: Pool, payloads: Path) -> None:
    """The charge holds its whole intent, the intent its charge's id: either way they are tied."""
    charge = answer(payloads, "clover__charge.succeeded__1")
    intent = wrapped(answer(payloads, "clover__payment_intent.succeeded__2"), metadata=NAMED)
    assert isinstance(charge.object["payment_intent"], dict)
    for order in permutations([intent, wrapped(charge)]):
        data = await through(database, order)
        assert money(data) == ("paid", "usd", 1000, 1000, 0, 0)
        assert data["paid_at"] == "2025-11-10T18:26:22Z"
        (document,) = data["documents"]
        assert (document["id"], document["kind"], document["status"]) == (charge.object["id"], "receipt", "succeeded")
        assert (document["amount"], document["amount_paid"]) == (1000, 1000)
        assert document["url"] == charge.object["receipt_url"]


async def test_an_authorisation_of_2025_is_no_money(database: Pool, payloads: Path) -> None:
    for number in (1, 2):  # once with its charge whole, once by id
        intent = answer(payloads, f"clover__payment_intent.requires_capture__{number}")
        data = await through(database, [wrapped(intent, metadata=NAMED)])
        assert money(data)[2:4] == (2900, 0)
        assert (data["paid_at"], data["documents"]) == (None, [])


async def test_a_first_invoices_payment_of_2026(database: Pool, payloads: Path) -> None:
    """Session, intent and invoice are tied by the `invoice_payment` alone; a charge on an invoice is no document."""
    tie = wrapped(answer(payloads, "dahlia__invoice_payment.paid__1"))
    intent = wrapped(answer(payloads, "dahlia__payment_intent.succeeded__1"))
    charge = wrapped(answer(payloads, "dahlia__charge.succeeded__1"))
    paid = answer(payloads, "dahlia__invoice.paid__1")
    invoice = wrapped(paid, id=json.loads(tie.body)["data"]["object"]["invoice"])
    session = wrapped(
        answer(payloads, "dahlia__checkout.session.open__3"),
        "checkout.session.completed",
        status="complete",
        payment_status="paid",
        invoice=json.loads(tie.body)["data"]["object"]["invoice"],
        metadata=NAMED,
    )
    for order in ([session, invoice, tie, intent, charge], [charge, intent, tie, invoice, session]):
        data = await through(database, order)
        assert money(data) == ("paid", "usd", 1000, 1000, 0, 0)
        (document,) = data["documents"]
        assert (document["kind"], document["number"], document["status"]) == ("invoice", paid.object["number"], "paid")
        assert (document["url"], document["pdf_url"]) == (
            paid.object["hosted_invoice_url"],
            paid.object["invoice_pdf"],
        )


@pytest.mark.parametrize("name", ["acacia__invoice.paid__1", "clover__invoice.paid__1", "dahlia__invoice.paid__1"])
async def test_an_invoice_that_copies_its_subscriptions_metadata(database: Pool, payloads: Path, name: str) -> None:
    given = answer(payloads, name)
    details = {"metadata": NAMED}
    holder: dict[str, Any] = (
        {"subscription_details": details}
        if given.release == "acacia"
        else {"parent": {"type": "subscription_details", "subscription_details": details}}
    )
    data = await through(database, [wrapped(given, billing_reason="subscription_create", **holder)])
    assert data["amount_due"] == given.object["total"] == 1000
    assert data["paid_at"] is not None
    (document,) = data["documents"]
    assert (document["id"], document["kind"], document["status"]) == (given.object["id"], "invoice", "paid")
    assert (document["amount"], document["amount_paid"]) == (1000, given.object["amount_paid"])
    assert document["url"] == given.object["hosted_invoice_url"]


async def test_a_subscription_of_2025_and_its_draft_are_a_quote_without_document(
    database: Pool, payloads: Path
) -> None:
    subscription = answer(payloads, "clover__subscription.active__2")
    draft = answer(payloads, "clover__invoice.draft__1")
    assert draft.object["parent"]["subscription_details"]["subscription"] == subscription.object["id"]
    for order in permutations([wrapped(subscription, metadata=NAMED), wrapped(draft)]):
        data = await through(database, order)
        assert (data["status"], data["documents"], data["anomalies"]) == ("pending", [], [])


@pytest.mark.parametrize(("number", "mode"), [(1, "payment"), (2, "setup"), (3, "subscription"), (4, "setup")])
async def test_sessions_of_2026(database: Pool, payloads: Path, number: int, mode: str) -> None:
    """Open: begun. Complete and paid, its charge not seen yet: its total stands in. One that sells nothing: no quote."""
    given = answer(payloads, f"dahlia__checkout.session.open__{number}")
    assert given.object["mode"] == mode
    started = await through(database, [wrapped(given, metadata=NAMED)])
    ended = {"status": "complete", "payment_status": "paid", "metadata": NAMED}
    paid = await through(database, [wrapped(given, "checkout.session.completed", **ended)])
    if mode == "setup":
        assert (started, paid) == ({}, {})
        return
    total = given.object["amount_total"]
    assert money(started) == ("checkout_started", "usd", total, 0, 0, 0)
    assert money(paid) == ("paid", "usd", total, total, 0, 0)


async def test_refunds_of_2025_find_their_quote_by_the_intent(database: Pool, payloads: Path) -> None:
    """Two refunds of a charge that nobody told us of; the session names the intent."""
    refunds = [wrapped(answer(payloads, f"clover__refund.succeeded__{number}")) for number in (1, 2)]
    intent_id = json.loads(refunds[0].body)["data"]["object"]["payment_intent"]
    session = wrapped(
        answer(payloads, "dahlia__checkout.session.open__1"),
        "checkout.session.completed",
        status="complete",
        payment_status="paid",
        payment_intent=intent_id,
        metadata=NAMED,
    )
    for order in permutations([*refunds, session]):
        assert money(await through(database, order)) == ("refunded", "usd", 1500, 1500, 1500, 0)
