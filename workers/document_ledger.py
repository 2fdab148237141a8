"""What the documents worker loads before it decides and saves afterwards, under the locks that its rules need."""

import time
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
from asyncpg import Record

from quittance.domain.document_owners import Entries, Entry, ObjectKey
from quittance.domain.documents import Document, Kept, document_of, facts_from, merged
from quittance.domain.tracked import Seen
from quittance.errors import Rejected
from quittance.event import Cause, Event, data_of
from quittance.locks import Connection, lock
from quittance.statements import Row, columns, save

LOAD_NAMINGS: Final = """
SELECT account, livemode, quote_id, version
FROM unnest($1::text[], $2::boolean[], $3::text[]) AS key (account, livemode, quote_id)
JOIN document_namings USING (account, livemode, quote_id)
"""
LOAD_NAMED_OBJECTS: Final = """
SELECT account, livemode, object_id
FROM unnest($1::text[], $2::boolean[], $3::text[]) AS key (account, livemode, quote_id)
JOIN document_owners USING (account, livemode, quote_id)
"""
LOAD_OWNERS: Final = """
SELECT account, livemode, object_id, quote_id, version
FROM unnest($1::text[], $2::boolean[], $3::text[]) AS key (account, livemode, object_id)
JOIN document_owners USING (account, livemode, object_id)
"""
LOAD_DOCUMENTS: Final = """
SELECT account, livemode, object_id, quote_id, version, snapshot AS kept
FROM unnest($1::text[], $2::boolean[], $3::text[]) AS key (account, livemode, object_id)
JOIN documents USING (account, livemode, object_id)
"""
LOAD_WAITING: Final = """
SELECT account, livemode, object_id, fact AS kept
FROM unnest($1::text[], $2::boolean[], $3::text[]) AS key (account, livemode, object_id)
JOIN waiting_documents USING (account, livemode, object_id)
"""
# What waited has been dropped 40 days after its arrival at the earliest, so it was created before that; a day is
# allowed for clocks. What still waits besides is folded twice, which changes nothing.
ARCHIVED_AFTER: Final = 39 * 86_400
# Ids at a time: asked for many, the planner takes the index for a bad bargain and reads whole partitions.
FEW: Final = 20
LOAD_ARCHIVED: Final = """
SELECT account, livemode, event_id, type, extract(epoch FROM created)::bigint AS created, body
FROM events
WHERE ids && $1::text[] AND type ~ '^(charge|refund|invoice)[.]' AND created < now() - interval '39 days'
"""
KEEP_WAITING: Final = """
INSERT INTO waiting_documents (account, livemode, object_id, fact)
SELECT * FROM unnest($1::text[], $2::boolean[], $3::text[], $4::jsonb[])
"""
SAVE_NAMINGS: Final = """
INSERT INTO document_namings (account, livemode, quote_id, version)
SELECT * FROM unnest($1::text[], $2::boolean[], $3::text[], $4::bigint[])
ON CONFLICT (account, livemode, quote_id) DO UPDATE SET version = EXCLUDED.version
"""
SAVE_OWNERS: Final = """
INSERT INTO document_owners (account, livemode, object_id, quote_id, version)
SELECT * FROM unnest($1::text[], $2::boolean[], $3::text[], $4::text[], $5::bigint[])
ON CONFLICT (account, livemode, object_id, quote_id) DO UPDATE SET version = EXCLUDED.version
"""
# A naming holds all documents of its quote: what an older one named, and this one does not, is the quote's no more.
FORGET_OWNERS: Final = """
DELETE FROM document_owners
USING unnest($1::text[], $2::boolean[], $3::text[], $4::bigint[]) AS named (account, livemode, quote_id, version)
WHERE document_owners.account = named.account AND document_owners.livemode = named.livemode
  AND document_owners.quote_id = named.quote_id AND document_owners.version < named.version
"""
SAVE_DOCUMENTS: Final = """
INSERT INTO documents (account, livemode, object_id, quote_id, kind, version, number, status, currency, amount,
                       amount_paid, amount_refunded, url, pdf_url, issued_at, snapshot, changed_at)
SELECT account, livemode, object_id, quote_id, kind, version, number, status, currency, amount,
       amount_paid, amount_refunded, url, pdf_url, to_timestamp(issued_at), snapshot, now()
FROM unnest($1::text[], $2::boolean[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
            $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[], $14::text[], $15::bigint[],
            $16::jsonb[])
     AS saved (account, livemode, object_id, quote_id, kind, version, number, status, currency, amount,
               amount_paid, amount_refunded, url, pdf_url, issued_at, snapshot)
ON CONFLICT (account, livemode, object_id) DO UPDATE SET
    quote_id = EXCLUDED.quote_id, kind = EXCLUDED.kind, version = EXCLUDED.version, number = EXCLUDED.number,
    status = EXCLUDED.status, currency = EXCLUDED.currency, amount = EXCLUDED.amount,
    amount_paid = EXCLUDED.amount_paid, amount_refunded = EXCLUDED.amount_refunded, url = EXCLUDED.url,
    pdf_url = EXCLUDED.pdf_url, issued_at = EXCLUDED.issued_at, snapshot = EXCLUDED.snapshot,
    changed_at = EXCLUDED.changed_at
"""
DROP_DOCUMENTS: Final = """
DELETE FROM documents
USING unnest($1::text[], $2::boolean[], $3::text[]) AS key (account, livemode, object_id)
WHERE documents.account = key.account AND documents.livemode = key.livemode AND documents.object_id = key.object_id
"""


class QuoteKey(NamedTuple):
    """A quote."""

    account: str
    livemode: bool
    quote_id: str


_kept = msgspec.json.Decoder(Kept)


@dataclass
class Ledger:
    """The objects that a batch is about and the newest naming of each quote that it names for; all of it locked."""

    entries: Entries
    versions: dict[QuoteKey, int]
    named_before: frozenset[QuoteKey]

    def is_newest(self, quote: QuoteKey, version: int) -> bool:
        """Whether no newer naming of the quote has been seen: an older one that comes late is passed over.

        The newest one again is not: a replay finds what a bug has left undone.
        """
        if version < self.versions.get(quote, 0):
            return False
        self.versions[quote] = version
        return True

    async def save(self, db: Connection) -> None:
        """Store what has changed."""
        await save(db, *_entry_rows(self.entries), *_naming_rows(self.entries, self.versions))
        # Apart: it reads the versions that were just written.
        again: list[Row] = [(*quote, version) for quote, version in self.versions.items() if quote in self.named_before]
        await save(db, (FORGET_OWNERS, again))


async def open_ledger(db: Connection, quotes: set[QuoteKey], named: set[ObjectKey], seen: set[ObjectKey]) -> Ledger:
    """Lock and load: the quotes that are named for, the objects that are `named` or `seen`, those named until now.

    A quote before its objects, in every process: whoever holds an object never waits for a quote.
    """
    objects = named | seen
    versions: dict[QuoteKey, int] = {}
    if quotes:
        await lock(db, "documents.quotes", quotes)
        rows = await db.fetch(LOAD_NAMINGS, *columns(quotes))
        versions = {QuoteKey(row["account"], row["livemode"], row["quote_id"]): row["version"] for row in rows}
        objects |= {_key_of(row) for row in await db.fetch(LOAD_NAMED_OBJECTS, *columns(quotes))}
    # A fact and the naming of its object, handled side by side by two workers, would miss each other for ever.
    await lock(db, "documents", objects)
    return Ledger(await _load(db, objects, named), versions, frozenset(versions))


def facts_of_event(event: Event) -> list[Kept]:
    """The facts of a Stripe event. Raises Rejected where it cannot be read."""
    return facts_from(Seen(event.created, event.id, event.type), data_of(event)[0])


async def _load(db: Connection, objects: set[ObjectKey], named_objects: set[ObjectKey]) -> Entries:
    entries = {key: Entry() for key in sorted(objects)}
    if not entries:
        return entries
    for row in await db.fetch(LOAD_OWNERS, *columns(entries)):
        entries[_key_of(row)].owners[row["quote_id"]] = row["version"]
    for row in await db.fetch(LOAD_DOCUMENTS, *columns(entries)):
        entry = entries[_key_of(row)]
        entry.kept = entry.stored = kept = _kept.decode(row["kept"])
        entry.version, document = row["version"], document_of(kept)
        entry.told = None if document is None else (row["quote_id"], document)
    # What has an owner and no row, or is about to: its facts wait, if there are any.
    wanted = {key for key, entry in entries.items() if entry.stored is None and (entry.owners or key in named_objects)}
    if wanted:
        for row in await db.fetch(LOAD_WAITING, *columns(wanted)):
            _fold(entries[_key_of(row)], _kept.decode(row["kept"]))
        for key, fact in await _load_archived(db, {key for key in wanted if _may_be_old(entries[key])}):
            _fold(entries[key], fact)
    return entries


def _may_be_old(entry: Entry) -> bool:
    """Whether facts of the object may have waited so long that they were dropped: not where it is younger itself."""
    return entry.kept is None or entry.kept.subject.created < time.time() - ARCHIVED_AFTER


async def _load_archived(db: Connection, wanted: set[ObjectKey]) -> list[tuple[ObjectKey, Kept]]:
    """The facts of `wanted` whose waiting rows may have been dropped meanwhile."""
    found = []
    object_ids = sorted({key.object_id for key in wanted})
    rows: list[Record] = []
    for start in range(0, len(object_ids), FEW):
        rows += await db.fetch(LOAD_ARCHIVED, object_ids[start : start + FEW])
    for row in rows:
        event = _archived(row)
        try:
            facts = facts_of_event(event)
        except Rejected:
            continue  # it became a dead letter of its own when it came
        found += [(ObjectKey(event.account, event.livemode, fact.subject.id), fact) for fact in facts]
    return [(key, fact) for key, fact in found if key in wanted]


def _archived(row: Record) -> Event:
    return Event(
        id=row["event_id"],
        type=row["type"],
        account=row["account"],
        livemode=row["livemode"],
        created=row["created"],
        received_at=0.0,
        body=row["body"],
        cause=Cause(row["event_id"], row["type"]),
    )


def _fold(entry: Entry, fact: Kept) -> None:
    entry.kept = fact if entry.kept is None else merged(entry.kept, fact)


def _key_of(row: Record) -> ObjectKey:
    return ObjectKey(row["account"], row["livemode"], row["object_id"])


def _entry_rows(entries: Entries) -> list[tuple[str, list[Row]]]:
    saved: list[Row] = []
    dropped: list[Row] = []
    waiting: list[Row] = []
    for key, entry in entries.items():
        if entry.told is not None and entry.kept is not None:
            if entry.changed or entry.kept != entry.stored:
                saved.append(_row(key, entry.version, *entry.told, entry.kept))
        elif entry.stored is not None and entry.kept is not None:
            dropped.append(key)  # withdrawn: what is known of it waits again, as one fact
            waiting.append((*key, _text(entry.kept)))
        else:
            waiting += [(*key, _text(fact)) for fact in entry.facts]
    return [(KEEP_WAITING, waiting), (DROP_DOCUMENTS, dropped), (SAVE_DOCUMENTS, saved)]


def _row(key: ObjectKey, version: int, quote_id: str, document: Document, kept: Kept) -> Row:
    """In the order of SAVE_DOCUMENTS."""
    return (
        *key,
        quote_id,
        document.kind,
        version,
        document.number,
        document.status,
        document.currency,
        document.amount,
        document.amount_paid,
        document.amount_refunded,
        document.url,
        document.pdf_url,
        None if kept.issued_at is None else kept.issued_at[1],
        _text(kept),
    )


def _naming_rows(entries: Entries, versions: dict[QuoteKey, int]) -> list[tuple[str, list[Row]]]:
    owners: list[Row] = [
        (*key, quote_id, version)
        for key, entry in entries.items()
        for quote_id, version in entry.owners.items()
        if versions.get(QuoteKey(key.account, key.livemode, quote_id)) == version
    ]
    return [(SAVE_NAMINGS, [(*quote, version) for quote, version in versions.items()]), (SAVE_OWNERS, owners)]


def _text(kept: Kept) -> str:
    return msgspec.json.encode(kept).decode()
