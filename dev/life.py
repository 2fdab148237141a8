"""What the life of a quote is: its events, and what the quote must be at the end."""

from dataclasses import dataclass

from dev.stripe_events import Json
from dev.stripe_objects import Purchase


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the quote must be when all is handled. Amounts in minor units; documents' kinds, sorted."""

    status: str
    amount_due: int | None
    captured: int
    refunded: int = 0
    lost: int = 0
    paid: bool = True  # has a paid_at, and so one mail "paid"
    documents: tuple[str, ...] = ("receipt",)
    dispute_status: str | None = None
    subscription_status: str | None = None
    anomalies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Life:
    """A quote's events in causal order."""

    name: str
    purchase: Purchase
    events: list[Json]
    expected: Expected
