"""Lives of a quote as hypothesis tells them: any mix of attempts, refunds, disputes, renewals, publications."""

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from dev.story_after import FullStory
from dev.stripe_events import SHAPES, body
from dev.stripe_objects import purchase
from quittance.event import Event, decode_envelope, event_of

CHECKOUT_KEY = "key-of-the-revision"


def as_event(sent: dict[str, Any]) -> Event:
    """The event that the ingress makes of a webhook body."""
    raw = body(sent)
    return event_of(decode_envelope(raw), raw, received_at=float(sent["created"]))


@st.composite
def lives(
    draw: st.DrawFn, *, seed: int | str | None = None, published: bool = True, begins: int = 1_790_000_000
) -> list[Event]:
    """All events of a quote in causal order, own events included."""
    number = draw(st.integers(0, 10**6)) if seed is None else seed
    amount, shape = draw(st.integers(1_000, 40_000)), draw(st.sampled_from(SHAPES))
    # A session that we created, where the quote is published; else one that claims to be.
    metadata = {"quote_checkout_key": CHECKOUT_KEY} if draw(st.booleans()) else {}
    details = purchase(number, shape=shape, begins=begins, amount=amount, metadata=metadata)
    story = FullStory(details, refund_events=draw(st.sampled_from(["all", "charge_only", "refund_only"])))
    told: list[Event] = []
    if published and draw(st.booleans()):
        told.append(own(story, "quote.published", publication(story, draw(st.integers(1, 2)))))
    for _ in range(draw(st.integers(1, 2))):
        draw(st.sampled_from([_card, _debit, _manual, _expired, _free, _subscription]))(draw, story)
        story.wait(draw(st.integers(0, 90_000)))
        if told and draw(st.integers(0, 3)) == 0:
            revision = draw(st.integers(1, 2))
            ending = draw(st.sampled_from(["quote.recalled", "quote.expired"]))
            told.append(own(story, ending, {"quote_id": details.quote_id, "revision": revision}))
    return [as_event(sent) for sent in story.events] + told


def publication(story: FullStory, revision: int) -> dict[str, Any]:
    """What `quote.published` says."""
    return {
        "quote_id": story.p.quote_id,
        "revision": revision,
        "number": "2023-7",
        "title": "A quote",
        "currency": story.p.currency,
        "amount_due": story.p.amount,
        "payment_enabled": True,
        "locale": "en",
        "time_zone": "Europe/Stockholm",
        "expires_at": story.now + 86_400,
        "deal_id": "deal-1",
        "owner": {"name": "Olga Owner", "email": "olga@example.com"},
        "checkout_key": CHECKOUT_KEY,
    }


def own(story: FullStory, event_type: str, subject: dict[str, Any]) -> Event:
    """One of our own events about the story's quote, at the story's present time."""
    event_id = f"{event_type}:{story.p.quote_id}:{subject['revision']}:{story.now}"
    sent = {
        "id": event_id,
        "type": event_type,
        "account": story.p.account,
        "livemode": story.p.livemode,
        "created": story.now,
        "data": {"object": subject},
    }
    raw = msgspec.json.encode(sent)
    return event_of(decode_envelope(raw), raw, received_at=float(story.now))


def _pause(draw: st.DrawFn, story: FullStory) -> None:
    # Often none at all: Stripe's events share seconds, and an order by time alone must not be relied on.
    story.wait(draw(st.sampled_from([0, 0, 0, 1, 60, 86_400])))


def _card(draw: st.DrawFn, story: FullStory) -> None:
    session = story.open_session()
    intent = story.start_payment(session)
    for _ in range(draw(st.integers(0, 2))):
        story.charge_fails(intent)
        _pause(draw, story)
    if draw(st.integers(0, 4)) == 0:
        story.expire(session)
        return
    charge = story.charge_succeeds(intent)
    _pause(draw, story)
    story.complete(session, intent)
    story.book(charge)
    _afterwards(draw, story, charge)


def _debit(draw: st.DrawFn, story: FullStory) -> None:
    session = story.open_session()
    intent = story.start_payment(session, method="sepa_debit")
    charge = story.charge_waits(intent)
    story.complete(session, intent, payment_status="unpaid")
    _pause(draw, story)
    end = draw(st.sampled_from(["waits", "fails", "settles", "fails after settling"]))
    if end in ("settles", "fails after settling"):
        story.charge_succeeds(intent, charge)
        story.settle_session(session, paid=True)
        # The bank takes days: the one place where the rules let time decide.
        story.wait(86_400)
    if end in ("fails", "fails after settling"):
        story.charge_fails(intent, charge, code="insufficient_funds")
    if end == "fails":
        story.settle_session(session, paid=False)
    if end == "settles":
        _afterwards(draw, story, charge)


def _manual(draw: st.DrawFn, story: FullStory) -> None:
    session = story.open_session()
    intent = story.start_payment(session, manual=True)
    charge = story.charge_succeeds(intent)
    story.complete(session, intent, payment_status="unpaid")
    _pause(draw, story)
    part = draw(st.sampled_from([None, 1, 500, "never"]))
    if part != "never":
        story.capture(intent, charge, part if isinstance(part, int) else None)
        _afterwards(draw, story, charge)


def _expired(draw: st.DrawFn, story: FullStory) -> None:
    session = story.open_session()
    _pause(draw, story)
    story.expire(session)


def _free(draw: st.DrawFn, story: FullStory) -> None:
    story.complete(story.open_session(amount=0), payment_status="no_payment_required")


def _subscription(draw: st.DrawFn, story: FullStory) -> None:
    customer = story.add_customer()
    session = story.open_session(mode="subscription")
    subscription = story.subscribe(session, customer["id"])
    bill = story.bill(subscription, reason="subscription_create")
    session["invoice"] = bill["id"]
    charge = story.bill_paid(bill, story.bill_intent(bill))
    story.change("customer.subscription.updated", subscription, status="active")
    _pause(draw, story)
    story.complete(session)
    for _ in range(draw(st.integers(0, 2))):
        story.renew(subscription, paid=draw(st.booleans()))
    if draw(st.booleans()):
        story.cancel(subscription)
    _afterwards(draw, story, charge)


def _afterwards(draw: st.DrawFn, story: FullStory, charge: dict[str, Any]) -> None:
    for _ in range(draw(st.integers(0, 2))):
        left = charge["amount_captured"] - charge["amount_refunded"]
        if left > 0:
            _refund(draw, story, charge, left)
        _pause(draw, story)
    if draw(st.integers(0, 3)) == 0:
        dispute = story.open_dispute(charge, inquiry=draw(st.booleans()))
        story.wait(60)
        story.answer_dispute(dispute)
        story.wait(60)
        story.close_dispute(dispute, draw(st.sampled_from(["won", "lost", "warning_closed"])))


def _refund(draw: st.DrawFn, story: FullStory, charge: dict[str, Any], left: int) -> None:
    amount = draw(st.integers(1, left))
    back = story.refund(
        charge, amount, status=draw(st.sampled_from(["pending", "succeeded"])), inside=draw(st.booleans())
    )
    _pause(draw, story)
    if draw(st.booleans()):
        story.refund_becomes(back, charge, draw(st.sampled_from(["succeeded", "failed", "canceled"])))


@st.composite
def deliveries(draw: st.DrawFn, events: Sequence[Event]) -> list[Event]:
    """The same events in any order, some of them twice."""
    again = draw(st.lists(st.sampled_from(list(events)), max_size=len(events)))
    return list(draw(st.permutations([*events, *again])))
