"""Quotes: from what Stripe says of its objects to one payment status per quote (RULES S).

Consumes  stripe.events     checkout.session.*, payment_intent.*, charge.*, refund.*, invoice.*, invoice_payment.*,
                            customer.subscription.*, coupon.*
          quittance.events  quote.published, quote.recalled, quote.expired, customer.changed, document.changed
Writes    quotes, quote_status_changes, stripe_objects, waiting_facts
Emits     quote.payment_status_changed   to the CRM and to notifications
          quote.documents_named          to documents: which Stripe objects are documents of which quote
"""

from collections.abc import Sequence
from typing import Final

from quittance.broker import QUITTANCE_EVENTS, STRIPE_EVENTS, Queue
from quittance.domain.facts import facts_of
from quittance.domain.fields import FIELDS, LATE_FIELDS, PREVIOUS_FIELDS
from quittance.domain.quote import OWN_TYPES, quote_id_of
from quittance.domain.tracked import Seen
from quittance.event import Event, data_of
from quittance.locks import Connection
from quittance.reading import Reader
from workers.quote_book import Reading
from workers.quote_changes import changes_of
from workers.quote_ledger import open_ledger

QUEUE: Final = Queue(
    "quotes",
    {
        STRIPE_EVENTS: (
            "checkout.session.async_payment_failed",
            "checkout.session.async_payment_succeeded",
            "checkout.session.completed",
            "checkout.session.expired",
            "payment_intent.amount_capturable_updated",
            "payment_intent.canceled",
            "payment_intent.created",
            "payment_intent.partially_funded",
            "payment_intent.payment_failed",
            "payment_intent.processing",
            "payment_intent.requires_action",
            "payment_intent.succeeded",
            "charge.captured",
            "charge.dispute.closed",
            "charge.dispute.created",
            "charge.dispute.funds_reinstated",
            "charge.dispute.funds_withdrawn",
            "charge.dispute.updated",
            "charge.expired",
            "charge.failed",
            "charge.pending",
            "charge.refund.updated",
            "charge.refunded",
            "charge.succeeded",
            "charge.updated",
            "refund.created",
            "refund.failed",
            "refund.updated",
            "invoice.created",
            "invoice.finalization_failed",
            "invoice.finalized",
            "invoice.marked_uncollectible",
            "invoice.paid",
            "invoice.payment_action_required",
            "invoice.payment_failed",
            "invoice.payment_succeeded",
            "invoice.sent",
            "invoice.updated",
            "invoice.voided",
            "invoice_payment.paid",
            "customer.subscription.created",
            "customer.subscription.deleted",
            "customer.subscription.paused",
            "customer.subscription.resumed",
            "customer.subscription.updated",
            "coupon.created",
            "coupon.deleted",
            "coupon.updated",
        ),
        QUITTANCE_EVENTS: OWN_TYPES,
    },
)


FACTS: Final = Reader(FIELDS, previous=PREVIOUS_FIELDS, late=LATE_FIELDS)


async def handle(events: Sequence[Event], db: Connection) -> list[Event]:
    """Fold each event into its quote; one status change for each event that made a difference, so `cause` is exact."""
    readings = [read(event) for event in events]
    ledger = await open_ledger(readings, db)
    emitted: list[Event] = []
    for reading in readings:
        book = ledger.book(reading.scope)
        for quote_id in sorted(book.take(reading)):
            emitted += changes_of(book, quote_id, because=reading.event)
    await ledger.save(db)
    return emitted


def read(event: Event) -> Reading:
    """What the event says. Raises Rejected where it cannot be read."""
    if event.type in OWN_TYPES:
        subject, _ = data_of(event)
        return Reading(event, [], quote_id_of(subject), subject)
    obj, previous = FACTS.read(event.body)
    return Reading(event, facts_of(Seen(event.created, event.id, event.type), obj, previous), None, obj)
