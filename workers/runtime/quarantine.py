"""The way out of a crash loop: what a process died on is held back until its neighbours are through.

A process that dies gives back everything that it had taken, and the broker counts that against each message, not only
against the one that did it. So a consumer that finds marks of its queue (workers/runtime/failures.py) takes one message
more than there are marks: the marked ones are laid aside, the others pass, and only then, or after PATIENCE, are the
marked ones tried, each alone. What dies with the process then is next to nobody's but their own count.
"""

import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

from quittance.wire import Delivery
from workers.runtime.inbox import Key
from workers.runtime.subscription import Subscription

# How long the others pass before what is marked is tried, and how long a silence ends that sooner (seconds).
PATIENCE: Final = 5.0
SILENCE: Final = 0.5


class Settles(Protocol):
    """What of a consumer is used here."""

    async def settle(self, deliveries: list[Delivery], subscription: Subscription, *, multiple: bool = True) -> None:
        """Bring deliveries to an end and ack them, each by itself unless `multiple`."""


async def pass_through(consumer: Settles, subscription: Subscription, marks: set[Key]) -> None:
    """Consume beside the marked messages for a while, then try those; returns when they are settled, or not there."""
    if not marks:
        return
    await subscription.consume(prefetch=len(marks) + 1)
    held: list[Delivery] = []
    deadline = time.monotonic() + PATIENCE
    while (left := deadline - time.monotonic()) > 0:
        taken = await subscription.take(1, within=min(SILENCE, left))
        if not taken:
            break
        if _key(taken[0].headers) in marks:
            held.append(taken[0])
        else:
            await consumer.settle(taken, subscription, multiple=False)
    for delivery in held:
        if subscription.stopped:
            return
        await consumer.settle([delivery], subscription, multiple=False)


def _key(headers: Mapping[str, Any]) -> Key:
    return (str(headers.get("account")), bool(headers.get("livemode")), str(headers.get("event-id")))
