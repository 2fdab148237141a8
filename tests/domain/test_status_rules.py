"""RULES S3 and S4, rule by rule: what is counted, and the headline that it makes."""

from typing import Any

import pytest

from dev.story import DAY
from dev.story_after import FullStory
from dev.stripe_objects import Purchase, purchase
from quittance.event import Event
from tests.support.folding import final, fold
from tests.support.random_lives import CHECKOUT_KEY, as_event, own, publication

DUE = 10_000


def a_story(**given: Any) -> FullStory:
    return FullStory(purchase("rules", amount=DUE, **given))


def state(*stories: FullStory, told: list[Event] | None = None) -> dict[str, Any]:
    """The one quote of `stories`, after all their events and `told`."""
    events = [*(told or []), *(as_event(sent) for story in stories for sent in story.events)]
    quotes = final(fold(events)[0])
    assert len(quotes) == 1, sorted(quotes)
    return dict(next(iter(quotes.values())))


def paid_by_card(story: FullStory) -> dict[str, Any]:
    session = story.open_session()
    intent = story.start_payment(session)
    charge = story.charge_succeeds(intent)
    story.complete(session, intent)
    return charge


def published(story: FullStory, revision: int = 1, **given: Any) -> Event:
    return own(story, "quote.published", publication(story, revision) | given)


def keyed(story: FullStory) -> FullStory:
    """The same story with sessions that carry the key of a session that we created."""
    for sent in story.events:
        subject = sent["data"]["object"]
        if subject["object"] == "checkout.session":
            subject["metadata"] = {**subject["metadata"], "quote_checkout_key": CHECKOUT_KEY}
    return story


def test_an_authorisation_is_not_money() -> None:
    story = a_story()
    session = story.open_session()
    story.charge_succeeds(story.start_payment(session, manual=True))
    assert (state(story)["status"], state(story)["amount_captured"], state(story)["paid_at"]) == ("pending", 0, None)


def test_what_a_partial_capture_released_is_no_refund() -> None:
    story = a_story()
    session = story.open_session()
    intent = story.start_payment(session, manual=True)
    charge = story.charge_succeeds(intent)
    story.capture(intent, charge, 6_000)
    assert (state(story)["status"], state(story)["amount_refunded"]) == ("partially_paid", 0)
    story.refund(charge, 1_000)
    assert (state(story)["status"], state(story)["amount_refunded"]) == ("partially_refunded", 1_000)


def test_a_canceled_authorisation_is_no_refund() -> None:
    story = a_story()
    intent = story.start_payment(story.open_session(), manual=True)
    charge = story.charge_succeeds(intent)
    charge.update(amount_refunded=DUE, refunded=True)
    story.emit("charge.refunded", charge)
    assert (state(story)["status"], state(story)["amount_refunded"]) == ("pending", 0)


@pytest.mark.parametrize(
    ("network", "status", "captured"),
    [("waits", "processing", 0), ("settles", "paid", DUE), ("fails", "payment_failed", 0)],
)
def test_a_bank_debit_is_processing_until_the_bank_decides(network: str, status: str, captured: int) -> None:
    story = a_story()
    session = story.open_session()
    intent = story.start_payment(session, method="sepa_debit")
    charge = story.charge_waits(intent)
    story.complete(session, intent, payment_status="unpaid")
    story.wait(DAY)
    if network == "settles":
        story.charge_succeeds(intent, charge)
        story.settle_session(session, paid=True)
    if network == "fails":
        story.charge_fails(intent, charge)
        story.settle_session(session, paid=False)
    assert (state(story)["status"], state(story)["amount_captured"]) == (status, captured)


def test_paid_at_stays_when_a_bank_debit_fails_after_it_settled() -> None:
    story = a_story()
    session = story.open_session()
    intent = story.start_payment(session, method="sepa_debit")
    charge = story.charge_waits(intent)
    story.complete(session, intent, payment_status="unpaid")
    story.wait(DAY)
    story.charge_succeeds(intent, charge)
    paid_at = state(story)["paid_at"]
    story.wait(DAY)
    story.charge_fails(intent, charge)
    assert state(story)["status"] == "payment_failed"
    assert state(story)["paid_at"] == paid_at is not None


def test_a_refund_that_fails_gives_the_money_back_to_the_seller() -> None:
    story = a_story()
    charge = paid_by_card(story)
    back = story.refund(charge)
    assert state(story)["status"] == "refunded"
    story.refund_becomes(back, charge, "failed")
    assert (state(story)["status"], state(story)["amount_refunded"]) == ("paid", 0)


@pytest.mark.parametrize("sends", ["all", "charge_only", "refund_only"])
@pytest.mark.parametrize("inside", [False, True])
def test_refunds_are_counted_once_whatever_the_account_sends(sends: Any, inside: bool) -> None:
    story = FullStory(purchase("refunds", amount=DUE), refund_events=sends)
    charge = paid_by_card(story)
    story.refund(charge, 3_000, inside=inside)
    story.refund(charge, 1_000, inside=inside)
    assert (state(story)["status"], state(story)["amount_refunded"]) == ("partially_refunded", 4_000)


def test_disputes_go_from_open_to_won_or_lost() -> None:
    story = a_story()
    charge = paid_by_card(story)
    dispute = story.open_dispute(charge)
    assert (state(story)["status"], state(story)["dispute_status"]) == ("disputed", "needs_response")
    story.wait(DAY)
    story.close_dispute(dispute, "lost")
    assert (state(story)["status"], state(story)["amount_lost"]) == ("dispute_lost", DUE)
    story.wait(DAY)
    story.close_dispute(dispute, "won")
    assert (state(story)["status"], state(story)["dispute_status"], state(story)["amount_lost"]) == ("paid", "won", 0)


def test_a_paid_session_stands_in_for_a_charge_that_is_not_known() -> None:
    story = a_story()
    session = story.open_session()
    story.complete(session)
    assert (state(story)["status"], state(story)["amount_captured"]) == ("paid", DUE)


def test_a_session_that_does_not_say_paid_is_not_paid() -> None:
    story = a_story()
    session = story.open_session()
    story.complete(session)
    del story.events[-1]["data"]["object"]["payment_status"]
    assert state(story)["status"] == "processing"


def test_unknown_amounts_are_null_and_never_guessed() -> None:
    story = a_story()
    intent = story.start_payment(story.open_session())
    del story.events[-1]["data"]["object"]["amount"], story.events[-1]["data"]["object"]["currency"]
    assert intent["id"]
    unknown = state(story)
    assert [unknown[name] for name in ("amount_due", "amount_captured", "amount_refunded", "amount_lost")] == [None] * 4
    assert (unknown["currency"], unknown["exponent"]) == (None, None)


def test_r30_a_renewal_touches_an_attribute_of_the_quote_and_its_documents_alone() -> None:
    story = a_story()
    session = story.open_session(mode="subscription")
    subscription = story.subscribe(session, story.add_customer()["id"])
    bill = story.bill(subscription, reason="subscription_create")
    session["invoice"] = bill["id"]
    story.bill_paid(bill, story.bill_intent(bill))
    story.change("customer.subscription.updated", subscription, status="active")
    story.complete(session)
    before = state(story)
    story.renew(subscription, paid=False)
    after = state(story)
    assert (before["subscription_status"], after["subscription_status"]) == ("active", "past_due")
    assert {name for name in before if before[name] != after[name]} == {"subscription_status", "document_names"}
    assert len(after["document_names"]) == 2


def test_a_disputed_renewal_is_an_anomaly_and_no_headline() -> None:
    story = a_story()
    session = story.open_session(mode="subscription")
    subscription = story.subscribe(session, story.add_customer()["id"])
    first = story.bill(subscription, reason="subscription_create")
    session["invoice"] = first["id"]
    story.bill_paid(first, story.bill_intent(first))
    story.complete(session)
    story.wait(30 * DAY)
    renewal = story.bill(subscription, reason="subscription_cycle")
    story.open_dispute(story.bill_paid(renewal, story.bill_intent(renewal)))
    assert (state(story)["status"], state(story)["anomalies"]) == ("paid", ["renewal_disputed"])


def test_payment_switched_off_says_so_until_money_comes() -> None:
    story = keyed(a_story())
    told = [published(story, payment_enabled=False)]
    assert final(fold(told)[0])[story.p.quote_id]["status"] == "not_enabled"
    paid_by_card(story)
    assert state(keyed(story), told=told)["status"] == "paid"


@pytest.mark.parametrize("ending", ["recalled", "expired"])
def test_money_outranks_life(ending: str) -> None:
    story = a_story()
    ended = own(story, f"quote.{ending}", {"quote_id": story.p.quote_id, "revision": 1})
    told = [published(story, expires_at=story.now), ended]
    assert final(fold(told)[0])[story.p.quote_id]["status"] == ending
    story.wait(60)
    paid_by_card(story)
    paid = state(keyed(story), told=told)
    assert paid["status"] == "paid"
    assert f"paid_after_{'recall' if ending == 'recalled' else 'expiry'}" in paid["anomalies"]


def test_money_of_an_older_revision_is_named() -> None:
    story = a_story()
    told = [published(story), published(story, revision=2)]
    paid_by_card(story)
    paid = state(keyed(story), told=told)
    assert (paid["status"], paid["revision"], paid["paid_revision"]) == ("paid", 2, 1)
    assert paid["anomalies"] == ["paid_old_revision"]


def test_a_session_that_we_did_not_create_counts_by_its_captured_money_alone() -> None:
    story = a_story()
    told = [published(story)]
    story.complete(story.open_session())
    foreign = state(story, told=told)
    assert (foreign["status"], foreign["amount_captured"], foreign["paid_at"]) == ("pending", 0, None)
    assert foreign["anomalies"] == ["foreign_session"]
    paid_by_card(story)
    assert (state(story, told=told)["status"], state(story, told=told)["amount_captured"]) == ("paid", DUE)


def test_another_currency_is_not_summed() -> None:
    story = a_story()
    told = [published(story, currency="sek")]
    paid_by_card(story)
    odd = state(keyed(story), told=told)
    assert (odd["amount_captured"], "currency_mismatch" in odd["anomalies"]) == (0, True)


def test_a_state_that_stripe_invents_is_named() -> None:
    story = a_story()
    charge = paid_by_card(story)
    story.refund(charge, status="teleported")
    assert (state(story)["status"], state(story)["anomalies"]) == ("paid", ["unknown_state"])


def test_r16_a_changed_coupon_is_an_anomaly_while_the_quote_is_live() -> None:
    story = a_story()
    told = [published(story)]
    coupon = {"id": "Q-coupon", "object": "coupon", "metadata": {"quote_id": story.p.quote_id}}
    story.emit("coupon.updated", coupon)
    assert state(story, told=told)["anomalies"] == ["coupon_changed"]
    paid_by_card(story)
    assert state(keyed(story), told=told)["anomalies"] == []


def test_metadata_wins_over_a_client_reference_that_differs() -> None:
    story = a_story()
    paid_by_card(story)
    for sent in story.events:
        if sent["data"]["object"]["object"] == "checkout.session":
            sent["data"]["object"]["client_reference_id"] = "Q-another"
    assert (state(story)["quote_id"], state(story)["anomalies"]) == (story.p.quote_id, ["quote_id_conflict"])


def test_two_quotes_that_claim_one_purchase_share_it_the_same_in_every_order() -> None:
    story = a_story(quote_id="Q-a")
    charge = paid_by_card(story)
    story.refund(charge, 10)
    for sent in story.events:
        if sent["data"]["object"]["object"] == "payment_intent":
            sent["data"]["object"]["metadata"] = {"quote_id": "Q-b"}
    events = [as_event(sent) for sent in story.events]
    causal, backwards = final(fold(events)[0]), final(fold(events[::-1])[0])
    assert causal == backwards
    assert causal["Q-b"]["amount_captured"] == DUE, "the charge is nearer to its intent than to the session"


@pytest.mark.parametrize("carrier", ["checkout.session", "payment_intent"])
def test_the_owner_of_an_adopted_quote_stands_in_its_metadata(carrier: str) -> None:
    story = a_story()
    paid_by_card(story)
    for sent in story.events:
        subject = sent["data"]["object"]
        owner = {"owner_email": "rep@example.com"} if subject["object"] == carrier else {}
        subject["metadata"] = {"quote_id": story.p.quote_id, **owner}
    assert state(story)["owner"] == {"name": None, "email": "rep@example.com"}


def test_the_sample_purchase_is_what_these_tests_think() -> None:
    assert isinstance(a_story().p, Purchase)
    assert a_story().p.currency != "sek"
