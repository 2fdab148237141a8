"""The broker's own dead lettering is at-least-once: what it takes out of a queue stays there until `dead-letters` has it.

Its conditions (RabbitMQ's documentation, "Activating at-least-once dead-lettering"): a quorum queue, strategy
at-least-once, overflow reject-publish, an exchange to dead-letter to; a target that is durable and replicated. Without
reject-publish it falls back to at-most-once, and says so only in the broker's log.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest
from aiormq.abc import AbstractChannel, DeliveredMessage

from dev.servers import BrokerControl
from quittance import broker, wire
from quittance.broker import DEAD_LETTERS, EXCHANGES, BrokerAway, Queue, crm_queue_arguments, dead_letters_arguments
from tests.support.messages import Broker
from tests.support.polling import eventually
from workers import WORKERS

QUEUE = "quotes"
MESSAGES = 3_000
PREFETCH = 200
OVER_LIMIT = 7  # each n-th message is given back until the broker gives it up, the others are rejected


@pytest.mark.parametrize("queue", [worker.QUEUE for worker in WORKERS.values()], ids=lambda queue: queue.name)
def test_every_workers_queue_meets_the_conditions(queue: Queue) -> None:
    """INVARIANT: one condition less, and the broker falls back to at-most-once without a word to us."""
    wanted = {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": DEAD_LETTERS,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    assert wanted.items() <= queue.arguments().items()
    assert "x-dead-letter-routing-key" not in queue.arguments(), "a fanout needs none"
    assert 0 < queue.arguments()["x-delivery-limit"] < 100


def test_the_target_is_replicated_and_gives_nothing_up_itself() -> None:
    assert EXCHANGES[DEAD_LETTERS] == "fanout"
    assert dead_letters_arguments()["x-queue-type"] == "quorum"
    for arguments in (dead_letters_arguments(), crm_queue_arguments(1)):
        assert arguments["x-delivery-limit"] >= 1_000_000
        assert "x-message-ttl" not in arguments
    assert "x-max-length" not in dead_letters_arguments()


class Refusing:
    """Consumes the queue, and settles nothing: rejects most, gives back the others until they are over the limit."""

    def __init__(self) -> None:
        self.settled = 0

    async def run(self, url: str) -> None:
        """Until the queue is empty, or the broker is gone (BrokerAway)."""
        async with broker.connected(url, "refusing") as connection:
            channel = await broker.open_channel(connection, confirms=False)
            lost = asyncio.Event()
            channel.closing.add_done_callback(lambda _: lost.set())

            async def refuse(message: DeliveredMessage) -> None:
                with contextlib.suppress(Exception):  # the broker is gone: the rest of this test is about that
                    await self._refuse(channel, message)

            async with broker.calling(broker.CALL_TIMEOUT):
                await channel.basic_qos(prefetch_count=PREFETCH)
                await channel.basic_consume(QUEUE, refuse)
            while not lost.is_set():
                async with broker.calling(broker.CALL_TIMEOUT):
                    declared = await channel.queue_declare(QUEUE, passive=True)
                idle = self.settled
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await lost.wait()
                if not declared.message_count and idle == self.settled:
                    return
            raise BrokerAway("lost")

    async def _refuse(self, channel: AbstractChannel, message: DeliveredMessage) -> None:
        tag = message.delivery_tag or 0
        again = int(message.body) % OVER_LIMIT == 0
        # 3.10 counts a nack towards the limit, 4.3 a reject alone.
        await channel.basic_reject(tag, requeue=again, wait=False)
        self.settled += 1


@pytest.mark.faults
@pytest.mark.slow
async def test_killed_in_the_middle_every_message_is_found_among_the_dead(
    amqp_url: str, killable_broker: BrokerControl
) -> None:
    """INVARIANT: what was confirmed is in `dead-letters` in the end, whenever the broker dies; some of it twice."""
    confirmed = await publish_all(amqp_url)
    assert len(confirmed) == MESSAGES
    refusing = Refusing()
    for kills in range(1, 3):
        task = asyncio.create_task(refusing.run(amqp_url))
        await eventually(lambda: task.done() or refusing.settled > kills * MESSAGES // 4, every=0.002)  # noqa: B023
        assert not task.done(), "it was to be killed in the middle"
        await asyncio.to_thread(killable_broker.kill)
        try:
            with pytest.raises(BrokerAway):
                await task
        finally:
            await asyncio.to_thread(killable_broker.start)
    async with asyncio.timeout(60):
        await refusing.run(amqp_url)
    found: list[int] = []
    async with Broker.at(amqp_url) as amqp:

        async def all_there() -> bool:
            found.extend(int(message.body) for message in await amqp.get(DEAD_LETTERS, MESSAGES * 2))
            missing = confirmed - set(found)
            assert not missing, f"{len(missing)} lost, such as {sorted(missing)[:5]}"
            return True

        await eventually(all_there, timeout=30, every=0.2)
        assert await amqp.depth(QUEUE) == 0
    print(f"{len(found)} dead letters of {len(confirmed)} messages")


async def publish_all(url: str) -> set[int]:
    """The numbers that were confirmed."""
    async with wire.connected(url, "test", confirms=True) as channel:

        async def publish(numbers: Iterator[int]) -> list[int]:
            done = []
            for number in numbers:
                await channel.publish("", QUEUE, b"%d" % number, {}, "t", 10)
                done.append(number)
            return done

        numbers = iter(range(MESSAGES))
        taken = await asyncio.gather(*(publish(numbers) for _ in range(50)))
    return {number for one in taken for number in one}
