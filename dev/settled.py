"""Waiting until Quittance has done everything that it can do about the events that were sent."""

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import asyncpg

from quittance.broker import STRIPE_EVENTS, Queue

QUIET_AND_RIGHT: Final = 0.5  # seconds
QUIET_AND_WRONG: Final = 5.0

CONSUMERS: Final = ("checkouts", "customers", "documents", "quotes")

ARCHIVED: Final = "SELECT count(*) FROM events WHERE event_id = ANY($1::text[])"
HANDLED: Final = """
SELECT count(DISTINCT event_id) FROM (
    SELECT event_id FROM inbox WHERE queue = $1 AND event_id = ANY($2::text[])
    UNION ALL
    SELECT event_id FROM failed_deliveries WHERE queue = $1 AND event_id = ANY($2::text[]) AND state <> 'retrying'
) AS seen
"""
# Grows or changes with everything that Quittance does, its own events among themselves included.
ACTIVITY: Final = """
SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM quote_status_changes), (SELECT max(changed_at) FROM quotes),
       (SELECT count(*) FROM outbox), (SELECT count(*) FROM emails WHERE state <> 'due')
"""
UNDER_WAY: Final = {
    "to publish": "SELECT count(*) FROM outbox",
    "mails to send": "SELECT count(*) FROM emails WHERE state = 'due'",
    "customers to look up": "SELECT count(*) FROM customer_requests WHERE state = 'due'",
    "sessions to expire": "SELECT count(*) FROM checkout_sessions WHERE state = 'closing' AND due_at < 'infinity'",
    "coupons to delete": "SELECT count(*) FROM quote_coupons WHERE state = 'archiving' AND due_at < 'infinity'",
}


class Sent(NamedTuple):
    """An event that was accepted."""

    event_id: str
    type: str


def wanted(queue: Queue, event_type: str) -> bool:
    """Whether the queue is bound to that type of Stripe's events."""
    types = queue.bindings.get(STRIPE_EVENTS, ())
    return event_type in types or "#" in types


async def pending(db: asyncpg.Connection, events: Sequence[Sent]) -> dict[str, int]:
    """What is still to be done, by kind; empty when all is."""
    ids = [event.event_id for event in events]
    left = {"to archive": len(set(ids)) - await db.fetchval(ARCHIVED, ids)}
    for name in CONSUMERS:
        queue = importlib.import_module(f"workers.{name}").QUEUE
        mine = {event.event_id for event in events if wanted(queue, event.type)}
        left[f"in {name}"] = len(mine) - await db.fetchval(HANDLED, name, list(mine))
    for name, statement in UNDER_WAY.items():
        left[name] = await db.fetchval(statement)
    return {name: number for name, number in left.items() if number}


async def settle(
    db: asyncpg.Connection,
    events: Sequence[Sent],
    *,
    patience: float,
    check: Callable[[], None],
    told: Callable[[dict[str, int]], None],
) -> dict[str, int]:
    """Wait until nothing is pending, telling what is; gives what is left when `patience` (seconds) is over.

    `check` is called at each look, to raise where waiting has become pointless.
    """
    deadline = time.monotonic() + patience
    while left := await pending(db, events):
        told(left)
        check()
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    return left


async def quiet(db: asyncpg.Connection, outside: Callable[[], int], right: Callable[[], Awaitable[bool]]) -> None:
    """Wait until nothing has happened for a moment and all is `right`; or for much longer, and it is not.

    A message on its way through the broker is in no table, so only time tells that there is none. `outside` is a number
    that changes with what arrives outside.
    """
    seen: tuple[object, ...] = ()
    since = time.monotonic()
    while (passed := time.monotonic() - since) < QUIET_AND_WRONG:
        found = await db.fetchrow(ACTIVITY)
        now = (*(found or ()), outside())
        if now != seen:
            seen, since = now, time.monotonic()
        elif passed > QUIET_AND_RIGHT and await right():
            return
        await asyncio.sleep(0.1)
