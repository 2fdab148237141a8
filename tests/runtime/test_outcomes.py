"""The table "What happens to an event", row by row, on real servers (workers/runtime/consumer.py)."""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
from asyncpg.pool import Pool

from tests.runtime import breakable
from tests.runtime.conftest import event
from tests.support.messages import Broker
from tests.support.polling import eventually
from workers.runtime.consumer import Consumer

Consuming = Callable[..., AbstractAsyncContextManager[Consumer]]
Effects = Callable[[], Any]
Runs = Callable[[], list[tuple[str, int]]]


async def failed(database: Pool, event_id: str) -> asyncpg.Record | None:
    """The failed delivery of an event."""
    return await database.fetchrow(
        "SELECT id, state, reason, error, traceback, fingerprint, attempts, next_at, quote_id, type, body, headers, replay_id"
        " FROM failed_deliveries WHERE queue = 'quotes' AND event_id = $1",
        event_id,
    )


async def in_state(database: Pool, event_id: str, state: str) -> asyncpg.Record:
    """Wait until the failed delivery of an event is in `state`."""

    async def check() -> asyncpg.Record | None:
        row = await failed(database, event_id)
        assert row is not None and row["state"] == state, row
        return row

    row = await eventually(check)
    assert row is not None
    return row


async def actions(database: Pool, row_id: int) -> list[str]:
    """What the history says of a failed delivery."""
    rows = await database.fetch(
        "SELECT action FROM failed_delivery_history WHERE failed_delivery_id = $1 ORDER BY id", row_id
    )
    return [row[0] for row in rows]


async def test_a_handled_event_is_in_inbox_and_outbox_and_acked(
    database: Pool, amqp: Broker, consuming: Consuming, effects: Effects
) -> None:
    await amqp.publish(event(1, emit=True), event(2))
    async with consuming():
        await eventually(lambda: effects_are(effects, ["evt_1", "evt_2"]))
    assert await amqp.get("quotes") == []
    inbox = await database.fetch("SELECT queue, event_id FROM inbox ORDER BY event_id")
    assert [tuple(row) for row in inbox] == [("quotes", "evt_1"), ("quotes", "evt_2")]
    outbox = await database.fetch("SELECT destination, exchange, routing_key, event_id FROM outbox")
    assert [tuple(row) for row in outbox] == [("quittance", "quittance.events", "customer.changed", "told:evt_1")]


async def effects_are(effects: Effects, wanted: list[str]) -> bool:
    seen = await effects()
    assert seen == wanted
    return True


async def test_a_duplicate_delivery_changes_nothing(
    amqp: Broker, consuming: Consuming, effects: Effects, runs: Runs
) -> None:
    """In one batch, and in a later one."""
    await amqp.publish(event(1), event(1), event(1))
    async with consuming():
        await eventually(lambda: effects_are(effects, ["evt_1"]))
        await amqp.publish(event(1), event(2))
        await eventually(lambda: effects_are(effects, ["evt_1", "evt_2"]))
    assert await amqp.get("quotes") == []
    assert Counter(name for name, _ in runs()) == {"evt_1": 1, "evt_2": 1}


async def test_a_rejected_event_is_dead_at_once(
    database: Pool, amqp: Broker, consuming: Consuming, effects: Effects
) -> None:
    await amqp.publish(event(1, "reject"))
    async with consuming():
        row = await in_state(database, "evt_1", "dead")
    assert (row["reason"], row["attempts"], row["next_at"]) == ("unreadable_payload", 1, None)
    assert (row["type"], row["quote_id"], row["error"]) == ("charge.succeeded", "Q-77", "told to reject")
    assert row["body"] == event(1, "reject").body
    assert json.loads(row["headers"])["event-id"] == "evt_1"
    assert "Rejected" in row["traceback"]
    assert await actions(database, row["id"]) == ["dead_lettered"]
    assert await amqp.get("quotes") == []
    assert await effects() == []


async def test_any_other_exception_is_retried_by_schedule_and_then_dead(
    database: Pool, amqp: Broker, consuming: Consuming, effects: Effects, runs: Runs
) -> None:
    """Two pauses in the schedule: three attempts. An error text that Postgres cannot store stops nothing."""
    await amqp.publish(event(1, "raise"))
    async with consuming():
        row = await in_state(database, "evt_1", "dead")
    assert (row["reason"], row["attempts"], row["next_at"]) == ("handler_failed", 3, None)
    assert "told to raise" in row["error"]
    assert await actions(database, row["id"]) == ["failed", "failed", "dead_lettered"]
    assert len(runs()) == 3
    assert await amqp.get("quotes") == []


async def test_a_retry_that_succeeds_resolves_its_row(
    database: Pool, amqp: Broker, consuming: Consuming, effects: Effects
) -> None:
    await amqp.publish(event(1, "raise"))
    async with consuming(schedule=(0.5, 0.5)):
        await in_state(database, "evt_1", "retrying")
        breakable.mended.add("evt_1")
        row = await in_state(database, "evt_1", "resolved")
    assert row["attempts"] == 1
    assert await actions(database, row["id"]) == ["failed", "resolved"]
    assert await effects() == ["evt_1"]


async def test_one_poison_event_of_two_hundred_holds_nobody_back(
    database: Pool, amqp: Broker, consuming: Consuming, effects: Effects, runs: Runs
) -> None:
    await amqp.publish(*(event(n, "raise" if n == 77 else "") for n in range(200)))
    async with consuming(schedule=()):
        row = await in_state(database, "evt_77", "dead")
        await eventually(lambda: count_is(effects, 199))
    assert row["attempts"] == 1
    assert await effects() == [f"evt_{n}" for n in range(200) if n != 77], "the order is kept"
    assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 1
    assert max(size for _, size in runs()) > 1, "the batch was tried as one first"


async def count_is(effects: Effects, wanted: int) -> bool:
    assert len(await effects()) == wanted
    return True


async def test_a_race_is_run_again_and_no_attempt_is_counted(
    database: Pool, amqp: Broker, consuming: Consuming, effects: Effects, runs: Runs
) -> None:
    await amqp.publish(event(1, "deadlock"), event(2))
    async with consuming():
        await eventually(lambda: len(runs()) > 20)
        assert await failed(database, "evt_1") is None
        breakable.mended.add("evt_1")
        await eventually(lambda: effects_are(effects, ["evt_1", "evt_2"]))
    assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0


async def test_a_real_serialisation_failure_is_a_race(
    database: Pool, amqp: Broker, consuming: Consuming, effects: Effects, runs: Runs
) -> None:
    """A lock that is held longer than lock_timeout: 55P03."""
    await database.execute("CREATE TABLE held (id integer PRIMARY KEY)")
    async with database.acquire() as db:
        transaction = db.transaction()
        await transaction.start()
        await db.execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
        impatient = "SET LOCAL lock_timeout = '50ms'; INSERT INTO held (id) VALUES (1)"
        await amqp.publish(event(1, "sql", sql=impatient))
        async with consuming():
            await eventually(lambda: len(runs()) >= 3)
            await transaction.rollback()
            await eventually(lambda: effects_are(effects, ["evt_1"]))
    assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0


async def test_a_replay_runs_the_handler_again_on_what_was_handled(
    database: Pool, amqp: Broker, consuming: Consuming, effects: Effects
) -> None:
    async with consuming():
        await amqp.publish(event(1))
        await eventually(lambda: effects_are(effects, ["evt_1"]))
        await amqp.send("quotes", event(1), **{"replay-id": "r-1"})
        await eventually(lambda: effects_are(effects, ["evt_1", "evt_1"]))
    assert await database.fetchval("SELECT count(*) FROM inbox") == 1


async def test_a_replayed_dead_letter_is_resolved_or_dead_again(
    database: Pool, amqp: Broker, consuming: Consuming, effects: Effects
) -> None:
    """INVARIANT: a replay that fails is reopened with its history, and one that succeeds closes the row."""
    await amqp.publish(event(1, "raise"), event(2, "raise"))
    async with consuming(schedule=()):
        await in_state(database, "evt_1", "dead")
        await in_state(database, "evt_2", "dead")
        breakable.mended.add("evt_1")
        await database.execute("UPDATE failed_deliveries SET state = 'replaying', replay_id = 'r-1', next_at = now()")
        good = await in_state(database, "evt_1", "resolved")
        bad = await in_state(database, "evt_2", "dead")
    assert await effects() == ["evt_1"]
    assert (good["attempts"], bad["attempts"]) == (1, 2)
    assert await actions(database, bad["id"]) == ["dead_lettered", "dead_lettered"]


async def test_a_dead_event_that_stripe_sends_again_and_that_succeeds_is_resolved(
    database: Pool, amqp: Broker, consuming: Consuming, effects: Effects
) -> None:
    await amqp.publish(event(1, "raise"))
    async with consuming(schedule=()):
        await in_state(database, "evt_1", "dead")
        breakable.mended.add("evt_1")
        await amqp.publish(event(1))
        await in_state(database, "evt_1", "resolved")
    assert await effects() == ["evt_1"]


async def test_a_message_that_is_none_of_ours_is_dead_and_holds_nobody_back(
    database: Pool, amqp: Broker, consuming: Consuming, effects: Effects
) -> None:
    stranger = event(9)
    await amqp.publish(event(1))
    await amqp.send("quotes", stranger, **{"event-id": 7, "created": "\x00"})
    await amqp.publish(event(2))
    async with consuming():
        await eventually(lambda: effects_are(effects, ["evt_1", "evt_2"]))
    row = await database.fetchrow("SELECT state, reason, body, event_id FROM failed_deliveries")
    assert row is not None
    assert (row["state"], row["reason"], row["body"]) == ("dead", "unreadable_payload", stranger.body)
    assert len(row["event_id"]) == 32, "filed under its message id"
    assert await amqp.get("quotes") == []


async def test_an_id_with_nul_can_be_handled(
    database: Pool, amqp: Broker, consuming: Consuming, effects: Effects
) -> None:
    await amqp.publish(event("a\x00b"))
    async with consuming():
        await eventually(lambda: effects_are(effects, ["evt_a\\x00b"]))
