"""From an event to what it says of Stripe's objects (RULES S2), whatever the API version.

Field homes by version: facts of Stripe's changelog, 2025-03-31.basil moved an invoice's subscription, charge and
payment intent to `parent` and `payments`, and took `invoice` off charges and payment intents.
"""

from collections.abc import Callable, Iterator
from typing import Final

from quittance.domain import ranks
from quittance.domain.claims import claim_of
from quittance.domain.payload import StripeObject, at, items, minor_units, reference, seconds, text
from quittance.domain.tracked import KeptClaim, Kind, Role, Seen, Sighting, Tie, Tracked


def facts_of(seen: Seen, obj: StripeObject, previous: StripeObject) -> list[Tracked]:
    """What the event says of its object, and of the refunds that a charge includes; nothing where it has no id.

    Raises Rejected where an amount or a time cannot be read.
    """
    kind = kind_of(seen.type)
    object_id = reference({"id": obj}, "id")
    if kind is None or object_id is None or at(obj, "mode") == "setup":
        return []
    return list(_READERS[kind](seen, object_id, obj, previous))


def kind_of(event_type: str) -> Kind | None:
    """The kind of object that events of this type are about; None where they are none of our business."""
    for prefix, kind in _KINDS.items():
        if event_type.startswith(prefix):
            return kind
    return None


_KINDS: Final[dict[str, Kind]] = {
    "checkout.session.": "session",
    "payment_intent.": "intent",
    "charge.dispute.": "dispute",
    "charge.refund.": "refund",
    "charge.": "charge",
    "refund.": "refund",
    "invoice_payment.": "invoice_payment",
    "invoice.": "invoice",
    "customer.subscription.": "subscription",
    "coupon.": "coupon",
}


def _session(seen: Seen, object_id: str, obj: StripeObject, _: StripeObject) -> Iterator[Tracked]:
    status = _session_status(seen.type, text(obj, "status"), text(obj, "payment_status"))
    paid = status in ("paid", "no_payment_required")
    yield Tracked(
        id=object_id,
        kind="session",
        key=ranks.session_key(status, seen.created, seen.event_id),
        status=status,
        known=status in ranks.SESSION,
        created=seconds(obj, "created") or 0,
        amount=minor_units(obj, "amount_total"),
        currency=_currency(obj),
        customer=reference(obj, "customer"),
        email=text(obj, "customer_details", "email") or text(obj, "customer_email"),
        ties=_ties(
            ("intent", reference(obj, "payment_intent")),
            ("invoice", reference(obj, "invoice")),
            ("subscription", reference(obj, "subscription")),
        ),
        claim=_claim(seen, obj),
        paid_since=seen.paid_time if paid else None,
    )


def _session_status(event_type: str, status: str | None, payment_status: str | None) -> str:
    """Session and payment status in one. Nothing counts as paid that does not say so."""
    if event_type == "checkout.session.async_payment_failed":
        return "async_failed"
    if status is None:
        status = "expired" if event_type == "checkout.session.expired" else "complete"
    if status != "complete":
        return status
    if payment_status in (None, "unpaid"):
        return "complete_unpaid"
    return payment_status


def _intent(seen: Seen, object_id: str, obj: StripeObject, _: StripeObject) -> Iterator[Tracked]:
    yield Tracked(
        id=object_id,
        kind="intent",
        key=ranks.Key(0, seen.created, 0, seen.event_id),
        created=seconds(obj, "created") or 0,
        amount=minor_units(obj, "amount"),
        currency=_currency(obj),
        ties=_ties(
            ("charge", reference(obj, "latest_charge")),
            ("invoice", reference(obj, "invoice")),
            ("invoice", _invoice_reference(obj)),
            *(("charge", reference(charge, "id")) for charge in items(obj, "charges")),
        ),
        claim=_claim(seen, obj),
    )


def _invoice_reference(obj: StripeObject) -> str | None:
    """From 2026-03-25.dahlia an invoice's payment intent names the invoice as its order."""
    order = reference(obj, "payment_details", "order_reference")
    return order if order is not None and order.startswith("in_") else None


def _charge(seen: Seen, object_id: str, obj: StripeObject, _: StripeObject) -> Iterator[Tracked]:
    status = text(obj, "status") or ("succeeded" if at(obj, "paid") is True else "failed")
    status = "succeeded" if status == "paid" else status  # before 2015
    intent, amount = reference(obj, "payment_intent"), minor_units(obj, "amount")
    captured, refunded = _captured(obj, amount), minor_units(obj, "amount_refunded")
    yield Tracked(
        id=object_id,
        kind="charge",
        key=ranks.charge_key(status, seen.created, seen.event_id),
        status=status,
        known=status in ranks.CHARGE,
        created=seconds(obj, "created") or 0,
        amount=amount,
        currency=_currency(obj),
        ties=_ties(("intent", intent), ("invoice", reference(obj, "invoice"))),
        # A charge's metadata is a copy of its payment intent's, so it counts only where there is none (S3).
        claim=_claim(seen, obj) if intent is None else None,
        paid_since=seen.paid_time if status == "succeeded" and captured else None,
        captured=captured,
        refunded=refunded,
        released=_released(seen.type, amount, captured, refunded),
    )
    for refund in items(obj, "refunds"):
        yield from _refund(seen, reference(refund, "id"), {"charge": object_id, "payment_intent": intent, **refund})


def _captured(obj: StripeObject, amount: int | None) -> int | None:
    """What was captured: `amount_captured`; where absent (before 2020), all of it or nothing; None where unknown."""
    captured = minor_units(obj, "amount_captured")
    if captured is not None:
        return captured
    flag = at(obj, "captured")
    return amount if flag is True else 0 if flag is False else None


def _released(event_type: str, amount: int | None, captured: int | None, refunded: int | None) -> int:
    """What a partial capture let go of and Stripe counts into `amount_refunded`: nothing can be refunded before the
    capture, so what stands there at that moment is no refund.
    """
    if event_type != "charge.captured" or amount is None or captured is None or refunded is None:
        return 0
    return max(0, min(refunded, amount - captured))


def _refund(seen: Seen, object_id: str | None, obj: StripeObject, _: StripeObject | None = None) -> Iterator[Tracked]:
    if object_id is None:
        return
    status = text(obj, "status") or "succeeded"  # before 2016 a refund had no status
    yield Tracked(
        id=object_id,
        kind="refund",
        key=ranks.refund_key(status, seen.created, seen.event_id),
        status=status,
        known=status in ranks.REFUND,
        created=seconds(obj, "created") or 0,
        amount=minor_units(obj, "amount"),
        currency=_currency(obj),
        ties=_ties(("charge", reference(obj, "charge")), ("intent", reference(obj, "payment_intent"))),
    )


def _invoice(seen: Seen, object_id: str, obj: StripeObject, _: StripeObject) -> Iterator[Tracked]:
    status = text(obj, "status") or ("paid" if at(obj, "paid") is True else "open")
    payments = [payment for entry in items(obj, "payments") if isinstance(payment := at(entry, "payment"), dict)]
    yield Tracked(
        id=object_id,
        kind="invoice",
        key=ranks.invoice_key(status, seen.created, seen.event_id),
        status=status,
        known=status in ranks.INVOICE,
        created=seconds(obj, "created") or 0,
        amount=minor_units(obj, "total"),
        currency=_currency(obj),
        billing_reason=text(obj, "billing_reason"),
        ties=_ties(
            ("subscription", reference(obj, "parent", "subscription_details", "subscription")),
            ("subscription", reference(obj, "subscription")),
            ("intent", reference(obj, "payment_intent")),
            ("charge", reference(obj, "charge")),
            *(("intent", reference(payment, "payment_intent")) for payment in payments),
            *(("charge", reference(payment, "charge")) for payment in payments),
        ),
        claim=_claim(seen, obj),
        paid_since=seen.paid_time if status == "paid" else None,
    )


def _invoice_payment(seen: Seen, object_id: str, obj: StripeObject, _: StripeObject) -> Iterator[Tracked]:
    yield Tracked(
        id=object_id,
        kind="invoice_payment",
        key=ranks.Key(0, seen.created, 0, seen.event_id),
        ties=_ties(
            ("invoice", reference(obj, "invoice")),
            ("intent", reference(obj, "payment", "payment_intent")),
            ("charge", reference(obj, "payment", "charge")),
        ),
    )


def _subscription(seen: Seen, object_id: str, obj: StripeObject, previous: StripeObject) -> Iterator[Tracked]:
    status = text(obj, "status") or ""
    if seen.type == "customer.subscription.deleted" and status not in ranks.SUBSCRIPTION_ENDED:
        status = "canceled"
    yield Tracked(
        id=object_id,
        kind="subscription",
        key=ranks.subscription_key(status, seen.created, seen.event_id),
        status=status,
        known=status in ranks.SUBSCRIPTION,
        created=seconds(obj, "created") or 0,
        ties=_ties(("invoice", reference(obj, "latest_invoice"))),
        claim=_claim(seen, obj),
        sightings=(Sighting(status, text(previous, "status") or "", seen.event_id),),
    )


def _dispute(seen: Seen, object_id: str, obj: StripeObject, _: StripeObject) -> Iterator[Tracked]:
    status = text(obj, "status") or ""
    yield Tracked(
        id=object_id,
        kind="dispute",
        key=ranks.dispute_key(status, seen.created, seen.event_id),
        status=status,
        known=status in ranks.DISPUTE,
        created=seconds(obj, "created") or 0,
        amount=minor_units(obj, "amount"),
        currency=_currency(obj),
        ties=_ties(("charge", reference(obj, "charge")), ("intent", reference(obj, "payment_intent"))),
    )


def _coupon(seen: Seen, object_id: str, obj: StripeObject, _: StripeObject) -> Iterator[Tracked]:
    status = seen.type.removeprefix("coupon.")
    yield Tracked(
        id=object_id,
        kind="coupon",
        key=ranks.coupon_key(status, seen.created, seen.event_id),
        status=status,
        known=status in ranks.COUPON,
        claim=_claim(seen, obj),
    )


def _claim(seen: Seen, obj: StripeObject) -> KeptClaim | None:
    claim = claim_of(obj)
    if claim is None:
        return None
    return KeptClaim(
        key=(claim.from_metadata, seen.created, seen.event_id),
        quote_id=claim.quote_id,
        revision=claim.revision,
        conflict=claim.conflict,
        checkout_key=claim.checkout_key,
        owner_email=claim.owner_email,
    )


def _ties(*found: tuple[Role, str | None]) -> tuple[Tie, ...]:
    return tuple(sorted({(role, object_id) for role, object_id in found if object_id is not None}))


def _currency(obj: StripeObject) -> str | None:
    currency = text(obj, "currency")
    return currency.lower() if currency is not None and len(currency) <= 10 else None


_Reader = Callable[[Seen, str, StripeObject, StripeObject], Iterator[Tracked]]
_READERS: Final[dict[Kind, _Reader]] = {
    "session": _session,
    "intent": _intent,
    "charge": _charge,
    "refund": _refund,
    "invoice": _invoice,
    "invoice_payment": _invoice_payment,
    "subscription": _subscription,
    "dispute": _dispute,
    "coupon": _coupon,
}
