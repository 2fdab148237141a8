"""What a buyer does on the hosted page, and what follows from it: money, a refusal, a debit that waits."""

import asyncio
from typing import Literal

from tests.fakes.stripe import coupons
from tests.fakes.stripe.errors import Refused
from tests.fakes.stripe.payments import Payment
from tests.fakes.stripe.sessions import expire_due
from tests.fakes.stripe.shapes import JsonObject
from tests.fakes.stripe.world import World

# By card at once, by a bank debit that is decided days later, or with a card that the bank refuses.
How = Literal["card", "debit", "declined"]


class NotOpen(Exception):
    """The session is complete or expired: nobody can pay on it."""


def pay(world: World, payment: Payment, how: How, email: str, name: str) -> str | None:
    """The buyer submits the page. Where to send them then; None if the card was declined, and the page stays.

    Raises NotOpen, so that a session is never paid twice.
    """
    expire_due(world)
    session = payment.session
    if session["status"] != "open":
        raise NotOpen(session["status"])
    story = payment.story
    story.goes_on(world.ids.draw("request"))
    story.is_for(_known_email(session) or email, name)
    if session["amount_total"] == 0 and session["mode"] == "payment":
        how = "card" if how == "declined" else how
        story.complete(session, payment_status="no_payment_required")
    else:
        _begin(world, payment, how)
        if how == "declined":
            _decline(payment)
            return None
        _settle_or_wait(payment, how)
    if payment.coupon is not None:
        coupons.redeem(payment.coupon)
    if how == "debit" and world.debits_settle_after is not None and payment.intent is not None:
        asyncio.get_running_loop().call_later(world.debits_settle_after, settle, payment)
    return payment.success_url.replace("{CHECKOUT_SESSION_ID}", session["id"])


def _known_email(session: JsonObject) -> str | None:
    return (session["customer_details"] or {}).get("email")


def _begin(world: World, payment: Payment, how: How) -> None:
    """The intent, and in a subscription all that leads to it; at a second try they are there already."""
    session, story = payment.session, payment.story
    if session["customer"] is None and session["customer_creation"] == "always":
        made = story.add_customer()
        session["customer"] = made["id"]
        world.customers_at(payment.place)[made["id"]] = made
    method = "sepa_debit" if how == "debit" else "card"
    if payment.intent is not None:
        payment.intent.update(payment_method_types=[method], payment_method_options={method: {}})
    elif session["mode"] == "payment":
        payment.intent = story.start(session, method)
    elif payment.invoice is None:
        payment.subscription = story.subscribe(session, session["customer"])
        payment.invoice = story.bill(payment.subscription, reason="subscription_create")
        session["invoice"] = payment.invoice["id"]
        if session["amount_total"]:
            payment.intent = story.bill_intent(payment.invoice)
            payment.intent.update(payment_method_types=[method], payment_method_options={method: {}})


def _decline(payment: Payment) -> None:
    assert payment.intent is not None
    payment.story.charge_fails(payment.intent)
    if payment.invoice is not None:
        payment.invoice.update(attempted=True, attempt_count=payment.invoice["attempt_count"] + 1)
        payment.story.emit("invoice.payment_failed", payment.invoice)


def _settle_or_wait(payment: Payment, how: How) -> None:
    session, story, intent = payment.session, payment.story, payment.intent
    status = "paid"
    if intent is None:
        assert payment.invoice is not None
        story.free_bill_paid(payment.invoice)
    elif how == "debit":
        payment.charge = story.charge_waits(intent)
        status = "unpaid"
    else:
        payment.charge = _money(payment)
    if payment.subscription is not None:
        story.change("customer.subscription.updated", payment.subscription, status="active")
        story.complete(session, payment_status=status if session["amount_total"] else "no_payment_required")
    else:
        story.complete(session, intent, payment_status=status)
    if status == "paid" and payment.charge is not None:
        story.by_stripe()
        story.book(payment.charge)


def _money(payment: Payment) -> JsonObject:
    assert payment.intent is not None
    if payment.invoice is not None:
        return payment.story.bill_paid(payment.invoice, payment.intent, payment.charge)
    return payment.story.charge_succeeds(payment.intent, payment.charge)


def settle(payment: Payment, paid: bool = True) -> None:
    """The bank decides on a debit that was waiting."""
    if payment.intent is None or payment.intent["status"] != "processing":
        raise Refused(400, "There is no debit that waits")
    story = payment.story
    story.goes_on()
    if paid:
        _money(payment)
    else:
        story.charge_fails(payment.intent, payment.charge, code="insufficient_funds")
        if payment.invoice is not None and payment.subscription is not None:
            story.emit("invoice.payment_failed", payment.invoice)
            story.change("customer.subscription.updated", payment.subscription, status="past_due")
    story.settle_session(payment.session, paid=paid)
