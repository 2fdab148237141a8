"""The documents worker on Postgres: namings and facts in every order, side by side, twice, and long apart."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest
from asyncpg.pool import Pool

from dev.lives import life
from dev.stripe_events import body
from quittance.domain.documents import document_of, facts_from
from quittance.domain.tracked import Seen
from quittance.event import Event, own_event
from tests.documents.test_documents_domain import DOCUMENT_FAMILIES
from tests.support.handling import accepted, run_handler
from workers import archive, documents

DAY = 86_400
MADE = 1_790_000_000
ROWS = """
SELECT account, livemode, object_id, quote_id, kind, number, status, currency, amount, amount_paid, amount_refunded, url,
       pdf_url, issued_at
FROM documents ORDER BY account, livemode, object_id
"""


def charge_event(event_id: str, charge_id: str = "ch_1", *, at: int = 0, **fields: Any) -> Event:
    kind = fields.pop("type", "charge.updated")
    charge = {"id": charge_id, "object": "charge", "amount": 2000, "currency": "usd", "status": "succeeded"}
    obj = charge | {"amount_captured": 2000, "amount_refunded": 0, "created": MADE} | fields
    account = {"account": fields["account"]} if "account" in fields else {}
    return accepted({"id": event_id, "type": kind, "created": MADE + at, "data": {"object": obj}} | account)


def naming(quote_id: str, version: int, *object_ids: str, because: Event | None = None) -> Event:
    subject = {
        "quote_id": quote_id,
        "version": version,
        "documents": [{"object_id": each, "kind": "receipt"} for each in object_ids],
    }
    because = because or charge_event(f"evt_cause_{version}")
    event_id = f"quote.documents_named:{quote_id}:{version}"
    return own_event(event_id, documents.NAMED, subject, because=because, stream=quote_id)


def subject(event: Event) -> dict[str, Any]:
    return dict(json.loads(event.body)["data"]["object"])


async def rows(database: Pool) -> list[dict[str, Any]]:
    return [dict(row) for row in await database.fetch(ROWS)]


async def waiting(database: Pool) -> int:
    return int(await database.fetchval("SELECT count(*) FROM waiting_documents"))


async def test_a_fact_waits_until_its_object_is_named(database: Pool) -> None:
    assert await run_handler(documents, [charge_event("evt_1")], database) == []
    assert (await rows(database), await waiting(database)) == ([], 1)

    cause = charge_event("evt_session")
    [told] = await run_handler(documents, [naming("Q-1", 1, "ch_1", because=cause)], database)
    assert (told.type, told.stream, told.cause) == ("document.changed", "Q-1", cause.cause)
    version = subject(told)["version"]
    assert told.id == f"document.changed:ch_1:{version}"
    assert subject(told) == {
        "quote_id": "Q-1", "object_id": "ch_1", "kind": "receipt", "number": None, "status": "succeeded",
        "currency": "usd", "amount": 2000, "amount_paid": 2000, "amount_refunded": 0, "url": None, "pdf_url": None,
        "version": version, "withdrawn": False,
    }  # fmt: skip
    [row] = await rows(database)
    assert (row["quote_id"], row["status"]) == ("Q-1", "succeeded")


async def test_an_object_named_before_its_fact_is_told_when_the_fact_comes(database: Pool) -> None:
    assert await run_handler(documents, [naming("Q-1", 1, "ch_1")], database) == []
    fact = charge_event("evt_1")
    [told] = await run_handler(documents, [fact], database)
    assert (told.cause, subject(told)["status"]) == (fact.cause, "succeeded")
    assert await waiting(database) == 0


async def test_later_facts_update_it_and_each_change_has_its_own_cause_and_a_growing_version(database: Pool) -> None:
    events = [
        naming("Q-1", 1, "ch_1"),
        charge_event("evt_1", at=1),
        charge_event("evt_2", at=2, amount_refunded=500, type="charge.refunded"),
        charge_event("evt_3", at=3, amount_refunded=500),  # says nothing new
        charge_event("evt_4", at=4, amount_refunded=2000, type="charge.refunded"),
    ]
    told = await run_handler(documents, events, database)
    assert [(each.cause.id, subject(each)["status"]) for each in told] == [
        ("evt_1", "succeeded"),
        ("evt_2", "partially_refunded"),
        ("evt_4", "refunded"),
    ]
    versions = [subject(each)["version"] for each in told]
    assert versions == sorted(set(versions))
    assert await database.fetchval("SELECT version FROM documents") == versions[-1]


async def test_a_stale_event_changes_nothing(database: Pool) -> None:
    await run_handler(documents, [naming("Q-1", 1, "ch_1"), charge_event("evt_9", at=9, receipt_number="1")], database)
    assert await run_handler(documents, [charge_event("evt_1", at=1, status="pending")], database) == []
    [row] = await rows(database)
    assert (row["status"], row["number"]) == ("succeeded", "1")


async def test_an_older_naming_that_comes_late_is_passed_over(database: Pool) -> None:
    await run_handler(documents, [charge_event("evt_1"), naming("Q-1", 2)], database)
    assert await run_handler(documents, [naming("Q-1", 1, "ch_1")], database) == []
    assert await rows(database) == []


async def test_what_is_named_no_more_is_withdrawn_and_its_facts_wait_again(database: Pool) -> None:
    fact = charge_event("evt_1", receipt_number="7")
    first = await run_handler(documents, [fact, naming("Q-1", 1, "ch_1")], database)
    [withdrawn] = await run_handler(documents, [naming("Q-1", 2)], database)
    assert subject(withdrawn) == subject(first[0]) | {"withdrawn": True, "version": subject(withdrawn)["version"]}
    assert subject(withdrawn)["version"] > subject(first[0])["version"]
    assert await rows(database) == []

    [again] = await run_handler(documents, [naming("Q-2", 1, "ch_1")], database)
    assert (subject(again)["quote_id"], subject(again)["number"]) == ("Q-2", "7")
    assert subject(again)["version"] > subject(withdrawn)["version"]


async def test_one_that_moves_is_withdrawn_from_the_one_quote_and_told_to_the_other(database: Pool) -> None:
    await run_handler(documents, [charge_event("evt_1"), naming("Q-1", 5, "ch_1")], database)
    told = await run_handler(documents, [naming("Q-2", 6, "ch_1"), naming("Q-1", 7)], database)
    assert [(each.stream, subject(each)["withdrawn"]) for each in told] == [("Q-1", True), ("Q-2", False)]


async def test_accounts_and_modes_never_meet(database: Pool) -> None:
    await run_handler(documents, [charge_event("evt_1", account="acct_other")], database)
    assert await run_handler(documents, [naming("Q-1", 1, "ch_1")], database) == []
    assert await rows(database) == []


async def test_a_thousand_unrelated_facts_only_wait(database: Pool) -> None:
    events = [charge_event(f"evt_{number}", f"ch_{number}") for number in range(1000)]
    for start in range(0, 1000, 200):
        assert await run_handler(documents, events[start : start + 200], database) == []
    assert (await rows(database), await waiting(database)) == ([], 1000)
    assert await database.fetchval("SELECT count(*) FROM outbox") == 0


async def test_a_text_that_postgres_cannot_store_does_not_stop_the_document(database: Pool) -> None:
    event = charge_event("evt_1", receipt_number="\x00", receipt_url="https://x/\x00", description="\x00")
    await run_handler(documents, [event, naming("Q-1", 1, "ch_1")], database)
    [row] = await rows(database)
    assert (row["status"], row["number"], row["url"]) == ("succeeded", None, None)


async def test_a_replay_changes_nothing_and_tells_nothing(database: Pool) -> None:
    events = [charge_event("evt_1"), naming("Q-1", 1, "ch_1")]
    await run_handler(documents, events, database)
    before = await rows(database)
    replayed = [replay(event, "r1") for event in events]
    assert await run_handler(documents, replayed, database) == []
    assert await rows(database) == before


def replay(event: Event, replay_id: str) -> Event:
    return Event(**{name: getattr(event, name) for name in Event.__struct_fields__} | {"replay_id": replay_id})


# Write skew ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["fact", "naming"])
async def test_a_fact_and_a_naming_committed_side_by_side_never_miss_each_other(database: Pool, first: str) -> None:
    """INVARIANT: both transactions are open at once, and the document is there in the end.

    Broken by handling either without the object's lock: each would read before the other had committed.
    """
    for number in range(5):
        charge_id, quote_id = f"ch_{number}", f"Q-{number}"
        pair = [charge_event(f"evt_{number}", charge_id), naming(quote_id, 1, charge_id)]
        one, other = pair if first == "fact" else pair[::-1]
        async with database.acquire() as mine, database.acquire() as theirs:
            transaction = mine.transaction()
            await transaction.start()
            told = await documents.handle([one], mine)

            async def beside(event: Event = other, db: Any = theirs) -> list[Event]:
                async with db.transaction():
                    return await documents.handle([event], db)

            second = asyncio.create_task(beside())
            await blocked(database)
            await transaction.commit()
            told += await second
        assert [subject(event)["object_id"] for event in told] == [charge_id]
    assert len(await rows(database)) == 5


async def blocked(database: Pool) -> None:
    """Return when a session waits for an advisory lock (or, were there none, had time enough to go on)."""
    for _ in range(50):
        if await database.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            return
        await asyncio.sleep(0.01)


async def test_many_workers_on_the_same_objects_never_deadlock(database: Pool) -> None:
    objects = [f"ch_{number}" for number in range(8)]
    rng = random.Random(7)
    facts = [charge_event(f"evt_{number}", rng.choice(objects), at=number) for number in range(200)]
    namings = [naming(f"Q-{number % 4}", number, *rng.sample(objects, 4)) for number in range(40)]
    mixed: list[Event] = rng.sample(facts + namings, 240)
    batches = [mixed[start : start + 10] for start in range(0, 240, 10)]
    slots = asyncio.Semaphore(4)

    async def work(batch: Sequence[Event]) -> None:
        async with slots:
            await run_handler(documents, batch, database)

    await asyncio.wait_for(asyncio.gather(*map(work, batches)), 60)
    owners = await database.fetch("SELECT object_id, quote_id, version FROM document_owners")
    newest = {(f"Q-{q}", max(v for v in range(40) if v % 4 == q)) for q in range(4)}
    assert {(row["quote_id"], row["version"]) for row in owners} == newest


# Long apart ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("still_waiting", [0, 1])
async def test_what_was_dropped_while_it_waited_is_found_in_the_archive(database: Pool, still_waiting: int) -> None:
    then = int(time.time()) - 60 * DAY - MADE
    old = [
        charge_event("evt_1", at=then, receipt_number="1"),
        charge_event("evt_2", at=then + 5, amount_refunded=700, type="charge.refunded"),
        charge_event("evt_bad", at=then + 6, amount="not a number"),
        charge_event("evt_other", at=then, account="acct_other", amount_refunded=2000),
    ]
    await run_handler(archive, old, database)
    recent = charge_event("evt_3", at=then + 7, dispute="du_1")
    await run_handler(documents, [*old[:2], recent], database)
    await database.execute("DELETE FROM waiting_documents WHERE $1 = 0 OR fact::text NOT LIKE '%evt_3%'", still_waiting)
    assert await waiting(database) == still_waiting

    [told] = await run_handler(documents, [naming("Q-1", 1, "ch_1")], database)
    assert (subject(told)["status"], subject(told)["number"]) == ("partially_refunded", "1")
    assert subject(told)["amount_refunded"] == 700


# Every order ---------------------------------------------------------------------------------------------------------


def story(which: str, seed: int) -> list[Event]:
    """A life's events about documents, and namings of everything in it that is one."""
    told = life(which, seed, shape=("endive", "acacia")[seed % 2])
    mine = [event for event in told.events if event["type"].split(".")[0] in DOCUMENT_FAMILIES]
    events = [accepted(body(event)) for event in mine if event["type"] in documents.STRIPE_TYPES]
    names = [
        fact.subject.id
        for event in mine
        for fact in facts_from(Seen(1, "evt", event["type"]), event["data"]["object"])
        if document_of(fact) is not None
    ]
    names = list(dict.fromkeys(names))
    quote_id = told.purchase.quote_id
    namings = [naming(quote_id, version, *names[:version]) for version in range(1, len(names) + 1)]
    return events + namings


@pytest.mark.parametrize(
    "which", ["refunded_in_part", "refund_fails", "declined_then_paid", "subscription_renewed", "captured_in_part"]
)
async def test_every_order_and_batching_on_postgres_ends_the_same(database: Pool, which: str) -> None:
    for seed in range(6):
        rng = random.Random(f"{which}/{seed}")
        events = story(which, seed)
        await database.execute(
            "TRUNCATE documents, document_owners, document_namings, waiting_documents, inbox, outbox"
        )
        for event in events:
            await run_handler(documents, [event], database)
        expected = await rows(database)
        assert expected

        await database.execute(
            "TRUNCATE documents, document_owners, document_namings, waiting_documents, inbox, outbox"
        )
        shuffled = rng.sample(events, len(events)) + [replay(event, "again") for event in rng.sample(events, 3)]
        while shuffled:
            size = rng.randint(1, 6)
            await run_handler(documents, shuffled[:size], database)
            shuffled = shuffled[size:]
        assert await rows(database) == expected
