"""Confirms against the real broker, and in orders in which it seldom gives them."""

import asyncio
import os
import random
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp.commands import Basic, Queue

from quittance import wire
from quittance.broker import BrokerAway, NotInTime, NotTaken, Unroutable
from quittance.wire import Delivery
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.wire.conftest import wired

HEADERS = {"event-id": "evt_1", "livemode": False, "created": 1_790_000_000}


async def test_a_message_arrives_as_it_was_sent(amqp: Broker, queue: str) -> None:
    """Also one of many frames (the broker's are of 128 KiB), and one of none."""
    bodies = [b"", b"x", *(os.urandom(size) for size in (131_064, 131_065, 262_129, 1_000_000))]
    async with wire.connected(amqp.url, "test", confirms=True) as channel:
        await asyncio.gather(*(channel.publish("", queue, body, HEADERS, "a.type", 10) for body in bodies))
        arrived: list[Delivery] = []
        await channel.consume(queue, arrived.append)
        await eventually(lambda: len(arrived) == len(bodies))
        channel.ack(arrived[-1].tag, multiple=True)
        assert [one.body for one in arrived] == bodies
        assert {one.type for one in arrived} == {"a.type"}
        assert all(one.headers == HEADERS for one in arrived)
        assert len({one.message_id for one in arrived}) == len(bodies)
    async with Broker.at(amqp.url) as again:
        [] = await again.get(queue)


async def test_aio_pika_reads_what_we_publish(amqp: Broker, queue: str) -> None:
    async with wire.connected(amqp.url, "test", confirms=True) as channel:
        await channel.publish("", queue, b"body", HEADERS, "a.type", 10)
        await channel.send("", queue, b"body", {}, "a.type", 10, "application/cloudevents+json")
    first, second = await amqp.get(queue)
    first.headers.pop("x-delivery-count", None)  # the queue's own
    assert (first.headers, first.type, first.content_type) == (HEADERS, "a.type", "application/json")
    assert second.content_type == "application/cloudevents+json"


@pytest.mark.slow
async def test_a_hundred_thousand_publishes_are_each_confirmed_and_all_there(amqp: Broker, queue: str) -> None:
    count = 100_000
    async with (
        wire.connected(amqp.url, "test", confirms=True) as publishing,
        wire.connected(amqp.url, "test", confirms=False) as consuming,
    ):
        arrived: set[bytes] = set()

        def take(delivery: Delivery) -> None:
            arrived.add(delivery.body)
            if delivery.tag % 100 == 0:
                consuming.ack(delivery.tag, multiple=True)

        await consuming.prefetch(1000)
        await consuming.consume(queue, take)
        for start in range(0, count, 500):
            numbers = range(start, start + 500)
            await asyncio.gather(*(publishing.send("", queue, b"%d" % number, {}, "t", 30) for number in numbers))
        await eventually(lambda: len(arrived) == count, timeout=30)
        assert not publishing._confirms._waiting


async def test_what_no_queue_takes_is_told_apart_among_hundreds(amqp: Broker, queue: str) -> None:
    """INVARIANT: an unroutable publish is acknowledged too; its return comes first, with its body."""
    where = [random.choice([queue, "nowhere"]) for _ in range(1000)]
    async with wire.connected(amqp.url, "test", confirms=True) as channel:
        sent = [channel.send("", key, os.urandom(random.choice([0, 10, 200_000])), HEADERS, "t", 20) for key in where]
        answers = await asyncio.gather(*sent, return_exceptions=True)
        assert [isinstance(answer, Unroutable) for answer in answers] == [key == "nowhere" for key in where]
        assert not channel._confirms._unroutable


async def test_a_full_queue_refuses(amqp: Broker, queue: str) -> None:
    full = f"{queue}-full"
    arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"}
    async with wire.connected(amqp.url, "test", confirms=True) as channel:
        await channel.call(Queue.Declare(queue=full, durable=True, arguments=arguments), Queue.DeclareOk)
        await channel.publish("", full, b"x", {}, "t", 10)
        refusals: list[NotTaken] = []

        async def refused() -> bool:  # the queue lets a few more in before it notices
            try:
                await channel.publish("", full, b"x", {}, "t", 10)
            except NotTaken as error:
                refusals.append(error)
            return len(refusals) > 10

        await eventually(refused, every=0)
        assert not any(isinstance(refusal, Unroutable) for refusal in refusals)
        await channel.call(Queue.Delete(queue=full), Queue.DeleteOk)


def confirm(tag: int, *, multiple: bool = False, taken: bool = True) -> bytes:
    return struct.pack(">BHIHHQBB", 1, 1, 13, 60, 80 if taken else 120, tag, multiple, 0xCE)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 40), st.data())
async def test_confirms_in_any_order_reach_their_own(count: int, data: st.DataObject) -> None:
    """With `multiple` and without, acks and nacks, repeated: each publish gets the first word that is about it."""
    channel, _ = wired()
    sent = [channel.send("", "q", b"", {}, "t", 60) for _ in range(count)]
    expected: dict[int, bool] = {}
    words = data.draw(st.lists(st.tuples(st.integers(0, count), st.booleans(), st.booleans()), max_size=count))
    for tag, multiple, taken in [*words, (0, True, True)]:
        if tag == 0 and not multiple:
            continue
        channel.data_received(confirm(tag, multiple=multiple, taken=taken))
        for one in range(1, (tag or count) + 1) if multiple else [tag]:
            expected.setdefault(one, taken)
    answers = await asyncio.gather(*sent, return_exceptions=True)
    assert {number: answer is None for number, answer in enumerate(answers, 1)} == expected
    assert not channel.lost.done()
    channel.abort("done")


@pytest.mark.parametrize("tag", [0, 3, 1 << 63])
async def test_a_confirm_of_what_was_never_sent_ends_it(tag: int) -> None:
    channel, socket = wired()
    sent = channel.send("", "q", b"", {}, "t", 60)
    channel.data_received(confirm(tag))
    with pytest.raises(BrokerAway):
        await sent
    assert socket.closed


async def test_nothing_waits_longer_than_it_was_given() -> None:
    channel, _ = wired()
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent = [channel.send("", "q", b"", {}, "t", timeout) for timeout in (0.3, 0.0, 0.1)]
    took = []
    for one in (sent[1], sent[2], sent[0]):
        with pytest.raises(NotInTime):
            await one
        took.append(loop.time() - began)
    assert took[0] < 0.05
    assert 0.1 <= took[1] < 0.25
    assert 0.3 <= took[2] < 0.5
    channel.data_received(confirm(3, multiple=True))  # late, and nobody's
    assert not channel.lost.done()
    assert not channel._confirms._waiting
    channel.abort("done")


async def test_a_message_that_cannot_be_sent_leaves_the_count_as_it_was() -> None:
    channel, _ = wired()
    with pytest.raises(TypeError):
        channel.send("", "q", b"", {"a": object()}, "t", 60)
    sent = channel.send("", "q", b"", {}, "t", 60)
    channel.data_received(confirm(1))
    await sent
    channel.abort("done")


async def test_a_cancelled_publish_takes_nothing_from_others() -> None:
    channel, _ = wired()
    first = asyncio.create_task(channel.publish("", "q", b"", {}, "t", 60))
    second = asyncio.create_task(channel.publish("", "q", b"", {}, "t", 60))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    channel.data_received(confirm(2, multiple=True))
    await second
    channel.abort("done")


async def test_while_the_broker_does_not_read_a_publish_waits_its_time() -> None:
    channel, socket = wired()
    channel.pause_writing()
    with pytest.raises(NotInTime, match="does not read"):
        await channel.publish("", "q", b"", {}, "t", 0.05)
    waiting = asyncio.create_task(channel.publish("", "q", b"", {}, "t", 10))
    await asyncio.sleep(0)
    assert not socket.written
    channel.resume_writing()
    await eventually(lambda: socket.written)
    channel.data_received(confirm(1))
    await waiting
    channel.pause_writing()
    waiting = asyncio.create_task(channel.publish("", "q", b"", {}, "t", 10))
    await asyncio.sleep(0)
    channel.connection_lost(None)
    with pytest.raises(BrokerAway, match="lost"):
        await waiting


async def test_a_wire_without_confirms_publishes_nothing_that_wants_one(amqp: Broker, queue: str) -> None:
    async with wire.connected(amqp.url, "test", confirms=False) as channel:
        with pytest.raises(RuntimeError):
            channel.send("", queue, b"", {}, "t", 1)
        channel.post(queue, b"note", Basic.Properties(correlation_id="7"))
        await channel.prefetch(1)
    [message] = await amqp.get(queue)
    assert message.body == b"note"
