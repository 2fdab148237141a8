"""Whose document an object is, and what that quote has been told of it. Nothing here depends on the order of arrival.

The quotes worker names all documents of a quote at once, under a growing version. Where the newest namings of two
quotes hold one object, the greater version has it.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from quittance.domain.documents import Document, DocumentKind, Kept, document_of, merged
from quittance.domain.payload import GREATEST_INTEGER, StripeObject, storable
from quittance.errors import Rejected


class ObjectKey(NamedTuple):
    """A charge or an invoice."""

    account: str
    livemode: bool
    object_id: str


class Named(NamedTuple):
    """The documents of `quote_id`: all of them."""

    quote_id: str
    version: int
    object_ids: frozenset[str]


class Change(NamedTuple):
    """What a quote has to be told of one of its documents."""

    key: ObjectKey
    quote_id: str
    document: Document
    withdrawn: bool


class Entry:
    """One object while a batch is handled: who has it, what is kept of it, what its quote was told last."""

    def __init__(self) -> None:
        self.owners: dict[str, int] = {}  # the quotes whose newest naming holds it, and that naming's version
        self.kept: Kept | None = None
        self.stored: Kept | None = None  # as its row has it; None where it has none
        self.facts: list[Kept] = []  # of this batch
        self.told: tuple[str, Document] | None = None
        self.version = 0  # under which it was told
        self.changed = False  # whether this batch has told anything

    def changes(self, key: ObjectKey) -> list[Change]:
        """What has to be told now, as being told; nothing where its quote knows it already."""
        owner = max(self.owners, key=lambda quote_id: (self.owners[quote_id], quote_id), default=None)
        document = None if self.kept is None else document_of(self.kept)
        before, self.told = self.told, None if owner is None or document is None else (owner, document)
        if self.told == before:
            return []
        self.changed = True
        changes = []
        if before is not None and (self.told is None or self.told[0] != before[0]):
            changes.append(Change(key, *before, withdrawn=True))
        if self.told is not None:
            changes.append(Change(key, *self.told, withdrawn=False))
        return changes


Entries = dict[ObjectKey, Entry]


class _NamedDocument(msgspec.Struct, frozen=True):
    object_id: str
    kind: DocumentKind


class _Naming(msgspec.Struct, frozen=True):
    quote_id: str
    version: int
    documents: list[_NamedDocument]


def named_from(subject: StripeObject) -> Named:
    """The content of `quote.documents_named`. Raises Rejected where it is not what the quotes worker emits."""
    try:
        naming = msgspec.convert(subject, _Naming)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # msgspec's own message fails on half a character
        raise Rejected("unreadable_payload", f"quote.documents_named: {type(error).__name__}") from error
    ids = frozenset(document.object_id for document in naming.documents)
    if not all(map(storable, (naming.quote_id, *ids))) or not 0 <= naming.version <= GREATEST_INTEGER:
        raise Rejected("unreadable_payload", "quote.documents_named: an id or a version that cannot be stored")
    return Named(naming.quote_id, naming.version, ids)


def take(entries: Entries, account: str, livemode: bool, facts: Iterable[Kept]) -> list[Change]:
    """Add facts to what is kept of their objects; what has to be told of it."""
    changes = []
    for fact in facts:
        key = ObjectKey(account, livemode, fact.subject.id)
        entry = entries[key]
        entry.facts.append(fact)
        entry.kept = fact if entry.kept is None else merged(entry.kept, fact)
        changes += entry.changes(key)
    return changes


def name(entries: Entries, account: str, livemode: bool, named: Named) -> list[Change]:
    """Give the quote the objects that it names, and take from it what it names no more; what has to be told of it."""
    scope = (account, livemode)
    held = {key for key, entry in entries.items() if named.quote_id in entry.owners and key[:2] == scope}
    asked = {ObjectKey(account, livemode, object_id) for object_id in named.object_ids}
    changes = []
    for key in sorted(held | asked):
        owners = entries[key].owners
        if key in asked:
            owners[named.quote_id] = named.version
        else:
            del owners[named.quote_id]
        changes += entries[key].changes(key)
    return changes
