"""Bytes from the broker, cut into frames and made into what they say; knows no socket, and never waits.

Whatever comes, it either is AMQP or raises Malformed: it holds no more than one frame and one message, whose sizes are
bounded, and each byte is looked at once however the bytes were cut.
"""

from struct import Struct
from typing import Final, Protocol

import pamqp.frame
from pamqp.base import Frame

from quittance.wire import frames
from quittance.wire.frames import BODY, CHANNEL, END, FRAME, HEADER, HEARTBEAT, METHOD, Delivery, Properties

FIRST_FRAME_MAX: Final = 131_072  # until another one is agreed on, which is never greater
LARGEST_BODY: Final = 128 << 20  # what any broker takes

_CODE: Final = Struct(">I")
_TAG: Final = Struct(">Q")
_ABOUT: Final = Struct(">IQB")
_CONTENT: Final = Struct(">HHQ")
_DELIVER: Final = 60 << 16 | 60
_RETURN: Final = 60 << 16 | 50
_ACK: Final = 60 << 16 | 80
_NACK: Final = 60 << 16 | 120
_ACK_SIZE: Final = 13
_NO_TAG: Final = -1  # of a message that came back instead of being delivered


class Malformed(Exception):
    """It is no AMQP, or none that a broker would send here."""


class Receiver(Protocol):
    """Who is told. What these raise comes out of `feed` as Malformed: nothing of it may be expected to happen."""

    def on_method(self, channel: int, method: Frame) -> None:
        """Every method but those below."""

    def on_delivery(self, delivery: Delivery) -> None: ...
    def on_return(self, message_id: str) -> None:
        """A publish with this id reached no queue; its ack is still to come."""

    def on_confirm(self, tag: int, *, multiple: bool, taken: bool) -> None: ...


class Parser:
    """`feed` it what the socket brings."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.frame_max = FIRST_FRAME_MAX
        self._held: list[bytes] = []  # the beginning of a frame
        self._missing = 0  # bytes until it may be whole
        self._tag: int | None = None  # of the message that is coming
        self._key = b""  # its routing key
        self._properties: Properties | None = None
        self._left = 0  # bytes of its body
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Raises Malformed, after which nothing more may be fed."""
        if self._held:
            self._held.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._held)
            self._held.clear()
        try:
            position = self._frames(data)
        except Malformed:
            raise
        except Exception as error:  # bytes that are no AMQP are misread in any of a dozen ways
            raise Malformed(f"{type(error).__name__}: {error}") from error
        if position < len(data):
            self._held.append(data[position:])

    def _frames(self, data: bytes) -> int:
        """Go through all frames that are whole; where the rest begins."""
        position, end = 0, len(data)
        while end - position >= frames.OVERHEAD:
            kind, channel, size = FRAME.unpack_from(data, position)
            stop = position + 7 + size
            if size + frames.OVERHEAD > self.frame_max or not METHOD <= kind <= HEARTBEAT:
                raise Malformed(f"a frame of kind {kind} and {size} bytes")
            if stop >= end:
                self._missing = stop + 1 - end
                return position
            if data[stop] != END:
                raise Malformed("a frame that does not end where it says")
            self._frame(kind, channel, data[position + 7 : stop])
            position = stop + 1
        self._missing = frames.OVERHEAD - (end - position)
        return position

    def _frame(self, kind: int, channel: int, payload: bytes) -> None:
        if kind == METHOD:
            if channel == CHANNEL:
                self._on_method(payload)
            else:
                self._on_rare(channel, payload)
        elif kind == HEARTBEAT:
            if channel or payload:
                raise Malformed("a heartbeat that says something")
        elif channel != CHANNEL:
            raise Malformed(f"content on channel {channel}")
        elif kind == HEADER:
            self._on_header(payload)
        elif kind == BODY:
            self._on_body(payload)
        else:
            raise Malformed(f"a frame of kind {kind}")

    def _on_method(self, payload: bytes) -> None:
        if self._tag is not None:
            raise Malformed("a method in the middle of a message")
        (code,) = _CODE.unpack_from(payload)
        if code == _DELIVER:
            at = 5 + payload[4]
            tag = _TAG.unpack_from(payload, at)[0]
            at += 10 + payload[at + 9]
            if at + 1 + payload[at] != len(payload):
                raise Malformed("a delivery that does not end where it says")
            self._tag, self._key = tag, payload[at + 1 :]
        elif code in {_ACK, _NACK}:
            _, tag, flags = _ABOUT.unpack_from(payload)
            if len(payload) != _ACK_SIZE:
                raise Malformed("a confirm that does not end where it says")
            self._receiver.on_confirm(tag, multiple=flags & 1 == 1, taken=code == _ACK)
        elif code == _RETURN:
            self._tag = _NO_TAG
        else:
            self._on_rare(CHANNEL, payload)

    def _on_rare(self, channel: int, payload: bytes) -> None:
        if channel > CHANNEL:
            raise Malformed(f"a method on channel {channel}")
        whole = FRAME.pack(METHOD, channel, len(payload)) + payload + frames.END_BYTE
        method = pamqp.frame.unmarshal(whole)[2]
        if not isinstance(method, Frame):
            raise Malformed("not a method")
        self._receiver.on_method(channel, method)

    def _on_header(self, payload: bytes) -> None:
        if self._tag is None or self._properties is not None:
            raise Malformed("a content header that nothing asked for")
        of_class, weight, size = _CONTENT.unpack_from(payload)
        if of_class != 60 or weight or size > LARGEST_BODY:
            raise Malformed(f"content of class {of_class} and {size} bytes")
        self._properties = frames.properties(payload, _CONTENT.size)
        self._left = size
        if not size:
            self._finish(self._properties, b"")

    def _on_body(self, payload: bytes) -> None:
        if self._properties is None or not 0 < len(payload) <= self._left:
            raise Malformed("a body that nothing asked for")
        self._left -= len(payload)
        if self._left:
            self._pieces.append(payload)
        elif self._pieces:
            body = b"".join((*self._pieces, payload))
            self._pieces.clear()
            self._finish(self._properties, body)
        else:
            self._finish(self._properties, payload)

    def _finish(self, about: Properties, body: bytes) -> None:
        tag, self._tag, self._properties = self._tag, None, None
        if tag == _NO_TAG:
            self._receiver.on_return(about.message_id)
        elif tag is not None:
            delivery = Delivery(
                tag, about.headers, about.type, body, about.message_id, about, frames.word(self._key), len(body)
            )
            self._receiver.on_delivery(delivery)
