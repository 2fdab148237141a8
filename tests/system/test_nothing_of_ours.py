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

from dev import clock
from dev.lives import life
from quittance import partitions
from quittance.database import pool as open_pool
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
async def test_r3_a_hundred_thousand_unrelated_events_leave_nothing(database: Pool) -> None:
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


# Forty days later ----------------------------------------------------------------------------------------------------

# The end of this week lies 40 days back then, and nearly nine.
LATER = 48
OLD_INBOX = "SELECT count(*) FROM inbox WHERE created < pg_catalog.now()"


async def contents(database: Pool) -> dict[str, str]:
    """A digest of each table that is not partitioned, and of the archive."""
    names = [row[0] for row in await database.fetch(TABLES)]
    kept = [name for name in names if not name.startswith(("inbox", "waiting_", "events_"))]
    digest = "SELECT md5(coalesce(string_agg(md5(t::text), '' ORDER BY md5(t::text)), '')) FROM {} AS t"
    return {name: await database.fetchval(digest.format(name)) for name in kept}


@asynccontextmanager
async def forty_days_later(database: Pool, url: str) -> AsyncIterator[Pool]:
    """The same database for whoever connects now, at a time when all that waits is old enough to go."""
    await clock.move(database, LATER)
    async with open_pool(url, "later", CONNECTIONS) as later:
        assert await later.fetchval("SELECT now() > pg_catalog.now() + interval '47 days'")
        yield later
        later.terminate()


async def test_what_waited_is_dropped_after_40_days_and_nothing_else_is(database: Pool, database_url: str) -> None:
    """INVARIANT: partitions of what waits go, and the inbox's of that time; all else stays to the byte, and a tie that
    comes only then still finds its facts in the archive.
    """
    everyone = list(WORKERS.values())
    for story in told_lives("kept", names=("subscription_refunded", "dispute_won")):
        await pump(everyone, story.events, database)
    late = life("refunded", "late", begins=lately(), carriers=frozenset({"metadata"}))
    *before, tie = sorted(map(as_event, late.events), key=lambda event: event.type == "checkout.session.completed")
    assert await pump(everyone, before, database) == []
    await handle_all(list(unrelated(3000, lately())), database)
    full, kept = await counts(database), await contents(database)
    async with forty_days_later(database, database_url) as later:
        await partitions.maintain(database_url)
        left = await counts(later)
        assert full.keys() - left.keys() == {"waiting_facts", "waiting_documents"}
        assert await later.fetchval(OLD_INBOX) == 0
        assert await contents(later) == kept
        assert {table: left[table] for table in left if table != "inbox"} == {
            table: full[table] for table in full if table not in ("inbox", "waiting_facts", "waiting_documents")
        }
        await pump(everyone, [tie], later)
        data = json.loads(await later.fetchval("SELECT data FROM quotes WHERE quote_id = $1", late.purchase.quote_id))
        must = late.expected
        assert (
            (data["status"], data["amount_refunded"])
            == (must.status, must.refunded)
            == ("refunded", data["amount_due"])
        )
        assert [document["kind"] for document in data["documents"]] == ["receipt"]
