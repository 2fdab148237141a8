"""Billing documents (R14): the receipt of a one-time charge, the invoice of a recurring one.

What is kept of a document is merged as its Stripe object is (tracked.merge), so any order of the same events, and any
repetition, ends the same. A single event's fact has the same form as everything kept: facts can wait, be folded, and
be put back, without any of them being told apart.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TypeVar, cast

import msgspec

from quittance.domain import ranks
from quittance.domain.facts import facts_of
from quittance.domain.payload import GREATEST_AMOUNT, StripeObject, minor_units, seconds, text
from quittance.domain.ranks import Key
from quittance.domain.sums import captured_of, refunded_of
from quittance.domain.tracked import Seen, Tracked, merge

DocumentKind = Literal["receipt", "invoice"]
# A charge: uncaptured is an authorisation, which is not money yet. An invoice: Stripe's own words.
ReceiptStatus = Literal["pending", "uncaptured", "succeeded", "partially_refunded", "refunded", "failed", "unknown"]
InvoiceStatus = Literal["draft", "open", "paid", "uncollectible", "void", "unknown"]

LAST_SECOND: Final = 253_402_300_799  # of the year 9999

# Stripe's links are some 200 characters; what is longer is none of them.
LONGEST_LINK: Final = 2_048

T = TypeVar("T")

# A value that newer snapshots may omit, and the event that told it: the newest that tells it counts (a receipt's
# number comes with the first receipt mail, and an event of the same second may not know it yet).
Told = tuple[Key, T]


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is kept of one charge or invoice for its document."""

    subject: Tracked
    refunds: tuple[Tracked, ...] = ()  # of a charge, by id
    number: Told[str] | None = None
    url: Told[str] | None = None
    pdf_url: Told[str] | None = None
    issued_at: Told[int] | None = None  # Unix seconds
    amount_paid: Told[int] | None = None  # of an invoice


class Document(msgspec.Struct, frozen=True):
    """What is told of a document. Amounts in minor units, null while unknown."""

    kind: DocumentKind
    status: ReceiptStatus | InvoiceStatus
    number: str | None
    currency: str | None
    amount: int | None
    amount_paid: int | None
    amount_refunded: int | None  # null of an invoice, which does not know: its charge is refunded
    url: str | None
    pdf_url: str | None


def facts_from(seen: Seen, obj: StripeObject) -> list[Kept]:
    """What a `charge.*`, `refund.*` or `invoice.*` event says of documents; nothing where its object has no id.

    Raises Rejected where an amount or a time cannot be read.
    """
    facts: dict[str, Kept] = {}
    for tracked in facts_of(seen, obj, {}):
        fact = _fact(obj, tracked)
        if fact is not None:
            before = facts.get(fact.subject.id)
            facts[fact.subject.id] = fact if before is None else merged(before, fact)
    return list(facts.values())


def merged(one: Kept, other: Kept) -> Kept:
    """What is kept after both. Commutative, associative, idempotent."""
    if one == other:
        return one
    return Kept(
        subject=merge(one.subject, other.subject),
        refunds=_merged_refunds(one.refunds + other.refunds),
        number=_newest(one.number, other.number),
        url=_newest(one.url, other.url),
        pdf_url=_newest(one.pdf_url, other.pdf_url),
        issued_at=_newest(one.issued_at, other.issued_at),
        amount_paid=_newest(one.amount_paid, other.amount_paid),
    )


def document_of(kept: Kept) -> Document | None:
    """The document; None while only refunds of its charge are known."""
    reader = _DOCUMENTS.get(kept.subject.kind)
    return None if reader is None else reader(kept)


def _fact(obj: StripeObject, tracked: Tracked) -> Kept | None:
    # Ties and claims are the quotes worker's business; unrelated facts wait in great numbers, so they stay small.
    subject = msgspec.structs.replace(tracked, ties=(), claim=None)
    if tracked.kind == "refund":
        charge_id = next((object_id for role, object_id in tracked.ties if role == "charge"), None)
        return None if charge_id is None else Kept(subject=Tracked(id=charge_id), refunds=(subject,))
    if tracked.kind == "charge":
        return _told(subject, obj, url="receipt_url", number="receipt_number", issued_at=seconds(obj, "created"))
    if tracked.kind != "invoice":
        return None  # a dispute: it is in the archive under its charge's id too
    issued_at = seconds(obj, "status_transitions", "finalized_at")
    if issued_at is None:
        issued_at = seconds(obj, "finalized_at")  # before 2019-10-17
    return _told(subject, obj, url="hosted_invoice_url", number="number", issued_at=issued_at)


def _told(subject: Tracked, obj: StripeObject, *, url: str, number: str, issued_at: int | None) -> Kept:
    return Kept(
        subject=subject,
        number=_tell(subject, text(obj, number)),
        url=_tell(subject, _link(text(obj, url))),
        pdf_url=_tell(subject, _link(text(obj, "invoice_pdf"))),
        issued_at=_tell(subject, _moment(issued_at)),
        amount_paid=_tell(subject, minor_units(obj, "amount_paid")),
    )


def _tell(subject: Tracked, value: T | None) -> Told[T] | None:
    return None if value is None or subject.key is None else (subject.key, value)


def _link(value: str | None) -> str | None:
    """A link as Stripe gives it; what a browser might run instead of opening is none."""
    return value if value is not None and value.startswith("https://") and len(value) <= LONGEST_LINK else None


def _moment(value: int | None) -> int | None:
    return value if value is not None and 0 <= value <= LAST_SECOND else None


def _newest(one: Told[Any] | None, other: Told[Any] | None) -> Told[Any] | None:
    if one is None or other is None:
        return one or other
    return max(one, other)


def _merged_refunds(refunds: Iterable[Tracked]) -> tuple[Tracked, ...]:
    kept: dict[str, Tracked] = {}
    for refund in refunds:
        before = kept.get(refund.id)
        kept[refund.id] = refund if before is None else merge(before, refund)
    return tuple(kept[refund_id] for refund_id in sorted(kept))


def _receipt(kept: Kept) -> Document:
    charge, refunded = kept.subject, _refunded(kept)
    # Too old a charge to say what was captured leaves it unknown.
    paid = None if charge.status == "succeeded" and charge.captured is None else captured_of(charge)
    return Document(
        kind="receipt",
        status=_receipt_status(charge, paid, refunded),
        number=_value(kept.number),
        currency=charge.currency,
        amount=charge.amount,
        amount_paid=paid,
        amount_refunded=refunded,
        url=_value(kept.url),
        pdf_url=None,
    )


def _invoice(kept: Kept) -> Document:
    invoice = kept.subject
    return Document(
        kind="invoice",
        # The ranks' keys are exactly these statuses.
        status=cast("InvoiceStatus", invoice.status) if invoice.status in ranks.INVOICE else "unknown",
        number=_value(kept.number),
        currency=invoice.currency,
        amount=invoice.amount,
        amount_paid=_value(kept.amount_paid),
        amount_refunded=None,
        url=_value(kept.url),
        pdf_url=_value(kept.pdf_url),
    )


def _refunded(kept: Kept) -> int:
    return min(max(0, refunded_of(kept.subject, list(kept.refunds))), GREATEST_AMOUNT)


def _receipt_status(charge: Tracked, paid: int | None, refunded: int) -> ReceiptStatus:
    if charge.status in ("pending", "failed"):
        return "pending" if charge.status == "pending" else "failed"
    if charge.status != "succeeded":
        return "unknown"
    if paid is None:
        return "succeeded"
    if paid == 0:
        return "uncaptured"
    if refunded >= paid:
        return "refunded"
    return "partially_refunded" if refunded > 0 else "succeeded"


def _value(told: Told[T] | None) -> T | None:
    return None if told is None else told[1]


_DOCUMENTS: Final[dict[str, Callable[[Kept], Document]]] = {"charge": _receipt, "invoice": _invoice}
