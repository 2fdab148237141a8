"""The address book, changed: what a batch of events says is taken in under the locks of everything that it touches.

Locks are on Stripe customers, normalised addresses and sessions. What is known of a session's customer hangs on three
rows (its own, its Stripe customer's, its address's), and each may be changed by another process at the same time: so
whoever changes one of them holds the locks of all that it leads to, and whoever finds that it leads further gives back
what it holds and starts again with more (taking more on top of what one holds is how two workers deadlock).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from quittance.domain.address_book import NOTHING, AddressBook, Checkouts, Id, Touched
from quittance.domain.customers import AddressFact, Alias, Known, Link, Spelling, address_of, known_of
from quittance.event import Event
from quittance.locks import Connection, lock
from workers.customer_ledger import (
    LOAD_DEPENDING_LINKS,
    LOAD_LINKS,
    AddressRow,
    CheckedOut,
    link_rows,
    load_addresses,
    load_aliases,
    load_links,
    save_book,
)

# Drawn under the locks, so that of two changes of one session the later has the greater version.
DRAW_VERSIONS: Final = "SELECT nextval('versions') AS version FROM generate_series(1, $1::integer)"


class Change(NamedTuple):
    """What one event says: of Stripe customers' addresses, and of who checked out a quote."""

    event: Event
    scope: Id  # the event's account and mode; nameless
    facts: tuple[AddressFact, ...] = ()
    session_id: Id | None = None
    link: Link | None = None


class Guest(NamedTuple):
    """A session paid as a guest, for whose address nobody stands; the event that shows it."""

    event: Event
    session_id: Id
    link: Link
    new: bool  # it was not so before


class Told(NamedTuple):
    """Something that a session's quote has to be told, and the event that made the difference."""

    event: Event
    session_id: Id
    link: Link
    known: Known
    version: int


class Recorded(NamedTuple):
    """What came of a batch of changes."""

    told: list[Told]
    guests: list[Guest]


class Reach(NamedTuple):
    """The rows that a batch may read and write: what it locks."""

    customers: frozenset[Id] = frozenset()
    addresses: frozenset[Id] = frozenset()
    sessions: frozenset[Id] = frozenset()

    def joined(self, other: "Reach") -> "Reach":
        """Both together."""
        return Reach(*(mine | theirs for mine, theirs in zip(self, other, strict=True)))

    def keys(self) -> list[Id]:
        """The names to lock; the kind of each is part of it."""
        kinds = zip(("customer", "address", "session"), self, strict=True)
        return [one.named(f"{kind}:{one.name}") for kind, ids in kinds for one in ids]


class _LeadsFurtherError(Exception):
    """A row that was loaded names others that are not locked."""

    def __init__(self, reach: Reach) -> None:
        super().__init__("what was loaded leads beyond what is locked")
        self.reach = reach


async def record(changes: Sequence[Change], db: Connection) -> Recorded:
    """Take in `changes`, in order: save what they change, and say what must be told of it."""
    if not changes:
        return Recorded([], [])
    reach = _reach_of(changes)
    while True:
        try:
            async with db.transaction():  # a savepoint: rolled back, it gives back the locks taken within
                await lock(db, "customers", reach.keys())
                return await _record(changes, reach, db)
        except _LeadsFurtherError as further:
            reach = reach.joined(further.reach)


async def _record(changes: Sequence[Change], reach: Reach, db: Connection) -> Recorded:
    links = await load_links(db, LOAD_LINKS, reach.sessions)
    aliases = await load_aliases(db, reach.customers)
    _stay_within(reach, links, aliases)
    rows, others = await load_addresses(db, reach.addresses, reach.customers)
    book = AddressBook(aliases, others)
    touched = _foreseen(changes, book.copy())
    if touched != NOTHING:
        depending = await load_links(db, LOAD_DEPENDING_LINKS, touched.aliases, touched.addresses)
        aliases |= await load_aliases(db, _customers_of(depending) - reach.customers)
        book = AddressBook(aliases, others)
        links |= _concerned(depending, touched, reach, book)
    checkouts = Checkouts()
    for session_id, (link, told) in links.items():
        checkouts.put(session_id, link)
        if told is not None:
            checkouts.told[session_id], checkouts.versions[session_id] = told
    taken = take_in(changes, book, checkouts)
    drawn = await db.fetch(DRAW_VERSIONS, len(taken.told)) if taken.told else []
    said = [Told(*what, row["version"]) for what, row in zip(taken.told, drawn, strict=True)]
    checkouts.versions |= {one.session_id: one.version for one in said}
    await save_book(
        db,
        aliases=book.changed_since(aliases),
        addresses=_changed_rows(changes, book, rows),
        links=link_rows(taken.sessions, checkouts),
    )
    return Recorded(said, taken.guests)


def _reach_of(changes: Iterable[Change]) -> Reach:
    customers: set[Id] = set()
    addresses: set[Id] = set()
    sessions: set[Id] = set()
    for change in changes:
        customers.update(change.scope.named(fact.customer_id) for fact in change.facts)
        addresses.update(change.scope.named(fact.address) for fact in change.facts if fact.address)
        if change.session_id is not None and change.link is not None:
            sessions.add(change.session_id)
            customers.update(_customers_of({change.session_id: CheckedOut(change.link)}))
            if change.link.address is not None:
                addresses.add(change.scope.named(change.link.address))
    return Reach(frozenset(customers), frozenset(addresses), frozenset(sessions))


def _customers_of(links: Mapping[Id, CheckedOut]) -> set[Id]:
    return {one.named(link.customer_id) for one, (link, _) in links.items() if link.customer_id is not None}


def _stay_within(reach: Reach, links: Mapping[Id, CheckedOut], aliases: Mapping[Id, Alias]) -> None:
    """Raise where a session's former customer or address, or a customer's present address, is not locked."""
    customers = _customers_of(links)
    addresses = {one.named(link.address) for one, (link, _) in links.items() if link.address is not None}
    addresses |= {one.named(alias.address) for one, alias in aliases.items() if alias.address is not None}
    if not (customers <= reach.customers and addresses <= reach.addresses):
        raise _LeadsFurtherError(Reach(frozenset(customers), frozenset(addresses)))


def _foreseen(changes: Iterable[Change], book: AddressBook) -> Touched:
    """What the facts are going to touch, whatever is checked out: only the sessions that hang on it are loaded."""
    aliases: set[Id] = set()
    addresses: set[Id] = set()
    for change in changes:
        for fact in change.facts:
            touched = book.record(change.scope, fact)
            aliases |= touched.aliases
            addresses |= touched.addresses
    return Touched(frozenset(aliases), frozenset(addresses))


def _concerned(
    depending: Mapping[Id, CheckedOut], touched: Touched, reach: Reach, book: AddressBook
) -> dict[Id, CheckedOut]:
    """Those of the sessions that what is touched can change something for.

    A session whose customer has moved to an address that is not locked is not concerned by the one that was typed. A
    session whose customer is touched may fall back on the one that was typed, so that has to be locked.
    """
    found: dict[Id, CheckedOut] = {}
    beyond: set[Id] = set()
    for session_id, checked_out in depending.items():
        link = checked_out.link
        alias_id = book.alias_id(session_id, link)
        typed = None if link.address is None else session_id.named(link.address)
        if alias_id in touched.aliases and typed is not None and typed not in reach.addresses:
            beyond.add(typed)
        address = address_of(link, book.alias(alias_id))
        if alias_id in touched.aliases or (address is not None and session_id.named(address) in reach.addresses):
            found[session_id] = checked_out
    if beyond:
        raise _LeadsFurtherError(Reach(addresses=frozenset(beyond)))
    return found


class Taken(NamedTuple):
    """What came of taking in changes: who must be told what, who is without a customer, which sessions' rows differ."""

    told: list[tuple[Event, Id, Link, Known]]
    guests: list[Guest]
    sessions: set[Id]


def take_in(changes: Iterable[Change], book: AddressBook, checkouts: Checkouts) -> Taken:
    """Take in changes, in order, where everything that they touch is loaded. Each difference is told with its event."""
    told: list[tuple[Event, Id, Link, Known]] = []
    guests: list[Guest] = []
    sessions: set[Id] = set()
    for change in changes:
        concerned: set[Id] = set()
        for fact in change.facts:
            concerned |= checkouts.depending_on(book.record(change.scope, fact), book)
        if change.session_id is not None and change.link is not None:
            known = checkouts.links.get(change.session_id)
            if checkouts.take(change.session_id, change.link):
                sessions.add(change.session_id)
            concerned.add(change.session_id)
            if change.link.paid_as_guest:
                new = known is None or not known.paid_as_guest
                guests += _alone([Guest(change.event, change.session_id, change.link, new)], checkouts, book)
        for session_id in sorted(concerned):
            link = checkouts.links[session_id]
            alias = book.alias(book.alias_id(session_id, link))
            now = known_of(link, alias, book.canonical_of(session_id, link))
            if now != checkouts.knows(session_id):
                checkouts.told[session_id] = now
                sessions.add(session_id)
                told.append((change.event, session_id, link, now))
    return Taken(told, _alone(guests, checkouts, book), sessions)


def _alone(guests: Iterable[Guest], checkouts: Checkouts, book: AddressBook) -> list[Guest]:
    """Those for whose address nobody stands (now: somebody may come later in the batch)."""
    found = []
    for guest in guests:
        link = checkouts.links[guest.session_id]
        if link.paid_as_guest and book.canonical_of(guest.session_id, link) is None:
            found.append(guest)
    return found


def _changed_rows(changes: Iterable[Change], book: AddressBook, rows: Mapping[Id, AddressRow]) -> dict[Id, AddressRow]:
    spellings = {one: row.spelling for one, row in rows.items()}
    for address, spelling in _spellings(changes):
        known = spellings.get(address)
        spellings[address] = spelling if known is None else min(known, spelling)
    now = {
        one: AddressRow(spelling, book.canonical(one)) for one, spelling in spellings.items() if spelling is not None
    }
    return {one: row for one, row in now.items() if row != rows.get(one)}


def _spellings(changes: Iterable[Change]) -> Iterable[tuple[Id, Spelling]]:
    for change in changes:
        for fact in change.facts:
            if fact.address and fact.stay is not None:
                key = fact.stay.key
                yield change.scope.named(fact.address), Spelling(key.second, key.event_id, fact.stay.email)
        link = change.link
        if link is not None and link.address is not None and link.email is not None:
            key = link.key
            yield change.scope.named(link.address), Spelling(key.second, key.event_id, link.email.strip())
