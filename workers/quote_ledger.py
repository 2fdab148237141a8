"""Loading what a batch of events is about, and saving what became of it.

Two workers may hold a tie and a fact of one quote at the same moment, and must not miss each other (write skew). So
every object id that the batch is about or names is locked first, in one sorted statement, then the quotes; what is
loaded is read under those locks. Where a tie leads outside the locked set, everything is let go and begun again with
the larger set, so that no two workers ever wait for each other in a ring.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from asyncpg import Record

from quittance.domain.attribution import Neighbours, component, connect, neighbours_of
from quittance.domain.claims import Claim, adopted
from quittance.domain.facts import facts_of
from quittance.domain.quote import QuoteFacts
from quittance.domain.tracked import Seen, Tracked
from quittance.errors import Rejected
from quittance.event import body_data
from quittance.locks import Connection, lock
from quittance.settings import adoption
from workers.quote_book import Book, QuoteRecord, Reading, Scope, Told
from workers.quote_saving import save_books

Key = tuple[str, bool, str]  # account, livemode, object id or quote id

SAVEPOINT: Final = "SAVEPOINT nothing_locked"
LET_GO: Final = "ROLLBACK TO SAVEPOINT nothing_locked"
OWNERS: Final = """
SELECT account, livemode, object_id, quote_id
FROM stripe_objects
JOIN unnest($1::text[], $2::boolean[], $3::text[]) AS wanted (account, livemode, object_id)
USING (account, livemode, object_id)
"""
# A quote's own row, and one for each of its objects, which has a snapshot instead.
QUOTES: Final = """
SELECT account, livemode, quote_id, NULL AS snapshot, sequence, facts, data, documents_version, document_names
FROM quotes
JOIN unnest($1::text[], $2::boolean[], $3::text[]) AS wanted (account, livemode, quote_id)
USING (account, livemode, quote_id)
UNION ALL
SELECT account, livemode, quote_id, snapshot, NULL, NULL, NULL, NULL, NULL
FROM stripe_objects
JOIN unnest($1::text[], $2::boolean[], $3::text[]) AS wanted (account, livemode, quote_id)
USING (account, livemode, quote_id)
"""
# The facts that are about, or name, one of the ids.
WAITING: Final = """
SELECT DISTINCT about.account, about.livemode, about.object_id, about.fact
FROM unnest($1::text[], $2::boolean[], $3::text[]) AS wanted (account, livemode, id)
JOIN waiting_facts AS named USING (account, livemode, id)
JOIN waiting_facts AS about
  ON (about.account, about.livemode, about.id) = (named.account, named.livemode, named.object_id)
WHERE about.id = about.object_id AND about.fact IS NOT NULL
"""
# What waited longer than the waiting table keeps it. `created` is no later than the day on which it began to wait.
ARCHIVED: Final = """
SELECT account, livemode, event_id, type, extract(epoch FROM created)::bigint AS created, body
FROM events
WHERE created < now() - interval '39 days' AND ids && $1::text[]
"""


class Ledger:
    """One book per account and mode."""

    def __init__(self) -> None:
        self.books: dict[Scope, Book] = {}

    def book(self, scope: Scope) -> Book:
        """The book of an account and mode."""
        if scope not in self.books:
            self.books[scope] = Book(scope, adopts)
        return self.books[scope]

    async def save(self, db: Connection) -> None:
        """Store what changed, in a few set-based statements."""
        await save_books(list(self.books.values()), db)


def adopts(tracked: Tracked) -> bool:
    """Whether an object makes a quote that was not published here ours. A coupon alone is no sign of a payment."""
    claim, rule = tracked.claim, adoption()
    if claim is None or tracked.kind == "coupon":
        return False
    named = Claim(claim.quote_id, claim.revision, claim.key[0], claim.conflict, None, None)
    return adopted(named, enabled=rule.enabled, pattern=rule.pattern)


async def open_ledger(readings: Sequence[Reading], db: Connection) -> Ledger:
    """Lock and load everything that `readings` may touch."""
    ids = {
        (*reading.scope, object_id)
        for reading in readings
        for sighting in reading.sightings
        for object_id in (sighting.id, *(tie[1] for tie in sighting.ties))
    }
    quotes = {
        (*reading.scope, quote_id)
        for reading in readings
        for quote_id in (reading.told_quote, *(one.claim.quote_id for one in reading.sightings if one.claim))
        if quote_id is not None
    }
    await db.execute(SAVEPOINT)  # never released, which would cost a round trip: the transaction's end does it
    while True:
        loading = _Loading(readings, ids, quotes, db)
        if await loading.complete():
            return loading.ledger
        await db.execute(LET_GO)
        ids, quotes = loading.wider_ids, loading.wider_quotes


class _Loading:
    """One try at loading; not complete where it finds that more has to be locked."""

    def __init__(self, readings: Sequence[Reading], ids: set[Key], quotes: set[Key], db: Connection) -> None:
        self.readings, self.ids, self.quotes, self.db = readings, ids, quotes, db
        self.ledger = Ledger()
        self.publishing = {
            (*reading.scope, reading.told_quote)
            for reading in readings
            if reading.told_quote is not None and reading.event.type == "quote.published"
        }
        self.adopting = {
            (*reading.scope, one.claim.quote_id)
            for reading in readings
            for one in reading.sightings
            if one.claim is not None and adopts(one)
        }
        self.wider_ids, self.wider_quotes = set(ids), set(quotes)

    async def complete(self) -> bool:
        await lock(self.db, "facts", self.ids)
        owned = {_key(row, "object_id"): row["quote_id"] for row in await self._fetch(OWNERS, self.ids)}
        quotes = self.quotes | {(*key[:2], quote_id) for key, quote_id in owned.items()}
        await lock(self.db, "quotes", quotes)
        await self._load_quotes(quotes)
        if not await self._owners_outside(quotes):
            return False
        await self._load_waiting(set(owned), quotes)
        return self.wider_ids <= self.ids

    async def _load_quotes(self, quotes: set[Key]) -> None:
        for row in await self._fetch(QUOTES, quotes):
            book = self.ledger.book(_scope(row))
            if row["snapshot"] is not None:
                book.put(_tracked.decode(row["snapshot"]), row["quote_id"])
                continue
            book.quotes[row["quote_id"]] = QuoteRecord(
                facts=_facts.decode(row["facts"]),
                sequence=row["sequence"],
                data=msgspec.json.decode(row["data"]),
                documents_version=row["documents_version"],
                document_names=msgspec.json.decode(row["document_names"]),
            )

    async def _owners_outside(self, quotes: set[Key]) -> bool:
        """False where an object is tied to one of a quote that is not locked: two quotes claim parts of one purchase, and
        both are judged together.
        """
        outside = {
            (*scope, object_id)
            for scope, book in self.ledger.books.items()
            for object_id in book.neighbours
            if object_id not in book.objects
        }
        others = {(*_scope(row), row["quote_id"]) for row in await self._fetch(OWNERS, outside)}
        self.wider_quotes |= others
        return others <= quotes

    async def _load_waiting(self, owned: set[Key], quotes: set[Key]) -> None:
        """Bring in what waited for the quotes of this batch: what is tied to them, and what names them."""
        graphs = {scope: neighbours_of(sightings) for scope, sightings in self._sightings_by_scope().items()}
        looked_up: set[Key] = set()
        wanted = {(*key[:2], f"quote:{key[2]}") for key in quotes if self._begins(key)}
        while wanted := (wanted | self._attached_ids(graphs, owned)) - looked_up:
            looked_up |= wanted
            for scope, sighting in await self._waiting_for(wanted):
                self.ledger.book(scope).put(sighting, None)
                connect(graphs.setdefault(scope, {}), sighting)
                self.wider_ids |= {(*scope, sighting.id), *((*scope, object_id) for _, object_id in sighting.ties)}

    async def _waiting_for(self, wanted: set[Key]) -> list[tuple[Scope, Tracked]]:
        sightings: list[tuple[Scope, Tracked]] = []
        for row in await self._fetch(WAITING, wanted):
            if row["fact"].startswith("["):  # an own event, whatever else somebody may have called "own:…" too
                what = _told.decode(row["fact"])
                self.ledger.book(_scope(row)).tell_before(str(what.subject["quote_id"]), what)
            else:
                sightings.append((_scope(row), _tracked.decode(row["fact"])))
        names = sorted({key[2].removeprefix("quote:") for key in wanted})
        for row in await self.db.fetch(ARCHIVED, names):
            sightings += ((_scope(row), sighting) for sighting in _sightings(row))
        return sightings

    def _begins(self, key: Key) -> bool:
        """Whether the quote is new with this batch, or is published with it: facts may have waited for that.

        A claim that makes no quote of ours looks nothing up: a shop may give all its sessions one reference.
        """
        record = self.ledger.book(key[:2]).quotes.get(key[2])
        if record is None:
            return key in self.publishing or key in self.adopting
        return key in self.publishing and not record.facts.published

    def _attached_ids(self, graphs: dict[Scope, Neighbours], owned: set[Key]) -> set[Key]:
        """The ids that no quote owns yet and that this batch may tie to one: what waits for them must be looked up."""
        attached: set[Key] = set()
        for scope, graph in graphs.items():
            anchors = {object_id for object_id in graph if (*scope, object_id) in owned}
            anchors |= {object_id for object_id in self._claiming(scope) if object_id in graph}
            reached = component(graph, anchors)
            attached |= {(*scope, object_id) for object_id in reached if (*scope, object_id) not in owned}
        return attached

    def _claiming(self, scope: Scope) -> set[str]:
        """Objects, of the batch or waiting, whose claim makes them a quote's."""
        book = self.ledger.book(scope)
        batch = (one for reading in self.readings if reading.scope == scope for one in reading.sightings)
        return {
            one.id
            for one in (*batch, *book.objects.values())
            if one.claim is not None and (book.is_ours(one) or (*scope, one.claim.quote_id) in self.publishing)
        }

    def _sightings_by_scope(self) -> dict[Scope, list[Tracked]]:
        sightings: dict[Scope, list[Tracked]] = {}
        for reading in self.readings:
            sightings.setdefault(reading.scope, []).extend(reading.sightings)
        return sightings

    async def _fetch(self, statement: str, keys: Iterable[Key]) -> list[Record]:
        columns = list(zip(*keys, strict=True))
        return [] if not columns else list(await self.db.fetch(statement, *map(list, columns)))


def _sightings(row: Record) -> list[Tracked]:
    """What an archived event says; nothing where it cannot be read (it was rejected when it came)."""
    try:
        obj, previous = body_data(row["body"])
        return facts_of(Seen(max(row["created"], 0), row["event_id"], row["type"]), obj, previous)
    except Rejected:
        return []


def _scope(row: Record) -> Scope:
    return row["account"], row["livemode"]


def _key(row: Record, name: str) -> Key:
    return row["account"], row["livemode"], row[name]


_facts = msgspec.json.Decoder(QuoteFacts)
_tracked = msgspec.json.Decoder(Tracked)
_told = msgspec.json.Decoder(Told)
