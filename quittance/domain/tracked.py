"""What is kept of one Stripe object (RULES S2), and how two sightings of it become one.

`merge` is commutative, associative and idempotent: a maximum for the snapshot, a union for the ties, a minimum or a
maximum for the few figures that only move one way. So any order of the same events, and any repetition, ends the same.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from quittance.domain.ranks import SUBSCRIPTION, Key

Kind = Literal[
    "named",  # nothing is known of it but that another object names it
    "session",
    "intent",
    "charge",
    "refund",
    "invoice",
    "invoice_payment",
    "subscription",
    "dispute",
    "coupon",
]
Role = Literal["intent", "charge", "invoice", "subscription"]
Tie = tuple[Role, str]


class Seen(NamedTuple):
    """The event that a fact comes from: its time in Unix seconds (0 where absent), id and type."""

    created: int
    event_id: str
    type: str

    @property
    def paid_time(self) -> int | None:
        """The event's time where it has one: a payment is never dated 1970."""
        return self.created or None


class KeptClaim(msgspec.Struct, frozen=True, omit_defaults=True):
    """The quote that an object says it belongs to; `key` orders the claims of one object."""

    key: tuple[bool, int, str]  # from metadata, the event's created, the event's id
    quote_id: str
    revision: int
    conflict: bool = False
    checkout_key: str | None = None
    owner_email: str | None = None


class Sighting(msgspec.Struct, frozen=True, omit_defaults=True, order=True):
    """One event about a subscription: events of one second can only be told apart by what they say came before."""

    status: str
    previous: str
    event_id: str


class Tracked(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is kept of one object. Amounts in minor units, times in Unix seconds."""

    id: str
    kind: Kind = "named"
    # The snapshot: of the event with the greatest key.
    key: Key | None = None
    status: str = ""
    created: int = 0  # the object's own creation; 0 where no event tells it
    amount: int | None = None
    currency: str | None = None
    billing_reason: str | None = None
    customer: str | None = None
    email: str | None = None
    # What only grows.
    known: bool = True  # whether each status that was seen is one that the rules rank
    ties: tuple[Tie, ...] = ()
    claim: KeptClaim | None = None
    paid_since: int | None = None  # the least time of any event that shows it paid
    captured: int | None = None  # the greatest amount captured seen, in any state
    refunded: int | None = None  # the greatest amount refunded seen
    released: int = 0  # what a partial capture let go of; Stripe counts it into amount_refunded
    sightings: tuple[Sighting, ...] = ()  # of a subscription: all of the newest second


def merge(one: Tracked, other: Tracked) -> Tracked:
    """What is kept of one object after both sightings."""
    if one == other:
        return one
    greater, lesser = (one, other) if _is_greater(one, other) else (other, one)
    sightings = _sightings(greater, lesser)
    return msgspec.structs.replace(
        greater,
        status=_settled_status(sightings) if sightings else greater.status,
        known=one.known and other.known,
        created=_least(one.created or None, other.created or None) or 0,
        ties=tuple(sorted({*one.ties, *other.ties})),
        claim=_greater_claim(one.claim, other.claim),
        paid_since=_least(one.paid_since, other.paid_since),
        captured=_greatest(one.captured, other.captured),
        refunded=_greatest(one.refunded, other.refunded),
        released=max(one.released, other.released),
        sightings=sightings,
    )


def merge_all(sightings: Iterable[Tracked]) -> dict[str, Tracked]:
    """The sightings folded per object id."""
    kept: dict[str, Tracked] = {}
    for tracked in sightings:
        before = kept.get(tracked.id)
        kept[tracked.id] = tracked if before is None else merge(before, tracked)
    return kept


def _is_greater(one: Tracked, other: Tracked) -> bool:
    if one.key is None or other.key is None:
        return other.key is None
    # One event says one thing of an object; where two sightings under one key differ all the same, any fixed choice
    # will do, as long as it is the same in every order.
    return (one.key, _snapshot(one)) >= (other.key, _snapshot(other))


def _snapshot(tracked: Tracked) -> tuple[str, int, int, str, str, str, str]:
    return (
        tracked.status,
        tracked.created,
        -1 if tracked.amount is None else tracked.amount,
        tracked.currency or "",
        tracked.billing_reason or "",
        tracked.customer or "",
        tracked.email or "",
    )


def _sightings(greater: Tracked, lesser: Tracked) -> tuple[Sighting, ...]:
    """The sightings of the newest second: of both, where both are of that second."""
    if greater.kind != "subscription" or lesser.key is None or greater.key is None:
        return greater.sightings
    if greater.key[:2] != lesser.key[:2]:
        return greater.sightings
    return tuple(sorted({*greater.sightings, *lesser.sightings}))


def _settled(sightings: tuple[Sighting, ...]) -> Sighting:
    """Which of one second's sightings came last: one whose status another names as the one before it did not."""
    left = {sighting.previous for sighting in sightings}
    last = [sighting for sighting in sightings if sighting.status not in left] or list(sightings)
    return max(last, key=lambda sighting: (SUBSCRIPTION.get(sighting.status, 0), sighting.event_id))


def _settled_status(sightings: tuple[Sighting, ...]) -> str:
    return _settled(sightings).status


def _greater_claim(one: KeptClaim | None, other: KeptClaim | None) -> KeptClaim | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda claim: (claim.key, msgspec.json.encode(claim)))


def _least(one: int | None, other: int | None) -> int | None:
    return min((value for value in (one, other) if value is not None), default=None)


def _greatest(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)
