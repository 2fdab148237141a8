"""The total orders of RULES S2: which of two snapshots of one object is the greater.

`max` under a total order is commutative, associative and idempotent, so what is kept of an object depends neither on
the order in which events arrive nor on how often. `created` is the event's time in whole seconds.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Key(NamedTuple):
    """What snapshots are compared by, most significant first; what an object does not use is 0."""

    terminal: int
    first: int
    second: int
    event_id: str


SESSION: Final[Mapping[str, int]] = {
    "open": 1,
    "expired": 2,
    "complete_unpaid": 3,
    "async_failed": 4,
    "paid": 5,
    "no_payment_required": 5,
}
CHARGE: Final[Mapping[str, int]] = {"pending": 1, "succeeded": 2, "failed": 3}
REFUND: Final[Mapping[str, int]] = {"requires_action": 1, "pending": 2, "succeeded": 3, "canceled": 4, "failed": 5}
INVOICE: Final[Mapping[str, int]] = {"draft": 1, "open": 2, "uncollectible": 3, "void": 4, "paid": 5}
SUBSCRIPTION: Final[Mapping[str, int]] = {
    "incomplete": 1,
    "trialing": 2,
    "active": 3,
    "past_due": 4,
    "unpaid": 5,
    "paused": 6,
    "canceled": 7,
    "incomplete_expired": 8,
}
SUBSCRIPTION_ENDED: Final = frozenset({"canceled", "incomplete_expired"})
DISPUTE: Final[Mapping[str, int]] = {
    "warning_needs_response": 1,
    "warning_under_review": 2,
    "warning_closed": 3,
    "needs_response": 4,
    "under_review": 5,
    "prevented": 6,
    "lost": 7,
    "appeal_needs_response": 8,
    "appeal_under_review": 9,
    "won": 10,
}
COUPON: Final[Mapping[str, int]] = {"created": 1, "updated": 2, "deleted": 3}
ADDRESS: Final[Mapping[str, int]] = {"seen": 1, "created": 2, "updated": 3, "deleted": 4}


def rank_first(ranks: Mapping[str, int], status: str, created: int, event_id: str) -> Key:
    """Session, refund, invoice, coupon, address: a later stage beats any earlier one, whenever it happened."""
    return Key(0, ranks.get(status, 0), created, event_id)


def session_key(status: str, created: int, event_id: str) -> Key:
    """(rank, created, id)"""
    return rank_first(SESSION, status, created, event_id)


def refund_key(status: str, created: int, event_id: str) -> Key:
    """(rank, created, id)"""
    return rank_first(REFUND, status, created, event_id)


def invoice_key(status: str, created: int, event_id: str) -> Key:
    """(rank, created, id)"""
    return rank_first(INVOICE, status, created, event_id)


def coupon_key(status: str, created: int, event_id: str) -> Key:
    """(rank, created, id)"""
    return rank_first(COUPON, status, created, event_id)


def charge_key(status: str, created: int, event_id: str) -> Key:
    """(settled, created, rank, id): a bank debit can fail after it succeeded, so time decides among the settled."""
    return Key(int(status in ("succeeded", "failed")), created, CHARGE.get(status, 0), event_id)


def subscription_key(status: str, created: int, event_id: str) -> Key:
    """(ended, created, rank, id)"""
    return Key(int(status in SUBSCRIPTION_ENDED), created, SUBSCRIPTION.get(status, 0), event_id)


def dispute_key(status: str, created: int, event_id: str) -> Key:
    """(created, rank, id)"""
    return Key(0, created, DISPUTE.get(status, 0), event_id)
