"""The archive: any shape, once, whole."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from asyncpg.pool import Pool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quittance.cli.archive import Search, find
from quittance.event import Cause, Event
from tests.runtime.conftest import event
from tests.support.handling import accepted, run_handler
from workers import archive
from workers.runtime import batch

RAW = b"""{ "id" : "evt_1A",
  "type":"checkout.session.completed", "api_version": "2025-03-31.basil", "created": 1790000000,
  "data":{"object":{"id":"cs_test_a1B2", "client_reference_id": "Q-2026/7", "customer": "cus_N1",
  "payment_method_types": ["card", "us_bank_account"], "mode": "payment", "price": "price_1Ab",
  "metadata": {"quote_id":"Q-9"}, "description": "a \\"ch_1X\\" in words", "livemode": false, "name": "caf\\u00e9"}}}"""


def of(body: bytes, number: int = 1, **fields: Any) -> Event:
    """An event with a body that the ingress might not even let through."""
    known = {"id": f"evt_{number}", "type": "t", "account": "self", "livemode": False, "created": 0, **fields}
    return Event(received_at=1_790_000_000.0, body=body, cause=Cause("evt_1", "t"), **known)


async def test_an_event_is_archived_with_its_bytes_and_found_by_its_ids(database: Pool) -> None:
    await run_handler(archive, [accepted(RAW)], database)
    [row] = await database.fetch("SELECT event_id, type, api_version, body, ids, created FROM events")
    assert (row["event_id"], row["type"], row["api_version"]) == (
        "evt_1A",
        "checkout.session.completed",
        "2025-03-31.basil",
    )
    assert row["body"] == RAW
    assert row["created"].timestamp() == 1_790_000_000
    assert sorted(row["ids"]) == sorted(["Q-2026/7", "Q-9", "evt_1A", "cs_test_a1B2", "cus_N1", "price_1Ab"])
    assert row["ids"].count("evt_1A") == 1
    for wanted in ("evt_1A", "Q-9", "cus_N1", "cs_test_a1B2"):
        assert await database.fetchval("SELECT event_id FROM events WHERE ids @> ARRAY[$1]", wanted) == "evt_1A"


@pytest.mark.parametrize("name", ["1", "an event", "\x1f", "e\x1fvt", "É"])
async def test_an_event_is_found_by_its_own_id_whatever_that_is(database: Pool, name: str) -> None:
    await run_handler(archive, [of(b"{}", id=name)], database)
    async with database.acquire() as db:
        found = await find(db, Search(event_ids=[name]), None)
    assert [row["event_id"] for row in found] == [name]


@pytest.mark.parametrize("replayed", [False, True], ids=["resent", "replayed"])
async def test_a_re_delivery_changes_nothing_weeks_later_and_across_partitions(database: Pool, replayed: bool) -> None:
    """INVARIANT: an event is archived once. Broken by a partition key that is not the event's own (arrival time)."""
    first = [event(n) for n in range(5)] + [of(b"{}", 7)]
    await run_handler(archive, first, database)
    await database.execute("DELETE FROM inbox")  # its rows are dropped after 40 days
    await database.execute("UPDATE events SET received_at = received_at - interval '60 days'")
    again = [*first, event(9)]
    if replayed:
        again = [Event(**{**{f: getattr(e, f) for f in e.__struct_fields__}, "replay_id": "r"}) for e in again]
    await run_handler(archive, again, database)
    rows = await database.fetch("SELECT event_id, count(*) FROM events GROUP BY event_id ORDER BY event_id")
    assert [tuple(row) for row in rows] == [
        (name, 1) for name in ("evt_0", "evt_1", "evt_2", "evt_3", "evt_4", "evt_7", "evt_9")
    ]


async def test_the_same_id_of_another_account_or_mode_is_another_event(database: Pool) -> None:
    events = [of(b"{}", 1), of(b"{}", 1, account="acct_1"), of(b"{}", 1, livemode=True)]
    await run_handler(archive, events, database)
    assert await database.fetchval("SELECT count(*) FROM events") == 3


HOSTILE: Sequence[bytes] = [
    b"",
    b"{}",
    b"\x00\xff\xfe not text",
    b'{"quote_id": "\\u0000\\ud800"}',
    b'{"quote_id": "\xc3\xa9", "id": "ch_\xff1"}',
    b'{"api_version": "\\u0000", "quote_id": ""}',
    b'{"quote_id": "a b c {},\\\\\\" NULL"}',
    b'"' + b"ch_1" * 100_000 + b'"',
    b"".join(b'"ch_%dA",' % n for n in range(50_000)),
    b'{"a":' * 100_000,
    json.dumps({"id": "evt_1", "metadata": {"quote_id": "NULL", "x": "a'; DROP TABLE events; --"}}).encode(),
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
async def test_no_body_is_refused(database: Pool, body: bytes) -> None:
    await run_handler(archive, [of(body)], database)
    [row] = await database.fetch("SELECT body, ids FROM events")
    assert row["body"] == body
    assert len(row["ids"]) <= 1 + archive.MOST_IDS


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=400)
    | st.recursive(st.text() | st.integers() | st.none(), st.lists).map(str).map(str.encode)
)
def test_reading_ids_never_raises(body: bytes) -> None:
    found = archive.ids_in(of(body))
    assert all(name and archive.JOINT not in name and "\x00" not in name for name in found)
    archive.api_version_in(body)


@pytest.mark.parametrize("written", ["Angebot 7/2026", "Q-\u00dc 7", 'Q-"7"', "q" * 255])
async def test_an_event_is_found_by_its_quote_whatever_the_seller_calls_it(database: Pool, written: str) -> None:
    """INVARIANT: a fact that has waited for 40 days is found in the archive, by the very id that its quote has."""
    for number, ascii_only in enumerate((True, False)):
        raw = json.dumps({"id": f"e{number}", "type": "t", "a": {"quote_id": written}}, ensure_ascii=ascii_only)
        await run_handler(archive, [accepted(raw.encode())], database)
    assert await database.fetchval("SELECT count(*) FROM events WHERE ids && ARRAY[$1]", written) == 2


def test_ids_are_told_from_words() -> None:
    words = (
        b'{"a":"card_present","b":"us_bank_account","c":"subscription_create","d":"Ch_1A","e":"pi_3AB","f":"sub_1abc"}'
    )
    assert archive.ids_in(of(words)) == ["pi_3AB", "sub_1abc"]


async def test_twenty_deliveries_of_one_event_at_once_are_one(database: Pool) -> None:
    """Two batches with the same event wait for each other in the inbox."""
    import asyncio

    results = await asyncio.gather(
        *(batch.run(database, "archive", archive.handle, [event(n) for n in range(i % 3, 8)]) for i in range(20))
    )
    assert await database.fetchval("SELECT count(*) FROM events") == 8
    assert sum(len(result.fresh) for result in results) == 8
