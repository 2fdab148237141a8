"""Documents: the receipts and invoices of quotes (R14), one row per Stripe object, kept current.

Consumes  stripe.events     charge.*, refund.*, invoice.*
          quittance.events  quote.documents_named: the quotes worker alone knows whose a charge or an invoice is
Writes    documents, document_owners, document_namings, waiting_documents (what no quote has named)
Emits     document.changed  to quotes: when anything that a document says has changed, or it is withdrawn
"""

from collections.abc import Sequence
from typing import Final

from quittance.broker import QUITTANCE_EVENTS, STRIPE_EVENTS, Queue
from quittance.domain.document_owners import Change, Entries, Named, ObjectKey, name, named_from, take
from quittance.domain.documents import Kept
from quittance.event import Event, data_of, own_event
from quittance.locks import Connection
from workers.document_ledger import QuoteKey, facts_of_event, open_ledger
from workers.runtime.intake import AFTERWARDS

NAMED: Final = "quote.documents_named"

# `invoice.upcoming` is about an invoice that does not exist yet, and has no id.
STRIPE_TYPES: Final = (
    "charge.captured",
    "charge.expired",
    "charge.failed",
    "charge.pending",
    "charge.refund.updated",
    "charge.refunded",
    "charge.succeeded",
    "charge.updated",
    "invoice.created",
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.payment_succeeded",
    "invoice.sent",
    "invoice.updated",
    "invoice.voided",
    "refund.created",
    "refund.failed",
    "refund.updated",
)

QUEUE: Final = Queue("documents", {STRIPE_EVENTS: STRIPE_TYPES, QUITTANCE_EVENTS: (NAMED,)})
INTAKE: Final = AFTERWARDS

DRAW_VERSIONS: Final = "SELECT nextval('versions') FROM generate_series(1, $1::integer)"


async def handle(events: Sequence[Event], db: Connection) -> list[Event]:
    """Keep the documents that the events are about; what no quote has named waits. See the module's page."""
    read = [(event, _named(event), _facts(event)) for event in events]
    quotes = {_quote_key(event, named) for event, named, _ in read if named is not None}
    named_objects = {_key(event, object_id) for event, named, _ in read if named for object_id in named.object_ids}
    seen_objects = {_key(event, fact.subject.id) for event, _, facts in read for fact in facts}
    ledger = await open_ledger(db, quotes, named_objects, seen_objects)

    changes: list[tuple[Change, Event]] = []
    for event, named, facts in read:
        if named is None:
            changes += [(change, event) for change in take(ledger.entries, event.account, event.livemode, facts)]
        elif ledger.is_newest(_quote_key(event, named), named.version):
            changes += [(change, event) for change in name(ledger.entries, event.account, event.livemode, named)]
    emitted = await _tell(db, ledger.entries, changes)
    await ledger.save(db)
    return emitted


def _named(event: Event) -> Named | None:
    return named_from(data_of(event)[0]) if event.type == NAMED else None


def _facts(event: Event) -> list[Kept]:
    if event.type == NAMED:
        return []
    return facts_of_event(event)


def _quote_key(event: Event, named: Named) -> QuoteKey:
    return QuoteKey(event.account, event.livemode, named.quote_id)


def _key(event: Event, object_id: str) -> ObjectKey:
    return ObjectKey(event.account, event.livemode, object_id)


async def _tell(db: Connection, entries: Entries, changes: Sequence[tuple[Change, Event]]) -> list[Event]:
    """Each change as an event under a version of its own, drawn while its object is locked."""
    if not changes:
        return []
    drawn = await db.fetch(DRAW_VERSIONS, len(changes))
    emitted = []
    for (change, event), (version,) in zip(changes, drawn, strict=True):
        entries[change.key].version = version
        emitted.append(_changed(change, version, event))
    return emitted


def _changed(change: Change, version: int, because: Event) -> Event:
    document, object_id = change.document, change.key.object_id
    subject = {
        "quote_id": change.quote_id,
        "object_id": object_id,
        "kind": document.kind,
        "number": document.number,
        "status": document.status,
        "currency": document.currency,
        "amount": document.amount,
        "amount_paid": document.amount_paid,
        "amount_refunded": document.amount_refunded,
        "url": document.url,
        "pdf_url": document.pdf_url,
        "version": version,
        "withdrawn": change.withdrawn,
    }
    event_id = f"document.changed:{object_id}:{version}"
    return own_event(event_id, "document.changed", subject, because=because, stream=change.quote_id)
