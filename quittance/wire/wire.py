"""One connection with one channel. See quittance/wire/__init__.py for what may be relied on."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar, cast

from pamqp.base import Frame
from pamqp.commands import Basic, Channel, Connection
from pamqp.frame import marshal

from quittance.broker import CALL_TIMEOUT, BrokerAway, ClosedByBroker, NotInTime
from quittance.wire import frames
from quittance.wire.confirms import Confirms
from quittance.wire.frames import CHANNEL, Delivery
from quittance.wire.heart import Heart
from quittance.wire.parser import FIRST_FRAME_MAX, Malformed, Parser

F = TypeVar("F", bound=Frame)

CLOSE_TIMEOUT: Final = 3.0
# So many bytes may wait to be sent before `publish` waits too.
MOST_UNSENT: Final = 1 << 20


class Wire(asyncio.Protocol):
    """To be had from quittance.wire.connect. Every method that waits raises BrokerAway when the broker is lost."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.lost: asyncio.Future[str] = loop.create_future()  # done, with the reason, when it is of no more use
        self.blocked = False  # whether the broker has told us to stop publishing (an alarm)
        self.confirming = False
        self._transport: asyncio.Transport | None = None
        self._ended: asyncio.Future[None] = loop.create_future()  # the connection itself is gone
        self._parser = Parser(self)
        self._confirms = Confirms(loop)
        self._error: Callable[[], BrokerAway] = partial(BrokerAway, "not connected")
        self._answers: deque[tuple[type[Frame], asyncio.Future[Any]]] = deque()  # awaited, in order
        self._deliver: Callable[[Delivery], None] | None = None
        self._unsent: list[bytes] = []
        self._flushing = False
        self._room: asyncio.Future[None] | None = None  # there while nothing more should be written
        self._frame_max = FIRST_FRAME_MAX
        self._heart = Heart(
            loop, lambda: self._write(frames.HEARTBEAT_FRAME), lambda: self.abort("the broker fell silent")
        )

    # What others use --------------------------------------------------------------------------------------------------

    async def publish(  # noqa: PLR0917 - the parts of a message, in the order in which AMQP sends them
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        headers: Mapping[str, Any],
        message_type: str,
        timeout: float,  # noqa: ASYNC109 - kept by one timer for all
    ) -> None:
        """Publish JSON and wait until a majority of each queue's nodes has stored it.

        Raises NotTaken (Unroutable) where the broker refused it, BrokerAway (NotInTime) where it is not known whether
        it was stored.
        """
        if self._room is not None:
            try:
                async with asyncio.timeout(timeout):
                    while self._room is not None:
                        await asyncio.shield(self._room)
            except TimeoutError:
                raise NotInTime("the broker does not read") from None
        await self.send(exchange, routing_key, body, headers, message_type, timeout)

    def send(  # noqa: PLR0917
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        headers: Mapping[str, Any],
        message_type: str,
        timeout: float,
        content_type: str = "application/json",
    ) -> "asyncio.Future[None]":
        """As publish, at once, for some hundred messages whose futures are awaited together."""
        if not self.confirming:
            raise RuntimeError("a wire without confirms")
        message_id, future = self._confirms.add(timeout)
        if self.lost.done():
            self._confirms.fail(self._error)
            return future
        try:
            pieces = frames.publish(
                exchange, routing_key, headers, message_type, content_type, message_id, body, self._frame_max
            )
        except BaseException:
            self._confirms.take_back()
            raise
        self._unsent += pieces
        if not self._flushing:
            self._flush_soon()
        return future

    def post(self, routing_key: str, body: bytes, properties: Basic.Properties) -> None:
        """Send a short message to a queue, and do not ask what becomes of it."""
        if self.confirming:
            raise RuntimeError("a wire with confirms counts its messages")
        self._write(frames.short_message(routing_key, body, properties))

    async def prefetch(self, count: int) -> None:
        """How many deliveries may be unsettled. Its answer comes after all that was sent before has been read."""
        await self.call(Basic.Qos(prefetch_count=count), Basic.QosOk)

    async def consume(self, queue: str, deliver: Callable[[Delivery], None]) -> str:
        """Have `deliver` called with each message, as it comes off the socket; returns the consumer's tag."""
        self._deliver = deliver  # the first may come together with the answer
        return (await self.call(Basic.Consume(queue=queue), Basic.ConsumeOk)).consumer_tag or ""

    async def rest(self, seconds: float) -> None:
        """Read nothing for so long (a part of a heartbeat), then all that has come: one wake-up for it instead of many."""
        if self._transport is None:
            return
        self._transport.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._transport.resume_reading()
        for _ in range(2):  # turns of the event loop, which looks at its sockets between them
            await asyncio.sleep(0)

    async def cancel(self, consumer: str) -> None:
        """End a consumer; what it was given stays unsettled."""
        await self.call(Basic.Cancel(consumer_tag=consumer), Basic.CancelOk)

    def ack(self, tag: int, *, multiple: bool) -> None:
        """Settle a delivery; with `multiple`, all before it too. Raises BrokerAway."""
        if self.lost.done():
            raise self._error()
        self._write(frames.ack(tag, multiple=multiple))

    async def call(self, method: Frame, answer: type[F]) -> F:
        """Send any method of the channel, and wait for its answer. Raises BrokerAway, ClosedByBroker where refused."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                return await self.ask(marshal(method, CHANNEL), answer)
        except TimeoutError:
            raise NotInTime(f"no answer to {method.name} within {CALL_TIMEOUT:g} s") from None

    async def close(self) -> None:
        """Say goodbye, or do without within seconds."""
        self._lose(partial(BrokerAway, "closed"))
        transport = self._transport
        if transport is None or self._ended.done():
            return
        try:
            self._unsent.append(marshal(Connection.Close(200, "", 0, 0), 0))
            self._flush()
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await asyncio.shield(self._ended)
        except TimeoutError:
            pass
        finally:
            transport.abort()

    # For the handshake --------------------------------------------------------------------------------------------

    async def ask(self, data: bytes, answer: type[F]) -> F:
        """Send bytes, and wait for a method. The broker answers in order, so one given up is still waited for here."""
        if self.lost.done():
            raise self._error()
        future: asyncio.Future[Frame] = self._loop.create_future()
        self._answers.append((answer, future))
        self._write(data)
        return cast("F", await future)

    def tuned(self, frame_max: int, heartbeat: int) -> None:
        """What was agreed on."""
        self._frame_max = self._parser.frame_max = frame_max
        self._heart.start(heartbeat)

    def abort(self, reason: str) -> None:
        """End without a goodbye."""
        self._lose(partial(BrokerAway, reason))
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=MOST_UNSENT)

    def data_received(self, data: bytes) -> None:
        self._heart.heard = True
        try:
            self._parser.feed(data)
        except Malformed as error:
            self.abort(f"the broker sent what is no AMQP: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self._lose(partial(BrokerAway, f"the connection was lost{f': {error}' if error else ''}"))
        if not self._ended.done():
            self._ended.set_result(None)
        if self._room is not None:
            self.resume_writing()

    def pause_writing(self) -> None:
        if self._room is None:
            self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)
        self._flush()

    # What the parser calls ------------------------------------------------------------------------------------------

    def on_delivery(self, delivery: Delivery) -> None:
        if self._deliver is None:
            raise ValueError("a delivery that nobody asked for")
        if not self.lost.done():
            self._deliver(delivery)

    def on_return(self, message_id: str) -> None:
        if not self.lost.done():
            self._confirms.returned(message_id)

    def on_confirm(self, tag: int, *, multiple: bool, taken: bool) -> None:
        if not self.lost.done():
            self._confirms.settle(tag, multiple=multiple, taken=taken)

    def on_method(self, channel: int, method: Frame) -> None:
        match method:
            case Connection.Blocked() | Connection.Unblocked():
                self.blocked = isinstance(method, Connection.Blocked)
            case Connection.Close() | Channel.Close():
                code, said = method.reply_code or 0, f"{method.reply_code} {method.reply_text}"
                self._lose(partial(ClosedByBroker, said, code))
                self._last_word(Channel.CloseOk() if channel else Connection.CloseOk(), channel)
            case Connection.CloseOk() if self._transport is not None:
                self._transport.abort()
            case Basic.Cancel():
                self._lose(partial(BrokerAway, "the consumer was cancelled: its queue is gone, or has no leader"))
            case Channel.Flow():
                self._write(marshal(Channel.FlowOk(method.active), channel))
            case _ if not self.lost.done():
                self._answered(method)

    def _answered(self, method: Frame) -> None:
        if not self._answers or not isinstance(method, self._answers[0][0]):
            raise ValueError(f"{method.name}, which nobody asked for")
        _, future = self._answers.popleft()
        if not future.done():
            future.set_result(method)

    # Ends, and writes -----------------------------------------------------------------------------------------------

    def _lose(self, error: Callable[[], BrokerAway]) -> None:
        """Whoever waits is told at once, the first reason. The connection may still be there to be closed."""
        if self.lost.done():
            return
        self._error = error
        self.lost.set_result(str(error()))
        self._heart.stop()
        self._confirms.fail(error)
        for _, future in self._answers:
            if not future.done():
                future.set_exception(error())
        self._answers.clear()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
            self._room = None

    def _last_word(self, method: Frame, channel: int) -> None:
        self._unsent.append(marshal(method, channel))
        self._flush()
        if not channel and self._transport is not None:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        self._unsent.append(data)
        if not self._flushing:
            self._flush_soon()

    def _flush_soon(self) -> None:
        """All that is said in one turn of the event loop goes out in one piece."""
        self._flushing = True
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._room is not None or self._transport is None or not self._unsent:
            return
        data = b"".join(self._unsent)
        self._unsent.clear()
        self._heart.spoke = True
        if not self._transport.is_closing():
            self._transport.write(data)
