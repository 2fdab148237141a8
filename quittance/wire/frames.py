"""The frames of the hot path, by hand: publish and its content, ack out; the properties of a message in."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from struct import Struct
from struct import error as struct_error
from typing import Any, Final, NamedTuple

from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from quittance.foreign_properties import UNREADABLE
from quittance.wire import tables

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8
FRAME: Final = Struct(">BHI")  # kind, channel, size of the payload; after the payload comes END
END: Final = 0xCE
END_BYTE: Final = b"\xce"
OVERHEAD: Final = 8  # bytes of a frame beside its payload
HEARTBEAT_FRAME: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"
PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
CHANNEL: Final = 1  # a connection has one

_BASIC: Final = 60
_PUBLISH: Final = Struct(">HHH")
_CONTENT: Final = Struct(">BHIHHQH")
_CONTENT_FIXED: Final = 14  # of its payload: class, weight, size of the body, flags
_ACK: Final = Struct(">BHIHHQBB")
_FLAGS: Final = Struct(">H")

HAS_CONTENT_TYPE: Final = 1 << 15
HAS_CONTENT_ENCODING: Final = 1 << 14
HAS_HEADERS: Final = 1 << 13
HAS_DELIVERY_MODE: Final = 1 << 12
HAS_PRIORITY: Final = 1 << 11
HAS_CORRELATION_ID: Final = 1 << 10
HAS_REPLY_TO: Final = 1 << 9
HAS_EXPIRATION: Final = 1 << 8
HAS_MESSAGE_ID: Final = 1 << 7
HAS_TIMESTAMP: Final = 1 << 6
HAS_TYPE: Final = 1 << 5
HAS_MORE_FLAGS: Final = 1
_ALWAYS: Final = HAS_CONTENT_TYPE | HAS_HEADERS | HAS_DELIVERY_MODE | HAS_MESSAGE_ID | HAS_TYPE
# User, application, cluster: short texts that are only skipped.
_LAST: Final = 1 << 4 | 1 << 3 | 1 << 2


class Properties(NamedTuple):
    """What is read of a message's properties. `type` is None, a text empty, where the message has none."""

    headers: Mapping[str, Any] = {}
    type: str | None = None
    message_id: str = ""
    reply_to: str = ""
    correlation_id: str = ""
    content_type: str = ""
    content_encoding: str = ""


class Delivery(NamedTuple):
    """One handing-over of a message."""

    tag: int
    headers: Mapping[str, Any]
    type: str | None
    body: bytes
    message_id: str = ""
    properties: Properties = Properties()
    routing_key: str = ""
    size: int = 0  # of the body as it came, where it was cut

    @property
    def returned(self) -> int:
        """How often it came back unsettled: a quorum queue says so (x-delivery-count)."""
        count = self.headers.get("x-delivery-count", 0)
        return count if isinstance(count, int) else 0


def ack(tag: int, *, multiple: bool) -> bytes:
    """Basic.Ack."""
    return _ACK.pack(METHOD, CHANNEL, 13, _BASIC, 80, tag, multiple, END)


def publish(  # noqa: PLR0917 - the parts of a message, in the order in which AMQP sends them
    exchange: str,
    routing_key: str,
    headers: Mapping[str, Any],
    message_type: str,
    content_type: str,
    message_id: str,
    body: bytes,
    largest: int,
) -> Sequence[bytes]:
    """A mandatory, persistent publish, in pieces to be written one after the other; no frame is over `largest` bytes.

    Raises ValueError or TypeError where it cannot be sent.
    """
    properties = b"".join(
        (
            tables.short(content_type),
            tables.encode(headers),
            b"\x02",
            tables.short.__wrapped__(message_id),  # each is new: nothing to remember
            tables.short(message_type),
        )
    )
    size = len(body)
    start = _method(exchange, routing_key) + _CONTENT.pack(
        HEADER, CHANNEL, _CONTENT_FIXED + len(properties), _BASIC, 0, size, _ALWAYS
    )
    if _CONTENT_FIXED + len(properties) + OVERHEAD > largest:
        raise ValueError(f"headers of {len(properties)} bytes do not fit into a frame")
    if 0 < size <= largest - OVERHEAD:
        return (start, properties, _BODY_START.pack(END, BODY, CHANNEL, size), body, END_BYTE)
    return (start, properties, END_BYTE, *_cut(body, largest - OVERHEAD))


_BODY_START: Final = Struct(">BBHI")


def _cut(body: bytes, largest: int) -> list[bytes]:
    pieces: list[bytes] = []
    for start in range(0, len(body), largest):
        piece = body[start : start + largest]
        pieces += (FRAME.pack(BODY, CHANNEL, len(piece)), piece, END_BYTE)
    return pieces


@lru_cache(maxsize=4096)
def _method(exchange: str, routing_key: str) -> bytes:
    where = tables.short(exchange) + tables.short(routing_key)
    payload = _PUBLISH.pack(_BASIC, 40, 0) + where + b"\x01"  # mandatory
    return FRAME.pack(METHOD, CHANNEL, len(payload)) + payload + END_BYTE


def short_message(routing_key: str, body: bytes, about: Basic.Properties) -> bytes:
    """A message to a queue, seldom enough to be put together by pamqp; its body fits in one frame."""
    parts = (Basic.Publish(routing_key=routing_key), ContentHeader(0, len(body), about), ContentBody(body))
    return b"".join(marshal(part, CHANNEL) for part in parts)


def properties(data: bytes, position: int) -> Properties:
    """The properties in a content header, whose flags stand at `position`.

    Raises ValueError, IndexError or struct.error where they are none.
    """
    (flags,) = _FLAGS.unpack_from(data, position)
    if flags & HAS_MORE_FLAGS:
        raise ValueError("more flags than there are properties")
    position += 2
    content_type, position = _word_if(flags & HAS_CONTENT_TYPE, data, position)
    content_encoding, position = _word_if(flags & HAS_CONTENT_ENCODING, data, position)
    headers: Mapping[str, Any] = {}
    if flags & HAS_HEADERS:
        headers, position = _headers(data, position)
    position += bool(flags & HAS_DELIVERY_MODE) + bool(flags & HAS_PRIORITY)
    correlation_id = reply_to = ""
    if flags & (HAS_CORRELATION_ID | HAS_REPLY_TO | HAS_EXPIRATION):
        correlation_id, position = _short_if(flags & HAS_CORRELATION_ID, data, position)
        reply_to, position = _short_if(flags & HAS_REPLY_TO, data, position)
        _, position = _short_if(flags & HAS_EXPIRATION, data, position)
    message_id, position = _short_if(flags & HAS_MESSAGE_ID, data, position)
    position += 8 * bool(flags & HAS_TIMESTAMP)
    message_type, position = _short_if(flags & HAS_TYPE, data, position)
    if flags & _LAST:
        position = _after_last(flags, data, position)
    if position != len(data):
        raise ValueError("properties that do not end where they say")
    return Properties(
        headers, message_type or None, message_id, reply_to, correlation_id, content_type, content_encoding
    )


def _headers(data: bytes, position: int) -> tuple[Mapping[str, Any], int]:
    """The table at `position`; one that cannot be read is passed over as a whole, as foreign_properties does for pamqp."""
    try:
        return tables.decode(data, position)
    except (ValueError, IndexError, struct_error, OverflowError):
        end = tables.end(data, position)
        return {UNREADABLE: True}, end


def _after_last(flags: int, data: bytes, position: int) -> int:
    for flag in (1 << 4, 1 << 3, 1 << 2):
        if flags & flag:
            position += 1 + data[position]
    return position


def _word_if(there: int, data: bytes, position: int) -> tuple[str, int]:
    """As _short_if, for what is nearly always the same."""
    if not there:
        return "", position
    end = position + 1 + data[position]
    return word(data[position + 1 : end]), end


@lru_cache(maxsize=1024)
def word(raw: bytes) -> str:
    """A short text that comes again and again: a routing key, a content type."""
    return raw.decode(errors="replace")


def _short_if(there: int, data: bytes, position: int) -> tuple[str, int]:
    if not there:
        return "", position
    first = position + 1
    end = first + data[position]
    return str(data[first:end], "utf-8", "replace"), end
