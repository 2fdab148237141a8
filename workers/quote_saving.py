"""Storing what a batch made of its quotes, objects and waiting facts."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from quittance.domain.tracked import Tracked
from quittance.locks import Connection
from quittance.statements import Row, save
from workers.quote_book import Book, QuoteRecord, Scope, Told
from workers.quote_changes import NO_PUBLICATION

SAVE_QUOTES: Final = """
INSERT INTO quotes AS old (
    account, livemode, quote_id, sequence, facts, data, documents_version, document_names, number, title, locale,
    time_zone, owner_name, owner_email, revision, status, label, paid_at, paid_revision, currency, amount_due,
    amount_captured, amount_refunded, amount_lost, dispute_status, subscription_status, anomalies
)
SELECT account, livemode, quote_id, sequence, facts, data, documents_version, document_names, number, title, locale,
       time_zone, data -> 'owner' ->> 'name', data -> 'owner' ->> 'email', (data ->> 'revision')::integer,
       data ->> 'status', data ->> 'label', (data ->> 'paid_at')::timestamptz, (data ->> 'paid_revision')::integer,
       data ->> 'currency', (data ->> 'amount_due')::bigint, (data ->> 'amount_captured')::bigint,
       (data ->> 'amount_refunded')::bigint, (data ->> 'amount_lost')::bigint, data ->> 'dispute_status',
       data ->> 'subscription_status', ARRAY(SELECT jsonb_array_elements_text(data -> 'anomalies'))
FROM unnest($1::text[], $2::boolean[], $3::text[], $4::bigint[], $5::jsonb[], $6::jsonb[], $7::bigint[], $8::jsonb[],
            $9::text[], $10::text[], $11::text[], $12::text[])
  AS new (account, livemode, quote_id, sequence, facts, data, documents_version, document_names, number, title, locale,
          time_zone)
ON CONFLICT (account, livemode, quote_id) DO UPDATE SET
    sequence = excluded.sequence, facts = excluded.facts, data = excluded.data,
    documents_version = excluded.documents_version, document_names = excluded.document_names,
    number = excluded.number, title = excluded.title, locale = excluded.locale, time_zone = excluded.time_zone,
    owner_name = excluded.owner_name, owner_email = excluded.owner_email, revision = excluded.revision,
    status = excluded.status, label = excluded.label, paid_at = excluded.paid_at,
    paid_revision = excluded.paid_revision, currency = excluded.currency, amount_due = excluded.amount_due,
    amount_captured = excluded.amount_captured, amount_refunded = excluded.amount_refunded,
    amount_lost = excluded.amount_lost, dispute_status = excluded.dispute_status,
    subscription_status = excluded.subscription_status, anomalies = excluded.anomalies,
    changed_at = CASE WHEN old.sequence = excluded.sequence THEN old.changed_at ELSE now() END
"""
# A transaction can get its number long before it gets the quote's lock, so a later change of a quote may be written by an
# earlier transaction: its place in the feed is no less than that of the change before it (web/changes.py).
SAVE_CHANGES: Final = """
INSERT INTO quote_status_changes (
    account, livemode, quote_id, sequence, previous, status, label, cause_id, cause_type, data, feed_place
)
SELECT account, livemode, data ->> 'quote_id', (data ->> 'sequence')::bigint, data ->> 'previous', data ->> 'status',
       data ->> 'label', data -> 'cause' ->> 'id', data -> 'cause' ->> 'type', data,
       greatest(pg_current_xact_id(), (
           SELECT feed_place FROM quote_status_changes AS before
           WHERE (before.account, before.livemode, before.quote_id) = (new.account, new.livemode, new.data ->> 'quote_id')
           ORDER BY before.sequence DESC LIMIT 1
       ))
FROM unnest($1::text[], $2::boolean[], $3::jsonb[]) AS new (account, livemode, data)
"""
SAVE_OBJECTS: Final = """
INSERT INTO stripe_objects (account, livemode, object_id, quote_id, kind, snapshot)
SELECT * FROM unnest($1::text[], $2::boolean[], $3::text[], $4::text[], $5::text[], $6::jsonb[])
ON CONFLICT (account, livemode, object_id) DO UPDATE SET
    quote_id = excluded.quote_id, kind = excluded.kind, snapshot = excluded.snapshot, changed_at = now()
"""
SAVE_WAITING: Final = """
INSERT INTO waiting_facts (account, livemode, id, object_id, fact)
SELECT * FROM unnest($1::text[], $2::boolean[], $3::text[], $4::text[], $5::jsonb[])
"""


async def save_books(books: Sequence[Book], db: Connection) -> None:
    """Store everything that changed in `books`."""
    await save(
        db,
        (SAVE_QUOTES, [row for book in books for row in _quotes(book)]),
        (SAVE_CHANGES, [row for book in books for row in _changes(book)]),
        (SAVE_OBJECTS, [row for book in books for row in _objects(book)]),
        (SAVE_WAITING, [row for book in books for row in _waiting(book)]),
    )


def _quotes(book: Book) -> Iterable[Row]:
    for quote_id, record in book.quotes.items():
        if not record.changed:
            continue
        publication = _newest(record)
        yield (
            *book.scope,
            quote_id,
            record.sequence,
            _json(record.facts),
            _json(record.data),
            record.documents_version,
            _json(record.document_names),
            publication.number,
            publication.title,
            publication.locale or "en",
            publication.time_zone or "UTC",
        )


def _newest(record: QuoteRecord) -> Any:
    published = record.facts.published
    return published[max(published)] if published else NO_PUBLICATION


def _changes(book: Book) -> Iterable[Row]:
    for record in book.quotes.values():
        for data in record.told:
            yield (*book.scope, _json(data))


def _objects(book: Book) -> Iterable[Row]:
    for object_id in sorted(book.changed):
        owner = book.owners.get(object_id)
        if owner is not None:
            tracked = book.objects[object_id]
            yield (*book.scope, object_id, owner, tracked.kind, _json(tracked))


def _waiting(book: Book) -> Iterable[Row]:
    for sighting in book.waiting:
        if sighting.id not in book.owners:
            yield from _waiting_sighting(book.scope, sighting)
    for quote_id, what in book.waiting_told:
        if quote_id not in book.quotes:
            yield from _waiting_told(book.scope, quote_id, what)


def _waiting_sighting(scope: Scope, sighting: Tracked) -> Iterable[Row]:
    yield (*scope, sighting.id, sighting.id, _json(sighting))
    for named in sorted({object_id for _, object_id in sighting.ties} - {sighting.id}):
        yield (*scope, named, sighting.id, None)
    if sighting.claim is not None:
        yield (*scope, f"quote:{sighting.claim.quote_id}", sighting.id, None)


def _waiting_told(scope: Scope, quote_id: str, what: Told) -> Iterable[Row]:
    own_id = f"own:{what.event_id}"
    yield (*scope, own_id, own_id, _json(what))
    yield (*scope, f"quote:{quote_id}", own_id, None)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
