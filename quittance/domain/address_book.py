"""The part of the address book that a batch of events touches: facts in, what they change out. Pure, but mutable."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from quittance.domain.customers import (
    UNKNOWN,
    AddressFact,
    Alias,
    Known,
    Link,
    Seniority,
    address_of,
    seniority,
    typed,
)


class Id(NamedTuple):
    """What a row is keyed by: account, mode, and the name of it there (an id of Stripe's, or a normalised address)."""

    account: str
    livemode: bool
    name: str

    def named(self, name: str) -> "Id":
        """Another name of the same account and mode."""
        return Id(self.account, self.livemode, name)


class Touched(NamedTuple):
    """What a fact changed: Stripe customers of which something else is known now, addresses that somebody else stands
    for.
    """

    aliases: frozenset[Id]
    addresses: frozenset[Id]


NOTHING = Touched(frozenset(), frozenset())


class AddressBook:
    """Aliases by Stripe customer, and for each address the most senior of the others that live there."""

    def __init__(self, aliases: Mapping[Id, Alias], others: Mapping[Id, Seniority]) -> None:
        """`others` holds, per address, the most senior customer that is not in `aliases`: nothing here changes it."""
        self._aliases = dict(aliases)
        self._others = others
        self._residents: defaultdict[Id, set[str]] = defaultdict(set)
        for alias_id, alias in aliases.items():
            self._move(alias_id, None, alias.address)

    def changed_since(self, aliases: Mapping[Id, Alias]) -> dict[Id, Alias]:
        """The aliases that are not (or not so) in `aliases`."""
        return {one: alias for one, alias in self._aliases.items() if alias != aliases.get(one)}

    def copy(self) -> "AddressBook":
        """A book of its own with the same content."""
        return AddressBook(self._aliases, self._others)

    def alias(self, alias_id: Id | None) -> Alias:
        """What is known of a Stripe customer; UNKNOWN where nothing is."""
        return UNKNOWN if alias_id is None else self._aliases.get(alias_id, UNKNOWN)

    def residents(self, address: Id) -> Iterator[Id]:
        """The aliases of this book whose address it is, deleted ones included."""
        return (address.named(name) for name in self._residents[address])

    def canonical(self, address: Id) -> str | None:
        """The Stripe customer that stands for an address; None where none lives there."""
        found = [standing for one in self.residents(address) if (standing := seniority(one.name, self._aliases[one]))]
        if (other := self._others.get(address)) is not None:
            found.append(other)
        return min(found).customer_id if found else None

    def canonical_of(self, session_id: Id, link: Link) -> str | None:
        """The Stripe customer that stands for the address of a session's customer."""
        address = address_of(link, self.alias(self.alias_id(session_id, link)))
        return None if address is None else self.canonical(session_id.named(address))

    @staticmethod
    def alias_id(session_id: Id, link: Link) -> Id | None:
        """The id of a session's own Stripe customer."""
        return None if link.customer_id is None else session_id.named(link.customer_id)

    def record(self, scope: Id, fact: AddressFact) -> Touched:
        """Take in a fact of `scope`'s account and mode; what that changed."""
        alias_id = scope.named(fact.customer_id)
        before = self.alias(alias_id)
        after = before.with_fact(fact)
        if after == before:
            return NOTHING
        known = (before.address, before.email, before.deleted) != (after.address, after.email, after.deleted)
        aliases = frozenset((alias_id,) if known else ())
        same_place = before.address == after.address
        if same_place and seniority(alias_id.name, before) == seniority(alias_id.name, after):  # nearly always
            self._aliases[alias_id] = after
            return Touched(aliases, NOTHING.addresses)
        concerned = {scope.named(address) for address in (before.address, after.address) if address is not None}
        standing = {address: self.canonical(address) for address in concerned}
        self._aliases[alias_id] = after
        self._move(alias_id, before.address, after.address)
        addresses = frozenset(address for address in concerned if self.canonical(address) != standing[address])
        return Touched(aliases, addresses)

    def _move(self, alias_id: Id, origin: str | None, destination: str | None) -> None:
        if origin is not None:
            self._residents[alias_id.named(origin)].discard(alias_id.name)
        if destination is not None:
            self._residents[alias_id.named(destination)].add(alias_id.name)


class Checkouts:
    """Who checked out what, and what was last told of it in which version, by session; found by what they hang on."""

    def __init__(self) -> None:
        """Nobody has checked out anything."""
        self.links: dict[Id, Link] = {}
        self.told: dict[Id, Known] = {}
        self.versions: dict[Id, int] = {}
        self._by_alias: defaultdict[Id, set[Id]] = defaultdict(set)
        self._by_address: defaultdict[Id, set[Id]] = defaultdict(set)

    def put(self, session_id: Id, link: Link) -> None:
        """Set a session's link."""
        self.links[session_id] = link
        # A link that no longer hangs there is only looked at for nothing.
        if link.customer_id is not None:
            self._by_alias[session_id.named(link.customer_id)].add(session_id)
        if link.address is not None:
            self._by_address[session_id.named(link.address)].add(session_id)

    def take(self, session_id: Id, link: Link) -> bool:
        """Keep the greater of `link` and what is known of the session; whether that is a change."""
        known = self.links.get(session_id)
        if known is not None and known.order >= link.order:
            return False
        if known is not None and known.quote_id != link.quote_id:  # the other quote was told, this one was not
            self.told.pop(session_id, None)
            self.versions.pop(session_id, None)
        self.put(session_id, link)
        return True

    def knows(self, session_id: Id) -> Known:
        """What a session's quote knows: what it was last told, until then what the session itself says."""
        link = self.links[session_id]
        return self.told.get(session_id, Known(typed(link.email), link.customer_id))

    def depending_on(self, touched: Touched, book: AddressBook) -> set[Id]:
        """The sessions of which something else may be known, now that `touched` changed."""
        found: set[Id] = set()
        for alias_id in touched.aliases:
            found |= self._by_alias[alias_id]
        for address in touched.addresses:
            found |= self._by_address[address]
            for resident in book.residents(address):
                found |= self._by_alias[resident]
        return found
