"""Whole lives of a quote: every event of it in causal order, and what the quote must be at the end.

    told = life("debit_settles", 7, shape="acacia")
    told.events         # dicts; dev.stripe_events.body(…) gives the bytes
    told.expected       # by RULES S, reckoned by hand, without the code under test

The same seed gives the same life. Deliver its events in any order, as often as you like: the end is the same (S).
"""

from collections.abc import Callable
from typing import Any, Final

from dev import lives_after, lives_paid, lives_recurring
from dev.life import Expected, Life
from dev.stripe_events import Shape
from dev.stripe_objects import Purchase, purchase

__all__ = ["LIVES", "Expected", "Life", "Purchase", "life", "purchase"]

LIVES: Final[dict[str, Callable[[Purchase], Life]]] = {
    tell.__name__: tell
    for tell in (
        lives_paid.card,
        lives_paid.declined_then_paid,
        lives_paid.declined_then_expired,
        lives_paid.debit_settles,
        lives_paid.debit_fails,
        lives_paid.debit_fails_after_settling,
        lives_paid.authorised,
        lives_paid.captured_later,
        lives_paid.captured_in_part,
        lives_paid.expired,
        lives_paid.expired_then_paid,
        lives_paid.double_payment,
        lives_paid.free,
        lives_after.refunded,
        lives_after.refunded_in_part,
        lives_after.refunded_charge_only,
        lives_after.refunded_refund_only,
        lives_after.refund_fails,
        lives_after.dispute_open,
        lives_after.dispute_won,
        lives_after.dispute_lost,
        lives_after.inquiry,
        lives_recurring.subscription,
        lives_recurring.subscription_renewed,
        lives_recurring.subscription_past_due,
        lives_recurring.subscription_cancelled,
        lives_recurring.subscription_refunded,
    )
}


def life(name: str, seed: int | str, *, shape: Shape = "endive", **given: Any) -> Life:
    """The life of that name; `given` names fields of Purchase."""
    return LIVES[name](purchase(seed, shape=shape, **given))
