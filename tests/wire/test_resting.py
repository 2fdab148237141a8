"""A wire that rests reads nothing, misses nothing, and has all that came when it goes on."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
import uvloop

from quittance import wire
from quittance.wire import Delivery
from tests.support.messages import Broker
from tests.support.polling import eventually

MESSAGES = 40  # no more bytes than one look at a socket takes in (asyncio: 256 KiB)
REST = 0.5

Run = Callable[[Coroutine[Any, Any, None]], None]


async def _rest_while_messages_come(url: str, queue: str) -> None:
    arrived: list[Delivery] = []
    async with (
        wire.connected(url, "test", confirms=False) as consuming,
        wire.connected(url, "test", confirms=True) as publishing,
    ):
        await consuming.prefetch(2 * MESSAGES)
        await consuming.consume(queue, arrived.append)
        resting = asyncio.create_task(consuming.rest(REST))
        await asyncio.sleep(0)
        await asyncio.gather(*(publishing.publish("", queue, b"x" * 4000, {}, "t", 10) for _ in range(MESSAGES)))
        assert not arrived
        assert not resting.done(), "publishing took longer than the rest"
        await resting
        # Of one piece, without another look at the socket: the batch that is taken now is to have them.
        assert len(arrived) == MESSAGES
        consuming.ack(arrived[-1].tag, multiple=True)
        await consuming.prefetch(1)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
async def test_what_came_during_a_rest_is_there_when_it_ends(amqp: Broker, queue: str, run: Run) -> None:
    await asyncio.to_thread(run, _rest_while_messages_come(amqp.url, queue))
    assert await eventually(partial(_is_empty, amqp, queue))


async def _is_empty(amqp: Broker, queue: str) -> bool:
    return await amqp.depth(queue) == 0


async def test_a_consumer_that_is_cancelled_during_a_rest_is_lost_after_it(amqp: Broker, queue: str) -> None:
    async with wire.connected(amqp.url, "test", confirms=False) as consuming:
        await consuming.consume(queue, lambda _: None)
        resting = asyncio.create_task(consuming.rest(REST))
        await asyncio.sleep(0)
        await amqp.channel.queue_delete(queue)
        assert not consuming.lost.done()
        await resting
        assert await eventually(consuming.lost.done)


async def test_a_rest_that_is_given_up_leaves_a_wire_that_reads(amqp: Broker, queue: str) -> None:
    async with wire.connected(amqp.url, "test", confirms=False) as consuming:
        resting = asyncio.create_task(consuming.rest(60))
        await asyncio.sleep(0)
        resting.cancel()
        await asyncio.gather(resting, return_exceptions=True)
        await consuming.prefetch(1)  # which is answered
