"""What is due is sent to its own queue: once, as it was, with the reason in its headers."""

import asyncio
from typing import Any

from asyncpg.pool import Pool

from quittance import wire
from quittance.errors import Rejected
from tests.runtime.conftest import event
from tests.support.messages import Broker
from workers.runtime import failures, redelivery
from workers.runtime.redelivery import send_due


async def fail(database: Pool, number: int, queue: str = "quotes", error: Exception | None = None) -> int:
    """A failed delivery that is due at once; its id."""
    failing = event(number)
    headers = {**failing.headers(), "x-delivery-count": 3, "replay-id": "of an earlier one", "last-try": True}
    async with database.acquire() as db:
        recorded = await failures.record(db, queue, failing, headers, error or ValueError("x"), (0.0, 0.0))
    return recorded.id


async def send(database: Pool, amqp: Broker) -> int:
    async with database.acquire() as db, wire.connected(amqp.url, "test", confirms=True) as channel:
        return (await send_due(db, channel))[0]


async def row(database: Pool, row_id: int) -> Any:
    return await database.fetchrow(
        "SELECT state, next_at, next_at > now() AS later FROM failed_deliveries WHERE id = $1", row_id
    )


async def test_a_retry_is_sent_once_and_as_it_was(database: Pool, amqp: Broker) -> None:
    row_id = await fail(database, 1)
    assert await send(database, amqp) == 1
    assert await send(database, amqp) == 0, "it is under way"
    [message] = await amqp.get("quotes")
    assert message.body == event(1).body
    assert message.type == "charge.succeeded"
    wanted = {**event(1).headers(), "failed-delivery-id": row_id, "x-delivery-count": 0}  # the last is the broker's
    assert message.headers == wanted, "nothing of its earlier lives"
    assert (await row(database, row_id))["next_at"] is None


async def test_a_replay_says_so_and_a_last_try_too(database: Pool, amqp: Broker) -> None:
    replayed = await fail(database, 1, error=Rejected("unreadable_payload"))
    crashed = await fail(database, 2, error=Rejected("crashed_worker"))
    assert await send(database, amqp) == 0, "what is dead waits for a person"
    await database.execute(
        "UPDATE failed_deliveries SET state = 'replaying', replay_id = 'r-1', next_at = now() WHERE id = $1", replayed
    )
    await database.execute("UPDATE failed_deliveries SET state = 'retrying', next_at = now() WHERE id = $1", crashed)
    assert await send(database, amqp) == 2
    headers = {message.headers["event-id"]: message.headers for message in await amqp.get("quotes")}
    assert headers["evt_1"]["replay-id"] == "r-1"
    assert "last-try" not in headers["evt_1"]
    assert headers["evt_2"]["last-try"] is True
    assert "replay-id" not in headers["evt_2"]


async def test_a_queue_that_is_gone_keeps_its_own_rows_waiting(database: Pool, amqp: Broker) -> None:
    lost = await fail(database, 1, queue="no-such-queue")
    good = await fail(database, 2)
    assert await send(database, amqp) == 1
    kept = await row(database, lost)
    assert (kept["state"], kept["later"]) == ("retrying", True)
    assert (await row(database, good))["next_at"] is None


async def test_two_relays_send_each_row_once_and_no_more_than_the_throttle_allows(database: Pool, amqp: Broker) -> None:
    for number in range(redelivery.MOST + 30):
        await fail(database, number)
    async with Broker.at(amqp.url) as other:
        sent = await asyncio.gather(send(database, amqp), send(database, other))
    assert max(sent) <= redelivery.MOST
    assert sum(sent) == redelivery.MOST + 30
    ids = [message.headers["event-id"] for message in await amqp.get("quotes")]
    assert sorted(ids) == sorted(f"evt_{n}" for n in range(redelivery.MOST + 30))
