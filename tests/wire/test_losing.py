"""Every way of losing the broker: whoever waits is told, at once or within the heartbeat, and never by a cancellation."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pamqp.commands import Basic, Exchange, Queue

from dev.servers import BrokerControl, Servers
from quittance import wire
from quittance.broker import BrokerAway, ClosedByBroker
from quittance.wire import Delivery, Wire
from quittance.wire.frames import HEARTBEAT_FRAME
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.wire.conftest import wired

AT_ONCE = 2.0


@asynccontextmanager
async def connection(url: str, *, confirms: bool = True) -> AsyncIterator[Wire]:
    async with wire.connected(url, "test", confirms=confirms) as channel:
        yield channel


@pytest.mark.faults
async def test_killed_in_the_middle_what_was_confirmed_is_there(
    amqp: Broker, queue: str, killable_broker: BrokerControl
) -> None:
    """INVARIANT: confirmed is stored; what is not confirmed is BrokerAway at once, whatever it may have become."""
    await asyncio.sleep(2)  # a queue declared sooner before the kill can come back unusable
    confirmed: set[bytes] = set()
    channel = await wire.connect(amqp.url, "test", confirms=True)
    consuming = await wire.connect(amqp.url, "test", confirms=False)
    await consuming.consume(queue, lambda _: None)

    async def publish(worker: int) -> BrokerAway:
        for number in range(1_000_000):
            body = b"%d.%d" % (worker, number)
            try:
                await channel.publish("", queue, body, {}, "t", 30)
            except BrokerAway as error:
                return error
            confirmed.add(body)
        raise AssertionError("it was never lost")

    tasks = [asyncio.create_task(publish(worker)) for worker in range(50)]
    await eventually(lambda: len(confirmed) > 2000)
    await asyncio.to_thread(killable_broker.kill)
    try:
        async with asyncio.timeout(AT_ONCE):
            await asyncio.gather(*tasks)
            await asyncio.gather(asyncio.shield(channel.lost), asyncio.shield(consuming.lost))
        for lost in (channel, consuming):
            with pytest.raises(BrokerAway):
                await lost.prefetch(1)
            with pytest.raises(BrokerAway):
                lost.ack(1, multiple=True)
        with pytest.raises(BrokerAway):
            await channel.publish("", queue, b"", {}, "t", 1)
        with pytest.raises(BrokerAway):
            await wire.connect(amqp.url, "test", confirms=True)
        await channel.close()
        await consuming.close()
    finally:
        await asyncio.to_thread(killable_broker.start)

    async def whole() -> bool:
        async with Broker.at(amqp.url) as again:
            stored.update(message.body for message in await again.get(queue, 10**6))
        return confirmed <= stored

    stored: set[bytes] = set()
    assert await eventually(whole, timeout=30)


@pytest.mark.faults
async def test_a_broker_that_hangs_is_found_dead_within_its_heartbeat_and_closing_takes_seconds(
    amqp: Broker, queue: str, killable_broker: BrokerControl
) -> None:
    async with connection(f"{amqp.url}?heartbeat=2") as channel, connection(amqp.url) as hung:
        await channel.publish("", queue, b"", {}, "t", 10)
        await asyncio.to_thread(killable_broker.pause)
        try:
            waiting = [asyncio.create_task(channel.publish("", queue, b"", {}, "t", 60)) for _ in range(5)]
            began = time.monotonic()
            async with asyncio.timeout(8):
                for one in waiting:
                    with pytest.raises(BrokerAway, match="silent"):
                        await one
            assert time.monotonic() - began > 2
            began = time.monotonic()
            await hung.close()
            assert time.monotonic() - began < 4
            with pytest.raises(BrokerAway):
                await wire.connect(amqp.url, "test", confirms=True)  # the kernel answers, the broker does not
        finally:
            await asyncio.to_thread(killable_broker.resume)


async def test_heartbeats_keep_an_idle_connection_alive_both_ways(amqp: Broker, queue: str) -> None:
    """Longer than either side waits: 2 s with a heartbeat of one."""
    async with connection(f"{amqp.url}?heartbeat=1") as channel:
        await asyncio.wait({channel.lost}, timeout=5)
        assert not channel.lost.done()
        await channel.publish("", queue, b"", {}, "t", 10)


async def test_heartbeats_are_sent_only_into_silence() -> None:
    channel, socket = wired()
    channel.tuned(131_072, 10)
    channel._heart.tick()  # it counts as having spoken when it begins
    channel._heart.tick()
    await eventually(lambda: socket.written == [HEARTBEAT_FRAME])
    channel.data_received(HEARTBEAT_FRAME)
    for _ in range(4):
        assert not channel.lost.done()
        channel._heart.tick()
    channel._heart.tick()
    assert "silent" in channel.lost.result()


@pytest.mark.faults
async def test_an_alarm_is_seen_and_its_end_too(amqp: Broker, queue: str, killable_broker: BrokerControl) -> None:
    async with connection(amqp.url) as channel:
        await asyncio.to_thread(killable_broker.ctl, "set_vm_memory_high_watermark", "absolute", "1")
        try:
            begun = channel.send("", queue, b"", {}, "t", 60)  # it tells only who publishes; this one may still pass
            await eventually(lambda: channel.blocked)
            waiting = channel.send("", queue, b"", {}, "t", 60)
            await asyncio.wait({waiting}, timeout=0.5)
            assert not waiting.done()
        finally:
            await asyncio.to_thread(killable_broker.ctl, "set_vm_memory_high_watermark", "absolute", "1GB")
        await asyncio.gather(begun, waiting)
        await eventually(lambda: not channel.blocked)


async def test_a_connection_that_the_broker_closes(amqp: Broker, servers: Servers) -> None:
    if not servers.managed:
        pytest.skip("AMQP_URL names a server whose connections are not ours to close")
    async with connection(amqp.url) as channel:
        vhost = amqp.url.rpartition("/")[2]
        await asyncio.to_thread(servers.rabbitmqctl, "close_all_connections", "--vhost", vhost, "test")
        async with asyncio.timeout(10):
            assert "320" in await asyncio.shield(channel.lost)
        with pytest.raises(ClosedByBroker) as caught:
            await channel.prefetch(1)
        assert caught.value.code == 320


async def test_a_channel_that_the_broker_closes_names_the_reason(amqp: Broker) -> None:
    async with connection(amqp.url) as channel:
        waiting = channel.send("no.such.exchange", "q", b"", {}, "t", 60)
        with pytest.raises(ClosedByBroker, match=r"no\.such\.exchange") as caught:
            await channel.call(Exchange.Declare(exchange="no.such.exchange", passive=True), Exchange.DeclareOk)
        assert caught.value.code == 404
        with pytest.raises(ClosedByBroker):
            await waiting


async def test_a_consumer_whose_queue_is_deleted(amqp: Broker, queue: str) -> None:
    async with connection(amqp.url, confirms=False) as channel:
        await channel.consume(queue, lambda _: None)
        await amqp.channel.queue_delete(queue)
        async with asyncio.timeout(10):
            assert "cancelled" in await asyncio.shield(channel.lost)
        with pytest.raises(BrokerAway):
            channel.ack(1, multiple=False)


async def test_what_a_lost_consumer_held_is_delivered_again_in_order(amqp: Broker, queue: str) -> None:
    async with connection(amqp.url) as publishing:
        for number in range(20):
            await publishing.publish("", queue, b"%d" % number, {}, "t", 10)
    for returned in range(2):
        arrived: list[Delivery] = []
        async with connection(amqp.url, confirms=False) as channel:
            await channel.prefetch(50)
            tag = await channel.consume(queue, arrived.append)
            await eventually(lambda: len(arrived) == 20)  # noqa: B023 - called within the round
            await channel.cancel(tag)
            assert [int(one.body) for one in arrived] == list(range(20))
            assert {one.returned for one in arrived} == {returned}


@pytest.mark.parametrize("fault", ["password", "vhost", "port", "scheme", "auth"])
async def test_a_broker_that_refuses_us_is_away(amqp: Broker, fault: str) -> None:
    before, _, after = amqp.url.rpartition("@")
    urls = {
        "password": f"{before}wrong@{after}",
        "vhost": f"{amqp.url}-that-is-not-there",
        "port": "amqp://guest:guest@127.0.0.1:1/",
        "scheme": "http://127.0.0.1/",
        "auth": f"{amqp.url}?auth=amqplain",
    }
    with pytest.raises(BrokerAway):
        await wire.connect(urls[fault], "test", confirms=True)


async def test_a_peer_that_closes_or_speaks_something_else_is_away() -> None:
    said: list[bytes] = [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"AMQP\x00\x00\x09\x01",
        b"\x01\x00\x00\x00\x00\x00\x04",
    ]

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said[0])
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        while said:
            with pytest.raises(BrokerAway):
                await wire.connect(f"amqp://127.0.0.1:{port}/", "test", confirms=True)
            del said[0]


async def test_an_answer_given_up_goes_to_nobody_else(amqp: Broker) -> None:
    async with connection(amqp.url) as channel:
        given_up = asyncio.create_task(channel.call(Queue.Declare(queue="archive", passive=True), Queue.DeclareOk))
        await asyncio.sleep(0)
        given_up.cancel()
        assert (await channel.call(Basic.Qos(prefetch_count=1), Basic.QosOk)).name == "Basic.QosOk"
