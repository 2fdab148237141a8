"""How soon one batch follows another: the first comes at once, the next have all that came meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.support.messages import Broker
from tests.support.polling import eventually
from workers.runtime.intake import AT_LEISURE, OURS, Intake
from workers.runtime.pace import LONGEST, next_begin
from workers.runtime.subscription import FULL, Subscription, subscribed

PACE = 1.0


@pytest.fixture
async def subscription(amqp: Broker) -> AsyncIterator[Subscription]:
    """Of the queue `archive`, at a pace of a second."""
    async with subscribed(amqp.url, "archive", "test", asyncio.Event(), Intake(pace=PACE)) as subscription:
        await subscription.consume(4 * FULL)
        yield subscription


async def publish(amqp: Broker, number: int) -> None:
    await asyncio.gather(*(amqp.wire.publish("", "archive", b"{}", {}, "t", 10) for _ in range(number)))


@pytest.mark.parametrize(
    ("took", "least", "waits"),
    [(0.001, 0.005, 0.005), (0.01, 0.005, 0.02), (0.01, 0.025, 0.025), (3.0, 0.005, LONGEST)],
)
def test_a_batch_that_took_long_is_followed_later(took: float, least: float, waits: float) -> None:
    assert next_begin(100.0, 100.0 + took, least) - 100.0 == pytest.approx(waits)


def test_a_worker_at_leisure_works_for_a_lesser_share_of_the_time() -> None:
    assert next_begin(100.0, 100.02, AT_LEISURE.pace, AT_LEISURE.share) == pytest.approx(100.1)
    assert next_begin(100.0, 100.04, AT_LEISURE.pace, AT_LEISURE.share) == pytest.approx(100.2)
    assert next_begin(100.0, 100.04, OURS.pace, OURS.share) == pytest.approx(100.08)


async def test_what_comes_alone_is_taken_at_once_and_what_follows_together(
    amqp: Broker, subscription: Subscription
) -> None:
    await publish(amqp, 1)
    async with asyncio.timeout(PACE / 2):
        assert len(await subscription.take(200)) == 1
    began = time.monotonic()
    taking = asyncio.create_task(subscription.take(200))
    for _ in range(3):
        await publish(amqp, 4)
    assert len(await taking) == 12
    assert time.monotonic() - began < 2 * PACE


async def test_a_large_batch_waits_for_nothing(amqp: Broker, subscription: Subscription) -> None:
    await publish(amqp, 1)
    await subscription.take(200)
    await publish(amqp, FULL)
    # What is delivered is laid down while a batch is in hand.
    assert await eventually(lambda: len(subscription._arrived) == FULL, timeout=PACE / 2)
    async with asyncio.timeout(PACE / 4):
        assert len(await subscription.take(200)) == FULL
