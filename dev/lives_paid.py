"""Lives of a quote that is paid at once, or not: cards, bank debits, authorisations, several sessions."""

from dev.life import Expected, Life
from dev.story import DAY, Story
from dev.stripe_events import Json
from dev.stripe_objects import Purchase


def card_payment(story: Story, *, amount: int | None = None) -> tuple[Json, Json, Json]:
    """Session, intent and charge of a card payment that goes through at once."""
    session = story.open_session(amount=amount)
    story.wait(40)
    if not story.p.guest:
        session["customer"] = story.add_customer()["id"]
    intent = story.start_payment(session, customer_id=session["customer"])
    charge = story.charge_succeeds(intent)
    story.wait(1)
    story.complete(session, intent)
    story.wait(2)
    story.by_stripe()
    story.book(charge)
    story.wait(DAY)
    return session, intent, charge


def card(p: Purchase) -> Life:
    """One-time, paid by card."""
    story = Story(p)
    card_payment(story)
    return Life("card", p, story.events, Expected(status="paid", amount_due=p.amount, captured=p.amount))


def declined_then_paid(p: Purchase) -> Life:
    """The first card is declined; the buyer takes another in the same session."""
    story = Story(p)
    session = story.open_session()
    intent = story.start_payment(session)
    story.charge_fails(intent)
    story.wait(30)
    charge = story.charge_succeeds(intent)
    story.complete(session, intent)
    story.book(charge)
    kinds = ("receipt",)
    expected = Expected(status="paid", amount_due=p.amount, captured=p.amount, documents=kinds)
    return Life("declined_then_paid", p, story.events, expected)


def declined_then_expired(p: Purchase) -> Life:
    """The card is declined, and the buyer does not come back."""
    story = Story(p)
    session = story.open_session()
    intent = story.start_payment(session)
    session["payment_intent"] = intent["id"]
    story.charge_fails(intent)
    story.wait(DAY)
    story.by_stripe()
    story.expire(session)
    expected = Expected(status="payment_failed", amount_due=p.amount, captured=0, paid=False, documents=())
    return Life("declined_then_expired", p, story.events, expected)


def _debit(story: Story) -> tuple[Json, Json, Json]:
    session = story.open_session()
    intent = story.start_payment(session, method="sepa_debit")
    charge = story.charge_waits(intent)
    story.complete(session, intent, payment_status="unpaid")
    story.wait(4 * DAY)
    story.by_stripe()
    return session, intent, charge


def debit_settles(p: Purchase) -> Life:
    """A bank debit comes through days later."""
    story = Story(p)
    session, intent, charge = _debit(story)
    story.charge_succeeds(intent, charge)
    story.settle_session(session, paid=True)
    return Life("debit_settles", p, story.events, Expected(status="paid", amount_due=p.amount, captured=p.amount))


def debit_fails(p: Purchase) -> Life:
    """A bank debit is refused days later."""
    story = Story(p)
    session, intent, charge = _debit(story)
    story.charge_fails(intent, charge, code="insufficient_funds")
    story.settle_session(session, paid=False)
    expected = Expected(status="payment_failed", amount_due=p.amount, captured=0, paid=False, documents=())
    return Life("debit_fails", p, story.events, expected)


def debit_fails_after_settling(p: Purchase) -> Life:
    """A bank debit came through, and is taken back by the bank: the charge fails after it succeeded."""
    story = Story(p)
    session, intent, charge = _debit(story)
    story.charge_succeeds(intent, charge)
    story.settle_session(session, paid=True)
    story.wait(3 * DAY)
    story.charge_fails(intent, charge, code="insufficient_funds")
    expected = Expected(status="payment_failed", amount_due=p.amount, captured=0)
    return Life("debit_fails_after_settling", p, story.events, expected)


def _authorise(story: Story) -> tuple[Json, Json]:
    session = story.open_session()
    intent = story.start_payment(session, manual=True)
    charge = story.charge_succeeds(intent)
    story.complete(session, intent, payment_status="unpaid")
    story.wait(DAY)
    return intent, charge


def authorised(p: Purchase) -> Life:
    """Authorised and never captured: that is not money."""
    story = Story(p)
    _authorise(story)
    expected = Expected(status="processing", amount_due=p.amount, captured=0, paid=False, documents=())
    return Life("authorised", p, story.events, expected)


def captured_later(p: Purchase) -> Life:
    """Authorised, then captured."""
    story = Story(p)
    story.capture(*_authorise(story))
    return Life("captured_later", p, story.events, Expected(status="paid", amount_due=p.amount, captured=p.amount))


def captured_in_part(p: Purchase) -> Life:
    """Authorised, then captured in part; the rest is released, which is no refund."""
    story = Story(p)
    part = p.amount // 2
    story.capture(*_authorise(story), part)
    expected = Expected(status="partially_paid", amount_due=p.amount, captured=part)
    return Life("captured_in_part", p, story.events, expected)


def expired(p: Purchase) -> Life:
    """Nobody pays; the session expires."""
    story = Story(p)
    session = story.open_session()
    story.wait(DAY)
    story.by_stripe()
    story.expire(session)
    expected = Expected(status="pending", amount_due=p.amount, captured=0, paid=False, documents=())
    return Life("expired", p, story.events, expected)


def expired_then_paid(p: Purchase) -> Life:
    """A first session is paid while a second, opened later, expires afterwards: the money stays."""
    story = Story(p)
    first = story.open_session()
    story.wait(5)
    second = story.open_session()
    intent = story.start_payment(first)
    story.charge_succeeds(intent)
    story.complete(first, intent)
    story.wait(DAY)
    story.by_stripe()
    story.expire(second)
    return Life("expired_then_paid", p, story.events, Expected(status="paid", amount_due=p.amount, captured=p.amount))


def double_payment(p: Purchase) -> Life:
    """Two sessions of one quote are both paid."""
    story = Story(p)
    card_payment(story)
    card_payment(story)
    expected = Expected(
        status="paid",
        amount_due=p.amount,
        captured=2 * p.amount,
        documents=("receipt", "receipt"),
        anomalies=("overpaid",),
    )
    return Life("double_payment", p, story.events, expected)


def free(p: Purchase) -> Life:
    """A discount of 100 %: no payment required, no charge, no document."""
    story = Story(p)
    session = story.open_session(amount=0, discount=p.amount)
    coupon = story.ids.draw("coupon")
    session["discounts"] = [{"coupon": coupon, "promotion_code": None}]
    story.complete(session, payment_status="no_payment_required")
    expected = Expected(status="paid", amount_due=0, captured=0, documents=())
    return Life("free", p, story.events, expected)
