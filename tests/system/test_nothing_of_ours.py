"""What is none of our business (R3, S1): a hundred thousand events leave nothing but the archive and what waits."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import ModuleType

import pytest
from asyncpg.pool import Pool

from dev.lives import life
from quittance import partitions
from quittance.event import Event
from tests.support.handling import pump, run_handler, takes
from tests.support.many_lives import lately, told_lives
from tests.support.random_lives import as_event
from tests.system.unrelated import unrelated
from workers import WORKERS

MANY = 100_000
BATCH = 500
CONNECTIONS = 4

TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
PARTITIONED = ("events", "inbox", "waiting_facts", "waiting_documents")
# What may grow: the archive, who has handled what, and the facts that wait for a quote, which go after 40 days.
MAY_GROW = set(PARTITIONED)


async def counts(database: Pool) -> dict[str, int]:
    """Rows by table, partitions with their table; of those tables that have any."""
    found: Counter[str] = Counter()
    for (name,) in await database.fetch(TABLES):
        table = next((parent for parent in PARTITIONED if name.startswith(f"{parent}_")), name)
        # That is the only place where a name, which is no parameter, comes from the catalogue itself.
        found[table] += 0 if table == name in PARTITIONED else await database.fetchval(f"SELECT count(*) FROM {name}")
    return {table: number for table, number in found.items() if number}


async def handle_all(events: Sequence[Event], database: Pool) -> None:
    """Every event through every worker that uses it, in batches, on several connections."""
    work: asyncio.Queue[tuple[ModuleType, list[Event]]] = asyncio.Queue()
    for worker in WORKERS.values():
        mine = [event for event in events if takes(worker, "stripe.events", event.type)]
        for start in range(0, len(mine), BATCH):
            work.put_nowait((worker, mine[start : start + BATCH]))

    async def lane() -> None:
        while not work.empty():
            worker, batch = work.get_nowait()
            assert await run_handler(worker, batch, database) == [], "nothing is told to anybody"

    await asyncio.gather(*(lane() for _ in range(CONNECTIONS)))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_hundred_thousand_unrelated_events_leave_nothing(database: Pool) -> None:
    """INVARIANT: no quote, no CRM event, no mail, no call to Stripe, no customer, no document."""
    events = list(unrelated(MANY, lately()))
    assert len({event.id for event in events}) == MANY
    kinds = {event.type.rpartition(".")[0] for event in events}
    assert {"charge", "charge.dispute", "payment_intent", "checkout.session", "refund", "invoice"} <= kinds
    assert {"customer.subscription", "invoice_payment"} <= kinds
    began = time.monotonic()
    await handle_all(events, database)
    print(f"{MANY} events in {time.monotonic() - began:.1f} s: {await counts(database)}")
    found = await counts(database)
    assert set(found) == MAY_GROW
    assert found["events"] == MANY
    # A row for the fact, and one for each of the ids that it names.
    assert found["waiting_facts"] <= 5 * MANY
    assert found["waiting_documents"] <= MANY
