"""The relay: in order, once under one id, and no destination waits for another."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from asyncpg.pool import Pool

from quittance import broker, outbox
from quittance.event import Cause, Event
from quittance.outbox import wake_channel
from tests.support.messages import Broker, Message
from tests.support.polling import eventually
from workers.runtime import relay as relays
from workers.runtime.listener import listen
from workers.runtime.outlet import events_outlet
from workers.runtime.relay import Relay

EVERYWHERE = range(outbox.BUCKETS)


def change(quote: str, sequence: int) -> Event:
    """A status change of a quote, as the quotes worker emits it."""
    body = {
        "specversion": "1.0",
        "id": f"{quote}:{sequence}",
        "source": "/accounts/self/test/quotes",
        "type": outbox.STATUS_CHANGED,
        "subject": quote,
        "sequence": f"{sequence:020d}",
        "data": {"sequence": sequence},
    }
    return Event(
        id=f"{quote}:{sequence}",
        type=outbox.STATUS_CHANGED,
        account="self",
        livemode=False,
        created=1_790_000_000,
        received_at=1_790_000_000.5,
        body=json.dumps(body).encode(),
        cause=Cause("evt_1", "charge.succeeded"),
        stream=quote,
        routing_key="quote.payment_status.paid",
        mail_due=True,
    )


async def store(database: Pool, *events: Event) -> None:
    """Commit events to the outbox, as a worker's batch does."""
    async with database.acquire() as db, db.transaction():
        await outbox.write(db, events)


def sequences(messages: list[Message]) -> dict[str, list[int]]:
    """Per quote, the sequence numbers in order of arrival."""
    arrived: dict[str, list[int]] = defaultdict(list)
    for message in messages:
        quote, _, number = message.headers["event-id"].rpartition(":")
        arrived[quote].append(int(number))
    return arrived


@asynccontextmanager
async def relaying(database: Pool, url: str, *destinations: str, database_url: str = "") -> AsyncIterator[None]:
    """Relays in this process, one for each name given (the same one twice: two that share)."""
    stopping = asyncio.Event()
    running = [Relay(name, database, url, stopping) for name in destinations]
    tasks = [asyncio.create_task(one.run()) for one in running]
    if database_url:
        wakes = {wake_channel(one.destination): [one.wake] for one in running}
        tasks.append(asyncio.create_task(listen(database_url, wakes, stopping)))
    try:
        yield
    finally:
        stopping.set()
        for one in running:
            one.wake()
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks)


async def empty(database: Pool, destination: str = "") -> bool:
    left = await database.fetchval("SELECT count(*) FROM outbox WHERE destination = $1 OR $1 = ''", destination)
    assert left == 0, f"{left} rows left"
    return True


async def test_a_change_reaches_the_crm_and_the_mails_as_one_cloud_event(database: Pool, amqp: Broker) -> None:
    told = change("Q-1", 1)
    await store(database, told)
    async with relaying(database, amqp.url, "crm", "notifications"):
        await eventually(lambda: empty(database))
    [crm] = await amqp.get("crm")
    [mail] = await amqp.get("notifications")
    for message in (crm, mail):
        assert message.body == told.body
        assert message.content_type == "application/cloudevents+json"
        assert message.type == outbox.STATUS_CHANGED
        assert message.headers["ce-id"] == "Q-1:1"
        assert message.headers["ce-sequence"] == "00000000000000000001"
        assert message.headers["event-id"] == "Q-1:1"
        assert message.headers["cause-id"] == "evt_1"
        assert "ce-data" not in message.headers
    assert (crm.exchange, crm.routing_key) == ("crm.events", "quote.payment_status.paid")
    assert (mail.exchange, mail.routing_key) == ("", "notifications")


async def test_each_quote_keeps_its_order_and_nothing_is_missing(database: Pool, amqp: Broker) -> None:
    for sequence in range(1, 61):
        await store(database, *(change(f"Q-{n}", sequence) for n in range(30)))
    async with relaying(database, amqp.url, "crm"):
        await eventually(lambda: empty(database, "crm"), timeout=30)
    arrived = sequences(await amqp.get("crm", most=10_000))
    assert arrived == {f"Q-{n}": list(range(1, 61)) for n in range(30)}


@pytest.mark.parametrize("told_where", [True, False], ids=["told where", "looking everywhere"])
async def test_three_relays_share_and_keep_the_order(
    told_where: bool, database: Pool, database_url: str, amqp: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INVARIANT: what one relay has published and deleted, another never publishes again.

    Broken by a claim and a read in one statement: its snapshot is older than the lock.
    """
    monkeypatch.setattr(relays, "CLAIM_MOST", 5)
    monkeypatch.setattr(relays, "READ_MOST", 3)
    writing = asyncio.create_task(_write_slowly(database))
    listening = database_url if told_where else ""
    async with relaying(database, amqp.url, "crm", "crm", "crm", database_url=listening):
        await writing
        await eventually(lambda: empty(database, "crm"), timeout=30)
    arrived = sequences(await amqp.get("crm", most=10_000))
    assert arrived == {f"Q-{n}": list(range(1, 41)) for n in range(40)}


async def _write_slowly(database: Pool) -> None:
    for sequence in range(1, 41):
        await store(database, *(change(f"Q-{n}", sequence) for n in range(40)))


async def test_a_commit_is_published_within_milliseconds(database: Pool, database_url: str, amqp: Broker) -> None:
    """By notification, not by the poll (which is slower than the time allowed here)."""
    loop = asyncio.get_running_loop()
    async with relaying(database, amqp.url, "crm", "notifications", database_url=database_url):
        await store(database, change("Q-0", 1))
        await eventually(lambda: empty(database))
        took = []
        for n in range(1, 11):
            began = loop.time()
            await store(database, change(f"Q-{n}", 1))
            await eventually(lambda: empty(database), every=0.002)
            took.append(loop.time() - began)
    assert sorted(took)[5] < relays.POLL / 10, took


async def test_a_full_crm_queue_delays_the_crm_alone(
    database: Pool, fresh_amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INVARIANT: with the CRM silent and its queue full, mails and our own events go on, and nothing is lost or
    reordered when it reads again.
    """
    async with Broker.at(fresh_amqp_url) as amqp:
        await amqp.channel.queue_delete("crm")
        await amqp.channel.queue_declare("crm", durable=True, arguments=broker.crm_queue_arguments(20_000))
        await amqp.channel.queue_bind("crm", "crm.events", routing_key="#")
        for sequence in range(1, 21):
            await store(database, *(change(f"Q-{n}", sequence) for n in range(10)))
        arrived: list[Message] = []
        async with relaying(database, fresh_amqp_url, "crm", "notifications"):
            await eventually(lambda: empty(database, "notifications"))

            async def full() -> bool:
                left = await database.fetchval("SELECT count(*) FROM outbox WHERE destination = 'crm'")
                assert 0 < left < 200
                return True

            await eventually(full)

            async def read_on() -> bool:
                arrived.extend(await amqp.get("crm"))
                return await empty(database, "crm")

            await eventually(read_on, timeout=30)
            arrived += await amqp.get("crm")
        mails = sequences(await amqp.get("notifications"))
    assert sequences(arrived) == mails == {f"Q-{n}": list(range(1, 21)) for n in range(10)}


async def test_a_stream_stops_at_its_first_row_that_is_not_confirmed(database: Pool, amqp: Broker) -> None:
    """Sequence 2 of Q-1 cannot be routed: 3 stays behind it, Q-2 goes on."""
    await store(database, change("Q-1", 1), change("Q-1", 2), change("Q-1", 3), change("Q-2", 1), change("Q-2", 2))
    await database.execute("DELETE FROM outbox WHERE destination <> 'crm'")
    await database.execute("UPDATE outbox SET exchange = '', routing_key = 'nowhere' WHERE event_id = 'Q-1:2'")
    async with relaying(database, amqp.url, "crm"):

        async def stopped() -> bool:
            rows = await database.fetch("SELECT event_id FROM outbox ORDER BY id")
            assert [row[0] for row in rows] == ["Q-1:2", "Q-1:3"]
            return True

        await eventually(stopped)
        await database.execute("UPDATE outbox SET exchange = 'crm.events', routing_key = 'x' WHERE event_id = 'Q-1:2'")
        await eventually(lambda: empty(database))
    assert sequences(await amqp.get("crm")) == {"Q-1": [1, 2, 3], "Q-2": [1, 2]}


async def test_published_and_not_deleted_repeats_the_same_id_and_bytes(
    database: Pool, amqp: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INVARIANT: a relay that dies between publish and delete costs a repetition, never another id."""
    await store(database, change("Q-1", 1), change("Q-1", 2))
    async with database.acquire() as db, events_outlet(amqp.url, "test") as outlet:
        with monkeypatch.context() as patched:
            patched.setattr(relays, "PUBLISHED", "SELECT nothing_of_the_kind($1::bigint[])")
            with pytest.raises(Exception, match="nothing_of_the_kind"):
                await relays.publish_claim(db, outlet, "crm", EVERYWHERE)
        assert (await relays.publish_claim(db, outlet, "crm", EVERYWHERE)).rows == 2
    messages = await amqp.get("crm")
    assert [message.headers["event-id"] for message in messages] == ["Q-1:1", "Q-1:2"] * 2
    assert messages[0].body == messages[2].body
    assert messages[1].body == messages[3].body
