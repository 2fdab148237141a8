"""What a mail to a quote's owner says: composed when it is sent, from what is true then (RULES S5). Pure.

The letter is in English; dates and money are written as the quote's locale writes them, the day in its time zone.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from quittance.wording import day, money
from workers.mail.addresses import one_line

PAID: Final = "paid"

LINE: Final = 72
# Parted by ASCII's white space alone: an amount stays in one piece with its no-break spaces.
_words_of = re.compile(r"[^ \t\n\r\f\v]+").findall


def wrapped(text: str) -> str:
    """One paragraph in lines of up to LINE characters; a longer word has a line of its own."""
    lines = [""]
    for word in _words_of(text):
        if lines[-1] and len(lines[-1]) + len(word) >= LINE:
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


_templates: Final = Environment(
    loader=PackageLoader("workers.mail"),
    autoescape=select_autoescape(("html",)),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_templates.filters["wrapped"] = wrapped
TEXT: Final = _templates.get_template("letter.txt")
HTML: Final = _templates.get_template("letter.html")

# R29. No end date is ever set, so somebody has to end it.
RECURS: Final = "This quote recurs: its subscription goes on until somebody cancels it in Stripe."
ENDED: Final = "This quote was recurring; its subscription has ended in Stripe."
SUBSCRIPTION_ENDED: Final = frozenset({"canceled", "incomplete_expired"})

# No money is there, although the quote had been paid.
FAILED_SINCE: Final = frozenset({"payment_failed", "checkout_started", "expired", "recalled", "pending", "not_enabled"})

# What Stripe itself serves; a link of anybody else does not get into a mail of ours.
LINK_HOSTS: Final = ("stripe.com",)

# Per anomaly: the subject's words after "Quote {number}: ", and what it means for the owner.
ANOMALIES: Final[dict[str, tuple[str, str]]] = {
    "coupon_changed": (
        "its coupon was changed in Stripe",
        (
            "The coupon that carries this quote's discount was edited or deleted in Stripe, and the quote can still be "
            "checked out. That can fail now, or give the buyer another price. To change a discount, recall the quote, edit "
            "it and publish it again."
        ),
    ),
    "currency_mismatch": (
        "money in another currency",
        (
            "Something was paid for this quote in a currency other than the quote's. It is not counted: please look at the "
            "payment in Stripe."
        ),
    ),
    "foreign_session": (
        "a checkout that was not made here",
        (
            "A checkout session in Stripe names this quote, but was not made by its Check out. Only money that it really "
            "brought in is counted: please look at who made it."
        ),
    ),
    "overpaid": (
        "more was paid than is due",
        (
            "More money has come in for this quote than it asks for. Perhaps it was paid twice: what is too much can be "
            "refunded in Stripe."
        ),
    ),
    "paid_after_expiry": (
        "paid after it had expired",
        "This quote was paid after its expiry date. The payment counts; whether the offer still does is yours to say.",
    ),
    "paid_after_recall": (
        "paid after it was recalled",
        "This quote was paid after it had been recalled. The payment counts; it can be refunded in Stripe.",
    ),
    "paid_old_revision": (
        "an older revision was paid",
        "An older revision of this quote has been paid, not the one that is published now. Please compare the amounts.",
    ),
    "quote_id_conflict": (
        "a checkout names two quotes",
        "A checkout session in Stripe names one quote in its metadata and another as its reference. The metadata count.",
    ),
    "renewal_disputed": (
        "a renewal is disputed",
        "The buyer's bank disputes a renewal of this quote's subscription, not its first payment. Answer it in Stripe.",
    ),
    "unknown_state": (
        "Stripe reports a state unknown to us",
        (
            "Stripe has sent a state of a payment that this version does not know, so the status may be behind. Please look "
            "at the payment in Stripe."
        ),
    ),
}
UNKNOWN_ANOMALY: Final = ("something needs a look", "Something about this quote's payment needs a look in Stripe.")


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """A mail that is due, and its quote as it stands. Amounts in minor units, times in Unix seconds."""

    kind: str  # `paid`, or an anomaly
    revision: int
    account: str
    livemode: bool
    quote_id: str
    number: str | None
    title: str | None
    locale: str
    time_zone: str
    owner_name: str | None
    current_revision: int
    status: str
    label: str
    paid_at: int | None  # of the revision that the mail is about
    currency: str | None
    exponent: int | None
    amount_due: int | None
    amount_captured: int | None
    amount_refunded: int | None
    amount_lost: int | None
    subscription_status: str | None
    customer_email: str | None
    documents: tuple[dict[str, Any], ...]
    recurs: bool  # whether a subscription is known of, be it by its id alone
    to_owner: bool  # False where it goes to MAIL_TO instead

    def name(self) -> str:
        """What people call the quote."""
        return one_line(self.number or self.quote_id, 100)

    def written(self, amount: int | None) -> str | None:
        """An amount in the quote's locale; None where it, its currency or its decimals are not known."""
        if amount is None or self.currency is None or self.exponent is None:
            return None
        return _money(amount, self.currency, self.exponent, self.locale)


# A letter says the same sum several times.
_money: Final = lru_cache(maxsize=1024)(money)


class Row(NamedTuple):
    """A line of the letter's table."""

    name: str
    value: str
    link: str | None = None


class Letter(NamedTuple):
    """A mail's subject and both its bodies."""

    subject: str
    text: str
    html: str


def compose(mail: Mail) -> Letter:
    """The letter for `mail`, saying what is true of the quote now."""
    title = one_line(mail.title or "")
    called = f"Quote {mail.name()}" + (f", “{title}”," if title else "")
    paragraphs = _paid(mail, called) if mail.kind == PAID else _anomaly(mail, called)
    subject = _paid_subject(mail) if mail.kind == PAID else f"Quote {mail.name()}: {_words(mail)[0]}"
    content = {
        "subject": subject,
        "greeting": _greeting(mail.owner_name if mail.to_owner else None),
        "paragraphs": paragraphs,
        "rows": list(_rows(mail)),
        "test_mode": not mail.livemode,
        "to_owner": mail.to_owner,
        "name": mail.name(),
    }
    return Letter(
        subject=" ".join(subject.split()),  # a no-break space would have the whole subject encoded
        text=TEXT.render(content),
        html=HTML.render(content),
    )


def _paid_subject(mail: Mail) -> str:
    amount = _paid_amount(mail)
    return f"Quote {mail.name()} has been paid" + (f": {amount}" if amount else "")


def _paid_amount(mail: Mail) -> str | None:
    """What was paid; None where nothing of it is left to be named, as when a bank debit failed after it succeeded."""
    return mail.written(mail.amount_captured) if mail.amount_captured or mail.status == "paid" else None


def _greeting(name: str | None) -> str:
    name = one_line(name or "", 60)
    return f"Hello {name}," if name else "Hello,"


def _words(mail: Mail) -> tuple[str, str]:
    return ANOMALIES.get(mail.kind, UNKNOWN_ANOMALY)


def _paid(mail: Mail, called: str) -> list[str]:
    """That it was paid, and what has become of the money since."""
    amount, on = _paid_amount(mail), day(mail.paid_at, locale=mail.locale, time_zone=mail.time_zone)
    first = f"{called} was paid" + (f" on {on}" if on else "") + (f": {amount}." if amount else ".")
    paragraphs = [" ".join([first, *_since(mail)])]
    if mail.revision != mail.current_revision:
        paragraphs.append(f"That was revision {mail.revision}; the quote is at revision {mail.current_revision} now.")
    if mail.recurs or mail.subscription_status is not None:
        paragraphs.append(ENDED if mail.subscription_status in SUBSCRIPTION_ENDED else RECURS)
    return paragraphs


def _since(mail: Mail) -> Iterator[str]:
    refunded, lost = mail.written(mail.amount_refunded), mail.written(mail.amount_lost)
    if mail.status == "partially_paid" and (due := mail.written(mail.amount_due)):
        yield f"That is part of the {due} that it asks for."
    if mail.status == "refunded":
        yield f"Since then it has been refunded{f': {refunded}' if refunded else ''}."
    elif mail.amount_refunded:
        yield f"Since then {refunded or 'part of it'} has been refunded."
    if mail.status == "disputed":
        yield "Since then the payment has been disputed: please answer the dispute in Stripe."
    if mail.amount_lost:
        yield f"Since then a dispute about it has been lost, and {lost or 'the money'} went back to the buyer."
    if mail.status == "processing":
        yield "Since then that payment has failed; another one is being processed."
    if mail.status in FAILED_SINCE:
        yield "Since then that payment has failed: the money did not arrive, or went back."


def _anomaly(mail: Mail, called: str) -> list[str]:
    return [_words(mail)[1], f"{called} stands at: {mail.label}."]


def _rows(mail: Mail) -> Iterator[Row]:
    yield Row("Quote", mail.name() + (f" (revision {mail.current_revision})" if mail.current_revision > 1 else ""))
    for name, amount in (
        ("Due", mail.amount_due),
        ("Paid", mail.amount_captured),
        ("Refunded", mail.amount_refunded or None),
        ("Lost in a dispute", mail.amount_lost or None),
    ):
        if written := mail.written(amount):
            yield Row(name, written)
    yield Row("Status", one_line(mail.label))
    if mail.customer_email:
        yield Row("Customer", one_line(mail.customer_email))
    for document in mail.documents:
        kind = "Invoice" if document.get("kind") == "invoice" else "Receipt"
        link = _link(document.get("url"))
        number = one_line(str(document.get("number") or ""), 60)
        if link or number:
            yield Row(kind, number or "in Stripe", link)


def _link(value: object) -> str | None:
    """A document's link where it leads to Stripe, and nowhere else."""
    if not isinstance(value, str) or one_line(value, len(value) + 1) != value or " " in value:
        return None
    try:
        parts = urlsplit(value)
        host = parts.hostname or ""
    except ValueError:
        return None
    ours = any(host == known or host.endswith(f".{known}") for known in LINK_HOSTS)
    return value if parts.scheme == "https" and ours else None
