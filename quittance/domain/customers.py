"""Who buys: the addresses of Stripe's customers, and which customer stands for an address (R18, R19, S2).

Everything kept is a join (`max`, `min`, `or`) of what the facts say, so it does not depend on the order in which events
arrive, nor on how often.
"""

import unicodedata
from collections.abc import Mapping
from typing import Final, NamedTuple

from quittance.domain.payload import StripeObject, reference, text
from quittance.domain.ranks import ADDRESS, Key, rank_first
from quittance.errors import Rejected

LONGEST_ADDRESS: Final = 254  # characters; RFC 5321 allows no more in an envelope
LONGEST_NAME: Final = 256  # characters; Stripe's own limit

NO_ADDRESS: Final = ""  # where a customer stays whose address was taken away


def normalised(address: str | None) -> str | None:
    """The form in which two spellings of one address are equal: trimmed, NFC, lower case. None for what is no address.

    Nothing cleverer: dots, plus signs and domains of one provider make different people, and `casefold` would (it
    makes one of "ß" and "ss"). Not an address: without a local part or a domain, over 254 characters, or with a space
    or a control or format character inside. Applying it twice changes nothing.
    """
    if address is None:
        return None
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", address.strip()).lower())
    local, _, domain = folded.rpartition("@")
    if not local or not domain or len(folded) > LONGEST_ADDRESS:
        return None
    return folded if folded.isprintable() and " " not in folded else None


class Stay(NamedTuple):
    """What is known of a Stripe customer at one address."""

    key: Key  # of the greatest fact that has the customer there (S2)
    email: str  # the address as that fact spells it
    moved_at: int | None  # the newest event that says: it came here now (Unix seconds)
    first_at: int  # the oldest event that has it here (Unix seconds)

    @property
    def since(self) -> int:
        """Since when the customer has been here, as far as events tell (Unix seconds)."""
        return self.first_at if self.moved_at is None else self.moved_at

    def joined(self, other: "Stay") -> "Stay":
        """Both together."""
        greater = self if (self.key, self.email) >= (other.key, other.email) else other
        moves = [stay.moved_at for stay in (self, other) if stay.moved_at is not None]
        return Stay(greater.key, greater.email, max(moves, default=None), min(self.first_at, other.first_at))


class AddressFact(NamedTuple):
    """What one event says of a Stripe customer: where it stays, that it is deleted, or both."""

    customer_id: str
    address: str | None  # normalised; NO_ADDRESS where it was taken away; None where the event says nothing of it
    stay: Stay | None
    deleted: bool = False


class Alias(NamedTuple):
    """A Stripe customer: everywhere it has stayed, by normalised address, and whether it is deleted."""

    stays: Mapping[str, Stay]
    deleted: bool = False

    def with_fact(self, fact: AddressFact) -> "Alias":
        """What is known of the customer with `fact` as well."""
        stays = self.stays
        if fact.address is not None and fact.stay is not None:
            known = stays.get(fact.address)
            stays = {**stays, fact.address: fact.stay if known is None else known.joined(fact.stay)}
        return Alias(stays, self.deleted or fact.deleted)

    @property
    def address(self) -> str | None:
        """Its normalised address: the one of the greatest fact; a deleted customer keeps its last. None without one."""
        if len(self.stays) == 1:  # nearly always
            return next(iter(self.stays)) or None
        return max(self.stays, key=lambda address: (self.stays[address].key, address), default=NO_ADDRESS) or None

    @property
    def stay(self) -> Stay | None:
        """Its stay at its address."""
        return self.stays.get(self.address or NO_ADDRESS)

    @property
    def email(self) -> str | None:
        """Its address as spelt in the fact that decides it."""
        address = self.address
        return self.stays[address].email if address is not None else None


UNKNOWN: Final = Alias({})


class Seniority(NamedTuple):
    """Of the customers that live at one address, the one with the least of these stands for it.

    Who came to the address first stands for it as long as it lives there: whoever comes later has a later `since`. And
    as `since` follows from the facts alone, the choice is the same in every order of arrival. (A customer that was
    there earlier, but is heard of later, takes its place when it is heard of; within one second the id decides.)
    """

    since: int
    customer_id: str


def seniority(customer_id: str, alias: Alias) -> Seniority | None:
    """Where the customer stands among those of its address; None where it lives at none (deleted, or without one)."""
    address = alias.address
    if alias.deleted or address is None:
        return None
    return Seniority(alias.stays[address].since, customer_id)


class Spelling(NamedTuple):
    """An address as somebody spelt it. The least is kept: the first, which later ones do not change."""

    created: int
    event_id: str
    email: str


class Link(NamedTuple):
    """Who checked out a quote, as the greatest snapshot of the session has it."""

    key: Key
    quote_id: str
    customer_id: str | None
    email: str | None  # as typed
    event_type: str
    paid: bool

    @property
    def order(self) -> tuple[Key, str, str, str, bool]:
        """What the greatest snapshot has the greatest of; its content decides where one event came in two forms."""
        return self.key, self.quote_id, self.customer_id or "", self.email or "", self.paid

    @property
    def address(self) -> str | None:
        """The normalised address that was typed."""
        return normalised(self.email)

    @property
    def paid_as_guest(self) -> bool:
        """Paid, with an address, and Stripe made no customer of it (R18 asks for one)."""
        return self.paid and self.customer_id is None and self.address is not None


class Known(NamedTuple):
    """What is known of a session's customer: what the quotes worker is told."""

    email: str | None
    stripe_customer_id: str | None


def address_of(link: Link, alias: Alias) -> str | None:
    """The address that decides a session's customer: that of its Stripe customer; else the one that was typed."""
    return alias.address or link.address


def known_of(link: Link, alias: Alias, canonical: str | None) -> Known:
    """The customer of a session, given what is known of its Stripe customer and who stands for `address_of` it.

    The e-mail keeps the buyer's spelling while it is the same address. Where nobody stands for the address, the
    session's own Stripe customer is named unless it is deleted.
    """
    own = None if alias.deleted else link.customer_id
    moved = alias.address is not None and alias.address != link.address
    return Known(alias.email if moved else typed(link.email), canonical or own)


def typed(address: str | None) -> str | None:
    """An address as typed, less what surrounds it; None where it is none."""
    return address.strip() if address is not None and normalised(address) is not None else None


def stay_of(rank: str, created: int, event_id: str, email: str | None, *, moved: bool) -> tuple[str, Stay] | None:
    """The stay that an event speaks of, and its address; None where `email` is no address."""
    address = normalised(email)
    if address is None or email is None:
        return None
    key = rank_first(ADDRESS, rank, created, event_id)
    return address, Stay(key, email.strip(), created if moved else None, created)


def customer_fact(
    rank: str, created: int, event_id: str, obj: StripeObject, previous: StripeObject
) -> AddressFact | None:
    """What `customer.created`, `.updated` or `.deleted` (`rank`) says; None where it says nothing of an address.

    A customer created without an address says nothing: a session may have shown one that is still to be stored. An
    update that shows none (or what is none) says that there is none now. A deletion often leaves the address out: the
    last one stays. Raises Rejected where the object has no id.
    """
    customer_id = reference({"customer": obj}, "customer")
    if customer_id is None:
        raise Rejected("unreadable_payload", f"customer.{rank} without an id")
    deleted = rank == "deleted"
    email = text(obj, "email")
    came = rank == "created" or (
        rank == "updated" and "email" in previous and normalised(text(previous, "email")) != normalised(email)
    )
    found = stay_of(rank, created, event_id, email, moved=came)
    if found is None and rank == "updated" and isinstance(obj.get("email", 0), str | None):
        stay = Stay(rank_first(ADDRESS, rank, created, event_id), NO_ADDRESS, created if came else None, created)
        found = NO_ADDRESS, stay
    if found is None and not deleted:
        return None
    address, stay_found = found if found is not None else (None, None)
    return AddressFact(customer_id, address, stay_found, deleted)


def sighting(customer_id: str | None, email: str | None, created: int, event_id: str) -> AddressFact | None:
    """A Stripe customer and an address seen together on a session or an invoice; None unless both are there."""
    found = stay_of("seen", created, event_id, email, moved=False)
    return AddressFact(customer_id, *found) if customer_id is not None and found is not None else None


def name_of_buyer(session: StripeObject) -> str | None:
    """The name that a customer made for this session gets (R19): the company's, else the contact's own."""
    for path in (
        ("customer_details", "business_name"),
        ("collected_information", "business_name"),
        ("customer_details", "individual_name"),
        ("collected_information", "individual_name"),
        ("customer_details", "name"),
    ):
        name = (text(session, *path) or "").strip()
        if name:
            return name[:LONGEST_NAME]
    return None
