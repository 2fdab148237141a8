"""Lives that are rare and true: what Stripe may leave out, what it may invent, and money that comes in odd ways."""

import random
from functools import reduce
from itertools import permutations
from typing import Any

import pytest

from dev.story import DAY
from dev.story_after import FullStory
from dev.stripe_events import SHAPES, Shape
from dev.stripe_objects import purchase
from quittance.domain.facts import facts_of
from quittance.domain.tracked import Seen, Tracked, merge
from quittance.errors import Rejected
from tests.domain.test_status_rules import DUE, a_story, keyed, paid_by_card, published, state
from tests.support.folding import final, fold
from tests.support.random_lives import as_event
from workers.quotes import read


def subscribed(story: FullStory) -> dict[str, Any]:
    """A subscription bought and paid; its first charge."""
    session = story.open_session(mode="subscription")
    subscription = story.subscribe(session, story.add_customer()["id"])
    bill = story.bill(subscription, reason="subscription_create")
    session["invoice"] = bill["id"]
    charge = story.bill_paid(bill, story.bill_intent(bill))
    story.change("customer.subscription.updated", subscription, status="active")
    story.complete(session)
    return charge


def without(story: FullStory, kind: str, *fields: str) -> FullStory:
    """The same story, told by events whose objects of one kind lack some fields."""
    for sent in story.events:
        subject = sent["data"]["object"]
        if subject["object"] == kind:
            for field in fields:
                subject.pop(field, None)
    return story


@pytest.mark.parametrize("shape", SHAPES)
def test_a_subscription_is_counted_once_though_its_session_names_no_invoice(shape: Shape) -> None:
    """INVARIANT: the money of one first purchase is counted once, whichever of its ids the events leave out."""
    story = a_story(shape=shape)
    charge = subscribed(story)
    without(story, "checkout.session", "invoice")
    assert (state(story)["amount_captured"], state(story)["anomalies"]) == (DUE, [])
    story.refund(charge)
    assert state(story)["status"] == "refunded"


def test_a_charge_on_the_invoice_of_its_session_is_no_document_of_its_own() -> None:
    """INVARIANT: whoever says that a charge pays an invoice, there is one document: the invoice (R14)."""
    story = a_story()
    session = story.open_session()
    intent = story.start_payment(session)
    story.charge_succeeds(intent)
    story.complete(session, intent)
    story.events[-1]["data"]["object"]["invoice"] = "in_1"
    story.emit("invoice.paid", {"id": "in_1", "object": "invoice", "status": "paid", "total": DUE, "currency": "usd"})
    assert state(story)["document_names"] == [{"object_id": "in_1", "kind": "invoice"}]


def test_a_session_of_nothing_is_paid_whatever_stripe_calls_it() -> None:
    """INVARIANT: a quote whose owner was told "paid" does not wait for payment: a trial's session may say `paid` over 0."""
    story = a_story()
    story.complete(story.open_session(amount=0), payment_status="paid")
    assert (state(story)["status"], state(story)["amount_captured"]) == ("paid", 0)
    assert state(story)["paid_at"] is not None


def test_a_dispute_in_another_currency_is_named() -> None:
    """INVARIANT: whatever is left out of the sums for its currency is named."""
    story = a_story()
    dispute = story.open_dispute(paid_by_card(story))
    dispute["currency"] = "sek"
    story.close_dispute(dispute, "lost")
    assert (state(story)["amount_lost"], state(story)["anomalies"]) == (0, ["currency_mismatch"])


def test_a_payment_under_way_in_a_session_that_is_not_ours_says_nothing_yet() -> None:
    """INVARIANT: a session that we did not create counts by its captured money alone (S1), never by what may come."""
    story = a_story()
    told = [published(story)]
    session = story.open_session()
    intent = story.start_payment(session, method="sepa_debit")
    charge = story.charge_waits(intent)
    story.complete(session, intent, payment_status="unpaid")
    assert (state(story, told=told)["status"], state(keyed(a_copy(story)), told=told)["status"]) == (
        "pending",
        "processing",
    )
    story.wait(DAY)
    story.charge_succeeds(intent, charge)
    assert state(story, told=told)["status"] == "paid"


def a_copy(story: FullStory) -> FullStory:
    """The same story up to now, in events of its own."""
    copied = FullStory(story.p)
    copied.events = [
        {**sent, "data": {**sent["data"], "object": dict(sent["data"]["object"])}} for sent in story.events
    ]
    return copied


@pytest.mark.parametrize("later", ["succeeded", "failed"])
def test_an_invented_state_is_named_though_a_known_one_outranks_it(later: str) -> None:
    """INVARIANT: unknown states rank lowest and raise the anomaly (S2): outranked, they are not passed over in silence."""
    story = a_story()
    charge = paid_by_card(story)
    back = story.refund(charge, status="pending")
    story.refund_becomes(back, charge, "teleported")
    assert (state(story)["status"], state(story)["anomalies"]) == ("refunded", ["unknown_state"])
    story.refund_becomes(back, charge, later)
    assert state(story)["anomalies"] == ["unknown_state"]


def test_what_is_kept_of_an_object_is_one_thing_though_events_leave_out_when_it_was_made() -> None:
    """INVARIANT: merge is associative, or the order of arrival would decide which session is the newest."""
    sightings = [a_session(3, None), a_session(2, 5), a_session(1, 7)]
    assert len({reduce(merge, order) for order in permutations(sightings)}) == 1


def test_a_session_of_a_revision_whose_publication_is_late_is_not_called_foreign() -> None:
    """INVARIANT: what the next event may prove wrong is not mailed: a relay that was down brings publications last."""
    story = a_story(revision=2)
    early = [published(story, revision=1)]
    paid_by_card(story)
    assert (state(keyed(story), told=early)["anomalies"], state(story, told=early)["status"]) == ([], "paid")
    late = [*early, published(story, revision=2)]
    assert (state(story, told=late)["anomalies"], state(story, told=late)["paid_revision"]) == ([], 2)


def a_session(at: int, created: int | None) -> Tracked:
    made = {} if created is None else {"created": created}
    (found,) = facts_of(Seen(at, f"evt_{at}", "checkout.session.completed"), {"id": "cs_1", **made}, {})
    return found


@pytest.mark.parametrize("amount", [10**15 + 1, 2**63 - 1, 2**63, -(10**15) - 1])
def test_an_amount_that_no_sum_could_hold_is_rejected(amount: int) -> None:
    """INVARIANT: what is accepted can be summed and stored: two of the greatest integers of Postgres could not."""
    story = a_story()
    paid_by_card(story)
    story.events[-1]["data"]["object"]["amount_total"] = amount
    with pytest.raises(Rejected):
        read(as_event(story.events[-1]))


def test_a_list_of_any_length_costs_no_more_than_a_page() -> None:
    """INVARIANT: one event locks and merges a bounded number of ids: Stripe's lists end at 100."""
    refunds = [{"id": f"re_{number}", "amount": 1, "status": "succeeded"} for number in range(15_000)]
    charge = {"id": "ch_1", "object": "charge", "status": "succeeded", "refunds": {"data": refunds}}
    assert len(facts_of(Seen(1, "evt_1", "charge.refunded"), charge, {})) == 101


@pytest.mark.parametrize("shape", SHAPES)
def test_no_order_of_arrival_calls_the_first_payment_of_a_subscription_a_renewal(shape: Shape) -> None:
    """INVARIANT: an anomaly is mailed once and cannot be taken back, so none may come of what is merely not known yet."""
    story = FullStory(purchase("alarm", amount=DUE, shape=shape))
    story.close_dispute(story.open_dispute(subscribed(story)), "won")
    events = [as_event(sent) for sent in story.events if not sent["type"].startswith("customer.created")]
    for seed in range(300):
        shuffled = random.Random(seed).sample(events, len(events))
        book, emitted = fold(shuffled)
        assert final(book)[story.p.quote_id]["status"] == "paid"
        assert not [event for event in emitted if b"renewal_disputed" in event.body]
