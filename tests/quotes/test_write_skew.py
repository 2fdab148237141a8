"""A tie and a fact, committed side by side by two workers, never miss each other."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from asyncpg import Pool

from dev.lives import life
from quittance.event import Event
from tests.support.polling import eventually
from tests.support.random_lives import as_event
from workers import quotes

WAITERS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

# The event that ties, and the event that is tied by it; everything else of the life is there already.
KINDS: dict[str, tuple[str, str, str]] = {
    "session-intent": ("card", "checkout.session.completed", "charge.succeeded"),
    "charge-intent": ("card", "charge.succeeded", "payment_intent.created"),
    "refund-charge": ("refunded_refund_only", "refund.created", "charge.succeeded"),
    "dispute-charge": ("dispute_lost", "charge.dispute.closed", "charge.succeeded"),
    "invoice_payment": ("subscription", "invoice_payment.paid", "charge.succeeded"),
    "invoice-subscription": ("subscription", "invoice.paid", "checkout.session.completed"),
}


def split(name: str, *, tie: str, fact: str) -> tuple[list[Event], list[Event], list[Event], str]:
    """A life's events: those before, those that tie, those that are tied; and the status it must end in."""
    told = life(name, f"{tie}/{fact}", carriers=frozenset({"metadata"}))
    events = [as_event(sent) for sent in told.events]
    ties = [event for event in events if event.type == tie]
    facts = [event for event in events if event.type == fact]
    return [event for event in events if event not in ties + facts], ties, facts, told.expected.status


class Side:
    """One worker's transaction, held open before its commit."""

    def __init__(self, database: Pool, events: list[Event]) -> None:
        self.handled, self.may_commit = asyncio.Event(), asyncio.Event()
        self.done = asyncio.create_task(self._run(database, events))

    async def _run(self, database: Pool, events: list[Event]) -> None:
        async with database.acquire() as db, db.transaction():
            await quotes.handle(events, db)
            self.handled.set()
            await self.may_commit.wait()


@pytest.mark.parametrize("first", ["tie", "fact"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_tie_and_its_fact_at_once_never_miss_each_other(database: Pool, kind: str, first: str) -> None:
    """INVARIANT: whichever of the two commits first, the other one sees it.

    Otherwise a refund or a dispute could stay without its quote for ever, and nobody would know.
    """
    name, tie, fact = KINDS[kind]
    before, ties, facts, status = split(name, tie=tie, fact=fact)
    await in_one_transaction(database, before)
    leading, following = (ties, facts) if first == "tie" else (facts, ties)
    one = Side(database, leading)
    await one.handled.wait()
    other = Side(database, following)
    await eventually(until(database, other))
    one.may_commit.set()
    other.may_commit.set()
    await asyncio.gather(one.done, other.done)
    assert await database.fetchval("SELECT status FROM quotes") == status
    assert await in_any_order(name, tie, fact) == await database.fetchval(
        "SELECT data ->> 'amount_captured' FROM quotes"
    )


def until(database: Pool, other: Side) -> Callable[[], Any]:
    async def waits_or_is_through() -> bool:
        return other.handled.is_set() or await database.fetchval(WAITERS) > 0

    return waits_or_is_through


async def in_one_transaction(database: Pool, events: list[Event]) -> None:
    async with database.acquire() as db, db.transaction():
        await quotes.handle(events, db)


async def in_any_order(name: str, tie: str, fact: str) -> str:
    return str(life(name, f"{tie}/{fact}").expected.captured)


async def test_many_workers_at_once_never_wait_in_a_ring(database: Pool) -> None:
    """INVARIANT: batches that share objects and quotes wait for each other, and never deadlock."""
    events = [as_event(sent) for seed in range(6) for sent in life("subscription_refunded", seed).events]

    async def work(offset: int) -> None:
        mine = events[offset:] + events[:offset]
        for start in range(0, len(mine), 7):
            async with database.acquire() as db, db.transaction():
                await quotes.handle(mine[start : start + 7], db)

    try:
        await asyncio.gather(*(work(offset) for offset in (0, 17, 34, 51)))
    except asyncpg.DeadlockDetectedError as error:
        pytest.fail(str(error))
    assert await database.fetchval("SELECT count(*) FROM quotes WHERE status = 'refunded'") == 6
