"""What a buyer may do with a quote now: check out, or read why not. The page and its button decide by this alone. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Offer = Literal[
    "open",  # Check out may be clicked
    "confirming",  # paid or handed in at Stripe, whose word has not come yet
    "processing",
    "paid",
    "partially_paid",
    "refunded",
    "partially_refunded",
    "disputed",
    "dispute_lost",
    "failed",  # it recurs, and lives on at Stripe though its first payment failed: the seller has to end it
    "recalled",
    "expired",
    "not_enabled",  # R7: taking payment is switched off
    "unavailable",  # the account cannot take payments, or Stripe cannot be asked in this mode (R4)
]

AttemptState = Literal["creating", "open", "closing", "complete", "closed"]

# RULES S4: money outranks life. Each status that money has made is an offer of its own, and none of them can be clicked.
MONEY: Final[Mapping[str, Offer]] = MappingProxyType(
    {
        "processing": "processing",
        "paid": "paid",
        "partially_paid": "partially_paid",
        "refunded": "refunded",
        "partially_refunded": "partially_refunded",
        "disputed": "disputed",
        "dispute_lost": "dispute_lost",
    }
)


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What the offer is judged by.

    `status` is the quote's payment status, None where the quotes worker has not come to it yet. `recalled` and `expired`
    are of the revision whose page it is, `expired` by the clock now: before anybody has noted it. `usable`: the account
    may take payments, and Stripe can be called in the quote's mode. `attempt` is the state of the quote's newest attempt
    to pay, of whichever revision; `complete` where any of them is. `subscribed`: a subscription of the quote lives on, which
    would be charged beside that of another payment.
    """

    status: str | None
    recalled: bool
    expired: bool
    payment_enabled: bool
    usable: bool
    attempt: AttemptState | None
    subscribed: bool = False


def offer_of(now: Circumstances) -> Offer:
    """What a buyer may do now; `open` if and only if Check out may be clicked."""
    money = MONEY.get(now.status or "")
    if money is not None:
        return money
    if now.attempt == "complete":
        return "confirming"
    if now.recalled:
        return "recalled"
    if now.expired:
        return "expired"
    if now.subscribed:
        return "failed"
    if not now.payment_enabled:
        return "not_enabled"
    return "open" if now.usable else "unavailable"
