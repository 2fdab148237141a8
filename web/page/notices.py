"""What a page says in place of a Check out that would fail, and on the way back from Stripe. Never more than our record says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from quittance.domain.publishing.offer import MONEY, Offer
from web.page.view import Shown, valid_until, writing_of
from web.page.words import Words, words_for
from web.page.writing import Writing

Tone = Literal["good", "waiting", "closed", "trouble"]

# What becomes something else without the buyer's doing: pages that say so ask again.
PASSING: Final = frozenset({"waiting", "confirming", "processing"})


@dataclass(frozen=True)
class Notice:
    """`state` is the offer, or `waiting` on the page after Stripe; `ask_seller`: the buyer can do no more by himself."""

    state: str
    tone: Tone
    title: str
    text: str
    ask_seller: bool = False

    @property
    def passing(self) -> bool:
        """Whether it is worth asking again."""
        return self.state in PASSING


def notice_of(shown: Shown) -> Notice | None:
    """What the quote's page says; None where it offers Check out."""
    if shown.offer == "open":
        return None
    return _NOTICES[shown.offer](_Case(shown))


def notice_on_return(shown: Shown) -> Notice:
    """What the page after Stripe says. Whoever comes here has been at Stripe, and may be quicker than Stripe's word: what
    is not money yet in our record is waited for, whatever else has become of the quote.
    """
    if shown.offer in MONEY.values():
        return _NOTICES[shown.offer](_Case(shown))
    _ = words_for(shown.content["locale"]).gettext
    if shown.offer in ("confirming", "failed"):
        return _NOTICES[shown.offer](_Case(shown))
    if shown.has_failed:
        return Notice("failed", "trouble", _("The payment failed"), _("Nothing has been charged."))
    return Notice(
        "waiting",
        "waiting",
        _("Waiting for confirmation of the payment"),
        _(
            "Stripe has not told us of a payment yet. That usually takes a few seconds; this page looks again by itself."
        ),
    )


class _Case:
    """A quote of which something is to be said."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self.words: Words = words_for(shown.content["locale"])
        self.writing: Writing = writing_of(shown)
        self.valid_until = valid_until(shown, self.writing)

    @property
    def paid_on(self) -> str | None:
        return self.writing.day_of((self._shown.payment or {}).get("paid_at"))

    def amount(self, name: str) -> str | None:
        """An amount of the payment; None while unknown, or where its currency is not the quote's."""
        payment = self._shown.payment or {}
        minor = payment.get(name)
        if minor is None or payment.get("currency") != self._shown.content["currency"]:
            return None
        return self.writing.money(minor)


def _confirming(case: _Case) -> Notice:
    _ = case.words.gettext
    return Notice(
        "confirming",
        "waiting",
        _("The payment is being confirmed"),
        _("It has been handed in at Stripe, whose confirmation we are waiting for. This page looks again by itself."),
    )


def _processing(case: _Case) -> Notice:
    _ = case.words.gettext
    return Notice(
        "processing",
        "waiting",
        _("The payment is being processed"),
        _("The bank has yet to confirm it, which can take a few working days. There is nothing more for you to do."),
    )


def _paid(case: _Case) -> Notice:
    _ = case.words.gettext
    day, amount = case.paid_on, case.amount("amount_captured")
    title = _("Paid") if day is None else _("Paid on %(day)s") % {"day": day}
    text = _("Thank you.") if amount is None else _("Thank you. We have received %(amount)s.") % {"amount": amount}
    return Notice("paid", "good", title, text)


def _partially_paid(case: _Case) -> Notice:
    _ = case.words.gettext
    paid, due = case.amount("amount_captured"), case.amount("amount_due")
    text = _("Only a part of this quote has been paid.")
    if paid is not None and due is not None:
        text = _("%(paid)s of %(due)s has been paid.") % {"paid": paid, "due": due}
    return Notice("partially_paid", "waiting", _("Partly paid"), text, ask_seller=True)


def _refunded(case: _Case) -> Notice:
    _ = case.words.gettext
    amount = case.amount("amount_refunded")
    text = _("The payment has been paid back.")
    if amount is not None:
        text = _("%(amount)s has been paid back.") % {"amount": amount}
    return Notice("refunded", "closed", _("Refunded"), text)


def _partially_refunded(case: _Case) -> Notice:
    _ = case.words.gettext
    refunded, paid = case.amount("amount_refunded"), case.amount("amount_captured")
    text = _("A part of the payment has been paid back.")
    if refunded is not None and paid is not None:
        text = _("%(refunded)s of %(paid)s has been paid back.") % {"refunded": refunded, "paid": paid}
    return Notice("partially_refunded", "closed", _("Partly refunded"), text)


def _disputed(case: _Case) -> Notice:
    _ = case.words.gettext
    return Notice(
        "disputed",
        "trouble",
        _("The payment is disputed"),
        _("The bank is looking into it. Until it has decided, this quote cannot be paid."),
        ask_seller=True,
    )


def _dispute_lost(case: _Case) -> Notice:
    _ = case.words.gettext
    return Notice(
        "dispute_lost",
        "trouble",
        _("The payment was reversed"),
        _("After a dispute the bank has taken the payment back."),
        ask_seller=True,
    )


def _failed(case: _Case) -> Notice:
    _ = case.words.gettext
    return Notice(
        "failed",
        "trouble",
        _("The payment failed"),
        _("Please ask the seller how to go on: only the seller can make this quote payable again."),
        ask_seller=True,
    )


def _recalled(case: _Case) -> Notice:
    _ = case.words.gettext
    return Notice(
        "recalled",
        "closed",
        _("This quote has been withdrawn"),
        _("The seller has taken it back, and it can no longer be paid. There may be a newer one."),
        ask_seller=True,
    )


def _expired(case: _Case) -> Notice:
    _ = case.words.gettext
    text = _("It can no longer be paid.")
    if case.valid_until is not None:
        text = _("It was valid until %(day)s, and can no longer be paid.") % {"day": case.valid_until}
    return Notice("expired", "closed", _("This quote has expired"), text, ask_seller=True)


def _not_enabled(case: _Case) -> Notice:
    _ = case.words.gettext
    return Notice(
        "not_enabled",
        "closed",
        _("This quote is not paid online"),
        _("The seller will tell you how it can be paid."),
        ask_seller=True,
    )


def _unavailable(case: _Case) -> Notice:
    _ = case.words.gettext
    return Notice(
        "unavailable",
        "trouble",
        _("Payment is not available at the moment"),
        _("Nothing has been charged. Please try again later."),
        ask_seller=True,
    )


_NOTICES: Final[Mapping[Offer, Callable[[_Case], Notice]]] = {
    "confirming": _confirming,
    "processing": _processing,
    "paid": _paid,
    "partially_paid": _partially_paid,
    "refunded": _refunded,
    "partially_refunded": _partially_refunded,
    "disputed": _disputed,
    "dispute_lost": _dispute_lost,
    "failed": _failed,
    "recalled": _recalled,
    "expired": _expired,
    "not_enabled": _not_enabled,
    "unavailable": _unavailable,
}
