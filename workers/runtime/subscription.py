"""Deliveries from one queue: all that the consumer loop knows of AMQP.

aiormq runs a task for each delivery, and cancels it when the connection is lost: in the middle of a transaction, if the
work were done there. So the callback only lays the delivery down; the consumer's own task picks it up.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.commands import Basic

from quittance import broker
from quittance.broker import CALL_TIMEOUT, BrokerAway, calling
from workers.runtime import probes

# On a busy queue (the last batch held BUSY or more) a batch waits for its neighbours, unless it is FULL already: small
# transactions would take the processor from whoever brings more. A lone event is never held back.
LINGER: Final = 0.015
BUSY: Final = 5
FULL: Final = 100


class Delivery(NamedTuple):
    """One handing-over of a message."""

    tag: int
    headers: Mapping[str, Any]
    type: str | None
    body: bytes
    message_id: str
    returned: int  # how often it came back unsettled (x-delivery-count)
    routing_key: str = ""
    properties: Basic.Properties | None = None  # only of a queue with a `longest`, to which others publish
    size: int = 0  # of the body as it came, where it was cut


class Subscription:
    """A running consumer. `take` and `ack` raise BrokerAway once the channel is lost; all else is then redelivered.

    `prepare` makes deliveries, one for one, what the rest of the runtime reads. `longest`: bodies are cut there, so that
    what others send cannot fill the memory. `in_order`: it stays the queue's consumer until its last batch is settled.
    """

    def __init__(
        self, channel: AbstractChannel, queue: str, *, longest: int | None = None, in_order: bool = False
    ) -> None:
        self.prepare: Callable[[Sequence[Delivery]], Awaitable[list[Delivery]]] | None = None
        self._channel = channel
        self._queue = queue
        self._longest = longest
        self._in_order = in_order
        self._tag: str | None = None
        self._arrived: deque[Delivery] = deque()
        self._wake = asyncio.Event()
        self._lost = False
        self._stopped = False
        self._busy = False
        channel.closing.add_done_callback(self._on_closing)
        channel.on_consumer_cancel_callbacks.add(self._on_closing)

    async def consume(self, prefetch: int) -> None:
        """Begin to take deliveries, at most `prefetch` of them unsettled; again to change that number. Not once stopped."""
        if self._stopped:
            return
        async with _calling():
            if self._tag is not None:
                await self._channel.basic_cancel(self._tag)
            await self._channel.basic_qos(prefetch_count=prefetch)
            # The answer carries the tag, and may come after the first deliveries.
            answer = await self._channel.basic_consume(self._queue, self._deliver)
            self._tag = answer.consumer_tag

    async def take(self, limit: int, within: float | None = None) -> list[Delivery]:
        """What has arrived, up to `limit`, in order; waits for the first one, and never for more unless busy.

        Empty when stopped, or when nothing came `within` seconds.
        """
        try:
            async with asyncio.timeout(within):
                while not self._arrived and not self._stopped:
                    self._check()
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            return []
        if self._busy and len(self._arrived) < FULL and not self._stopped:
            await asyncio.sleep(LINGER)
        self._check()
        if self._stopped:
            return []
        batch = [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]
        self._busy = len(batch) >= BUSY
        return batch if self.prepare is None else await self.prepare(batch)

    async def ack(self, tag: int, *, multiple: bool) -> None:
        """Settle `tag`; with `multiple`, every lower tag too."""
        self._check()
        async with _calling():
            await self._channel.basic_ack(tag, multiple=multiple, wait=False)

    async def stop(self) -> None:
        """Take no more: `take` answers at once, with nothing; what has arrived stays unsettled, for others."""
        self._stopped = True
        self._wake.set()
        # Cancelled, another process would begin with what comes next while this one settles what came before.
        if self._tag is not None and not self._lost and not self._in_order:
            async with _calling():
                await self._channel.basic_cancel(self._tag)

    async def flush(self) -> None:
        """Wait until the broker has read what was sent, acks included: it answers calls of a channel in order."""
        async with _calling():
            await self._channel.basic_qos(prefetch_count=1)

    @property
    def stopped(self) -> bool:
        """Whether nothing new may be begun."""
        return self._stopped

    @property
    def lost(self) -> bool:
        """Whether the channel, or the broker's side of the consumer, is gone."""
        return self._lost

    def _check(self) -> None:
        if self._lost:
            raise BrokerAway("the channel was lost")

    async def _deliver(self, message: DeliveredMessage) -> None:
        about = message.header.properties
        headers: Mapping[str, Any] = about.headers or {}
        if probes.PROBE in headers and not message.body:
            await probes.answer(self._channel, self._queue, message)
            return
        self._arrived.append(
            Delivery(
                message.delivery_tag or 0,
                headers,
                about.message_type,
                message.body if self._longest is None else message.body[: self._longest],
                about.message_id or "",
                returned(headers),
                message.routing_key or "",
                None if self._longest is None else about,
                len(message.body),
            )
        )
        self._wake.set()

    def _on_closing(self, _reason: object) -> None:
        self._lost = True
        self._wake.set()


def returned(headers: Mapping[str, Any]) -> int:
    """How often a quorum queue has had the message back; 0 where it does not say."""
    count = headers.get("x-delivery-count", 0)
    return count if isinstance(count, int) else 0


@asynccontextmanager
async def _calling() -> AsyncIterator[None]:
    """As broker.calling; a queue that is gone, and a channel that the broker closed, are no reason to give up either."""
    try:
        async with calling(CALL_TIMEOUT):
            yield
    except (ChannelNotFoundEntity, ChannelPreconditionFailed) as error:
        raise BrokerAway(f"{type(error).__name__}: {error}") from error


@asynccontextmanager
async def subscribed(  # noqa: PLR0917
    url: str,
    queue: str,
    name: str,
    stopping: asyncio.Event,
    longest: int | None = None,
    in_order: bool = False,
) -> AsyncIterator[Subscription]:
    """A subscription on a connection of its own, not consuming yet, stopped when `stopping` is set. Raises BrokerAway.

    Apart from what publishes: a broker that blocks publishers (an alarm) goes on feeding consumers.
    """
    async with broker.connected(url, name) as connection:
        channel = await broker.open_channel(connection, confirms=False)
        subscription = Subscription(channel, queue, longest=longest, in_order=in_order)
        stopper = asyncio.create_task(_stop(subscription, stopping))
        try:
            yield subscription
        finally:
            stopper.cancel()


async def _stop(subscription: Subscription, stopping: asyncio.Event) -> None:
    await stopping.wait()
    with suppress(BrokerAway):
        await subscription.stop()
