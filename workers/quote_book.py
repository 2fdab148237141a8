"""The quotes of one account and mode, and the Stripe objects around them, while a batch is folded into them. In memory
and synchronous: loading and saving are workers/quote_ledger.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from quittance.domain.attribution import Neighbours, attribute, component, connect
from quittance.domain.payload import StripeObject
from quittance.domain.quote import QuoteFacts, told
from quittance.domain.tracked import Tracked, merge
from quittance.event import Event

Scope = tuple[str, bool]  # account, livemode


class Reading(NamedTuple):
    """An event as read: sightings of Stripe's objects, or what one of our own events tells of a quote."""

    event: Event
    sightings: list[Tracked]
    told_quote: str | None
    subject: StripeObject

    @property
    def scope(self) -> Scope:
        """The account and mode whose fact it is."""
        return self.event.account, self.event.livemode


class Told(NamedTuple):
    """An own event about a quote that is not known yet; it waits, and is told again once the quote is there."""

    event_id: str
    type: str
    created: int
    subject: StripeObject


@dataclass
class QuoteRecord:
    """A quote as stored: its facts, and what was last told of it."""

    facts: QuoteFacts = field(default_factory=QuoteFacts)
    sequence: int = 0
    data: dict[str, Any] | None = None  # of the newest CRM event
    documents_version: int = 0
    document_names: list[dict[str, str]] = field(default_factory=list)
    changed: bool = False
    told: list[dict[str, Any]] = field(default_factory=list)  # the changes of this batch


@dataclass
class Book:
    """Objects, the quote that each belongs to, and the quotes, of one account and mode."""

    scope: Scope
    adopts: Callable[[Tracked], bool]
    objects: dict[str, Tracked] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)
    neighbours: Neighbours = field(default_factory=dict)
    quotes: dict[str, QuoteRecord] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)  # ids of objects to store again
    waiting: list[Tracked] = field(default_factory=list)  # sightings of this batch that no quote was known for
    waiting_told: list[tuple[str, Told]] = field(default_factory=list)
    told_before: dict[str, list[Told]] = field(default_factory=dict)  # what waits for a quote, by quote

    def put(self, tracked: Tracked, owner: str | None) -> None:
        """Take in an object as it was loaded."""
        before = self.objects.get(tracked.id)
        self.objects[tracked.id] = tracked if before is None else merge(before, tracked)
        connect(self.neighbours, tracked)
        if owner is not None:
            self._own(tracked.id, owner)

    def tell_before(self, quote_id: str, what: Told) -> None:
        """Take in what waited for a quote; it is told once the quote begins."""
        if quote_id not in self.quotes:
            self.told_before.setdefault(quote_id, []).append(what)

    def is_ours(self, tracked: Tracked) -> bool:
        """Whether an object's claim makes it a quote's: the quote was published here, or is adopted (S1)."""
        if tracked.claim is None:
            return False
        record = self.quotes.get(tracked.claim.quote_id)
        return (record is not None and bool(record.facts.published)) or self.adopts(tracked)

    def take(self, reading: Reading) -> set[str]:
        """Fold one event in; returns the ids of the quotes that it may have changed."""
        if reading.told_quote is not None:
            event = reading.event
            return self._take_told(reading.told_quote, Told(event.id, event.type, event.created, reading.subject))
        return {quote_id for sighting in reading.sightings for quote_id in self._see(sighting)}

    def _take_told(self, quote_id: str, what: Told) -> set[str]:
        record = self.quotes.get(quote_id)
        if record is None and what.type != "quote.published":
            self.waiting_told.append((quote_id, what))
            self.tell_before(quote_id, what)
            return set()
        first_published = what.type == "quote.published" and (record is None or not record.facts.published)
        record = record or self._begin(quote_id)
        record.facts = told(record.facts, what.type, what.event_id, what.created, what.subject)
        record.changed = True
        if not first_published:
            return {quote_id}
        # Objects that named the quote before anybody published it are its own from now on.
        claimed = [
            tracked.id
            for tracked in self.objects.values()
            if tracked.claim is not None and tracked.claim.quote_id == quote_id
        ]
        return {quote_id} | self._attribute(component(self.neighbours, claimed))

    def _begin(self, quote_id: str) -> QuoteRecord:
        record = self.quotes[quote_id] = QuoteRecord(changed=True)
        for earlier in self.told_before.pop(quote_id, []):
            record.facts = told(record.facts, earlier.type, earlier.event_id, earlier.created, earlier.subject)
        return record

    def _see(self, sighting: Tracked) -> set[str]:
        before = self.objects.get(sighting.id)
        after = sighting if before is None else merge(before, sighting)
        touched = {sighting.id, *(object_id for _, object_id in sighting.ties)}
        owners = {self.owners.get(object_id) for object_id in touched}
        if after != before:
            self.objects[sighting.id] = after
            connect(self.neighbours, after)
            self.changed.add(sighting.id)
        if len(owners) == 1 and None not in owners and self._agrees(after, owners):
            return {owner for owner in owners if owner is not None} if _says_more(before, after) else set()
        affected = self._attribute(component(self.neighbours, touched))
        owner = self.owners.get(sighting.id)
        if owner is None:
            self.waiting.append(sighting)
            return affected
        return affected | {owner}

    def _agrees(self, tracked: Tracked, owners: set[str | None]) -> bool:
        return tracked.claim is None or tracked.claim.quote_id in owners or not self.is_ours(tracked)

    def _attribute(self, ids: set[str]) -> set[str]:
        """Give each of a component's ids to its quote; returns the quotes that won or lost one."""
        affected: set[str] = set()
        found = attribute(ids, self.objects, self.neighbours, self.is_ours)
        for object_id in ids:
            old, new = self.owners.get(object_id), found.get(object_id)
            if new is None or old == new:
                continue
            if old is not None:
                self.members[old].discard(object_id)
                affected.add(old)
            self._own(object_id, new)
            self.objects.setdefault(object_id, Tracked(id=object_id))
            self.changed.add(object_id)
            affected.add(new)
            if new not in self.quotes:
                self._begin(new)
        return affected

    def _own(self, object_id: str, quote_id: str) -> None:
        self.owners[object_id] = quote_id
        self.members.setdefault(quote_id, set()).add(object_id)


def _says_more(before: Tracked | None, after: Tracked) -> bool:
    """Whether anything is new but which event was the latest: most events repeat what is known."""
    return before is None or msgspec.structs.replace(after, key=before.key) != before
