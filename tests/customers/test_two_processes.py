"""Two workers at once: neither misses what the other is about to commit, none makes a second row, none waits in a ring."""

import asyncio
from random import Random

import pytest
from asyncpg.pool import Pool
from msgspec.structs import replace

from quittance.event import Event
from tests.customers.address_events import book_of, created, deleted, moved, session, updated
from tests.support.handling import run_handler
from tests.support.polling import eventually
from workers import customers

BEFORE = [
    created("cus_old", "ann@example.com", at=0),
    session("cs_old", "Q-old", "ann@example.com", at=1),
    session("cs_away", "Q-away", "typed@example.com", "cus_away", at=0),
    moved("cus_away", "typed@example.com", "away@example.com", at=1),
]

# What may be committed side by side, and meets in an address, a Stripe customer or a session.
PAIRS = {
    "guest and customer": (session("cs_1", "Q-1", "new@example.com", at=5), created("cus_1", "New@example.com", at=6)),
    "two customers": (created("cus_1", "new@example.com", at=5), created("cus_2", "new@example.com", at=6)),
    "move and customer": (
        moved("cus_old", "ann@example.com", "b@example.com", at=5),
        created("cus_2", "ann@example.com", at=6),
    ),
    "move and guest": (
        moved("cus_old", "ann@example.com", "b@example.com", at=5),
        session("cs_1", "Q-1", "b@example.com", at=6),
    ),
    "move and own session": (
        moved("cus_old", "ann@example.com", "b@example.com", at=6),
        session("cs_1", "Q-1", "ann@example.com", "cus_old", at=5),
    ),
    "deletion and guest": (deleted("cus_old", at=6), session("cs_1", "Q-1", "ann@example.com", at=5)),
    "deletion and customer": (deleted("cus_old", at=5), created("cus_2", "ann@example.com", at=6)),
    "address taken away and customer": (
        moved("cus_old", "ann@example.com", None, at=5),
        created("cus_2", "ann@example.com", at=6),
    ),
    "address taken away and customer of what was typed": (
        moved("cus_away", "away@example.com", None, at=5),
        created("cus_2", "typed@example.com", at=6),
    ),
    "two snapshots of a session": (
        session("cs_1", "Q-1", "x@example.com", payment_status="unpaid", at=5),
        session("cs_1", "Q-1", "y@example.com", "cus_1", event_type="checkout.session.async_payment_succeeded", at=6),
    ),
}


async def waiting(database: Pool) -> bool:
    """Whether anybody waits for an advisory lock in this database."""
    count: int = await database.fetchval(
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        " WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
    )
    return count > 0


async def side_by_side(database: Pool, first: Event, second: Event) -> None:
    """Handle both in transactions of their own; the first commits only when the second waits for it."""
    async with database.acquire() as one, database.acquire() as other:
        late = one.transaction()
        await late.start()
        await customers.handle([first], one)

        async def handle_second() -> None:
            async with other.transaction():
                await customers.handle([second], other)

        task = asyncio.create_task(handle_second())
        await eventually(lambda: waiting(database), timeout=2)
        await late.commit()
        await task


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("swapped", [False, True])
async def test_r18_what_two_processes_commit_at_once_is_never_missed(database: Pool, pair: str, swapped: bool) -> None:
    """INVARIANT: the end is that of one after the other, whoever commits first (write skew).

    Without the locks on what is not there yet, each would decide without the other's row, and nobody would look again.
    """
    first, second = PAIRS[pair][::-1] if swapped else PAIRS[pair]
    for account in ("acct_beside", "acct_after"):
        await run_handler(customers, [replace(one, account=account) for one in BEFORE], database)
    await side_by_side(database, replace(first, account="acct_beside"), replace(second, account="acct_beside"))
    await run_handler(customers, [replace(one, account="acct_after") for one in PAIRS[pair]], database)
    assert await book_of(database, "acct_beside") == await book_of(database, "acct_after")


def crowd(account: str) -> list[Event]:
    """Customers, guests and moves about three addresses."""
    addresses = ["ann@example.com", "bob@example.com", "eve@example.com"]
    events: list[Event] = []
    for number in range(40):
        here, there = addresses[number % 3], addresses[(number + 1) % 3]
        about = {"account": account}
        events += [
            session(f"cs_g{number}", f"Q-g{number}", here.upper(), at=number * 10, **about),  # type: ignore[arg-type]
            created(f"cus_{number}", here, at=number * 10 + 1, **about),
            session(f"cs_{number}", f"Q-{number}", here, f"cus_{number}", at=number * 10 + 2, **about),  # type: ignore[arg-type]
            moved(f"cus_{number}", here, there, at=number * 10 + 3, **about),
            updated(f"cus_{number}", there, at=number * 10 + 4, **about),
        ]
        if number % 5 == 0:
            events.append(deleted(f"cus_{number}", at=number * 10 + 5, **about))
    return events


@pytest.mark.slow
async def test_r18_twenty_at_once_never_make_two_and_never_deadlock(database: Pool) -> None:
    """INVARIANT: whatever runs beside it, each event has one effect; locks are always taken in one order."""
    events = crowd("acct_beside")
    await run_handler(customers, [replace(one, account="acct_after") for one in events], database)

    chance = Random(7)
    twice = events + events
    chance.shuffle(twice)
    batches = [twice[start : start + 10] for start in range(0, len(twice), 10)]
    gate = asyncio.Semaphore(9)

    async def take(batch: list[Event]) -> None:
        async with gate:
            await run_handler(customers, list({one.id: one for one in batch}.values()), database)

    await asyncio.gather(*(take(batch) for batch in batches))
    assert await book_of(database, "acct_beside") == await book_of(database, "acct_after")
    requests = await database.fetch("SELECT count(*) AS n FROM customer_requests GROUP BY account, email_normalised")
    assert all(row["n"] == 1 for row in requests)
