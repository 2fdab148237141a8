"""Deliveries from one queue: all that the consumer loop knows of AMQP.

A delivery is laid down as it comes off the socket; the consumer's own task picks it up. So a connection that is lost
never ends a transaction in the middle.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from quittance import wire
from quittance.broker import BrokerAway
from quittance.wire import Delivery, Wire
from workers.runtime import probes
from workers.runtime.intake import Intake
from workers.runtime.pace import next_begin

# So many are a batch worth its transaction, whatever the pace.
FULL: Final = 200


class Subscription:
    """A running consumer. `take` and `ack` raise BrokerAway once the channel is lost; all else is then redelivered.

    `prepare` makes deliveries, one for one, what the rest of the runtime reads. `intake`: bodies are cut at its `longest`, so
    that what others send cannot fill the memory. `in_order`: it stays the queue's consumer until its last batch is settled.
    """

    def __init__(self, channel: Wire, queue: str, intake: Intake, *, in_order: bool = False) -> None:
        self.prepare: Callable[[Sequence[Delivery]], Awaitable[list[Delivery]]] | None = None
        self._channel = channel
        self._queue = queue
        self._intake = intake
        self._taken_at = 0.0  # monotonic
        self._in_order = in_order
        self._tag: str | None = None
        self._arrived: deque[Delivery] = deque()
        self._wake = asyncio.Event()
        self._stopped = False
        # The broker may answer a cancel after what was asked later: one at a time.
        self._ending = asyncio.Lock()
        channel.lost.add_done_callback(lambda _reason: self._wake.set())

    async def consume(self, prefetch: int) -> None:
        """Begin to take deliveries, at most `prefetch` of them unsettled; again to change that number. Not once stopped."""
        if self._stopped:
            return
        if self._tag is not None:
            await self._channel.cancel(self._tag)
        await self._channel.prefetch(prefetch)
        self._tag = await self._channel.consume(self._queue, self._deliver)

    async def take(self, limit: int, within: float | None = None) -> list[Delivery]:
        """What has arrived, up to `limit`, in order; waits for the first one, and for more only as the pace asks.

        Empty when stopped, or when nothing came `within` seconds.
        """
        begin = next_begin(self._taken_at, time.monotonic(), self._intake.pace, self._intake.share)
        if not await self._arrival(within):
            return []
        if (early := begin - time.monotonic()) > 0 and len(self._arrived) < min(FULL, limit):
            await self._channel.rest(early)
        self._check()
        if self._stopped:
            return []
        batch = [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]
        self._taken_at = time.monotonic()
        return batch if self.prepare is None else await self.prepare(batch)

    async def _arrival(self, within: float | None) -> bool:
        """Wait until something has arrived; whether it has `within` seconds, and before it is stopped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not self._arrived and not self._stopped:
                    self._check()
                    self._wake.clear()
                    await self._wake.wait()
        return bool(self._arrived) and not self._stopped

    async def ack(self, tag: int, *, multiple: bool) -> None:
        """Settle `tag`; with `multiple`, every lower tag too."""
        self._channel.ack(tag, multiple=multiple)

    async def stop(self) -> None:
        """Take no more: `take` answers with nothing, at once or after its rest; what has arrived stays unsettled, for others."""
        self._stopped = True
        self._wake.set()
        # Cancelled, another process would begin with what comes next while this one settles what came before.
        if self._tag is not None and not self.lost and not self._in_order:
            async with self._ending:
                await self._channel.cancel(self._tag)

    async def flush(self) -> None:
        """Wait until the broker has read what was sent, acks included: it answers calls of a channel in order."""
        async with self._ending:
            await self._channel.prefetch(1)

    @property
    def stopped(self) -> bool:
        """Whether nothing new may be begun."""
        return self._stopped

    @property
    def lost(self) -> bool:
        """Whether the channel, or the broker's side of the consumer, is gone."""
        return self._channel.lost.done()

    def _check(self) -> None:
        if self._channel.lost.done():
            raise BrokerAway(self._channel.lost.result())

    def _deliver(self, delivery: Delivery) -> None:
        if probes.PROBE in delivery.headers and not delivery.body:
            probes.answer(self._channel, self._queue, delivery)
            return
        if self._intake.longest is not None:
            delivery = delivery._replace(body=delivery.body[: self._intake.longest])
        self._arrived.append(delivery)
        self._wake.set()


@asynccontextmanager
async def subscribed(  # noqa: PLR0917
    url: str,
    queue: str,
    name: str,
    stopping: asyncio.Event,
    intake: Intake,
    in_order: bool = False,
) -> AsyncIterator[Subscription]:
    """A subscription on a connection of its own, not consuming yet, stopped when `stopping` is set. Raises BrokerAway.

    Apart from what publishes: a broker that blocks publishers (an alarm) goes on feeding consumers.
    """
    async with wire.connected(url, name, confirms=False) as channel:
        subscription = Subscription(channel, queue, intake, in_order=in_order)
        stopper = asyncio.create_task(_stop(subscription, stopping))
        try:
            yield subscription
        finally:
            stopper.cancel()


async def _stop(subscription: Subscription, stopping: asyncio.Event) -> None:
    await stopping.wait()
    with suppress(BrokerAway):
        await subscription.stop()
