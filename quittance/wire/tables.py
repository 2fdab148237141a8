"""AMQP's field tables: the headers of a message. As pamqp writes and reads them, for a tenth of the CPU.

What is rare goes through pamqp itself. Reading never fails over the bytes of a text: a message that somebody else
published with headers that are no UTF-8 must not end the connection again and again, for all the others.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from struct import Struct
from typing import Any, Final

from pamqp import decode as pamqp_decode
from pamqp import encode as pamqp_encode

_LENGTH: Final = Struct(">I")
_TEXT: Final = Struct(">cI")
_INTEGERS: Final = tuple(
    (lowest, highest, Struct(form))  # the smallest form that holds the number, in this order
    for lowest, highest, form in (
        (-(1 << 7), (1 << 7) - 1, ">cb"),
        (-(1 << 15), (1 << 15) - 1, ">ch"),
        (0, (1 << 16) - 1, ">cH"),
        (-(1 << 31), (1 << 31) - 1, ">ci"),
        (0, (1 << 32) - 1, ">cI"),
        (-(1 << 63), (1 << 63) - 1, ">cq"),
    )
)
_INTEGER_KINDS: Final = (b"b", b"s", b"u", b"I", b"i", b"l")
_NUMBERS: Final = {
    ord(kind): Struct(form)
    for kind, form in {
        "b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">q", "f": ">f", "d": ">d",
    }.items()
}  # fmt: skip

MOST_NESTED: Final = 32
SHORT: Final = 255  # bytes of a name, a routing key, a type


def encode(table: Mapping[str, Any]) -> bytes:
    """A table with its length before it. Raises ValueError or TypeError where it cannot be sent."""
    parts = []
    for name, value in table.items():
        parts.append(short(name))
        kind = type(value)
        if kind is str:
            raw = value.encode()
            parts.extend((_TEXT.pack(b"S", len(raw)), raw))
        elif kind is bool:
            parts.append(b"t\x01" if value else b"t\x00")
        elif kind is int:
            parts.append(_integer(value))
        elif kind is dict:
            parts.extend((b"F", encode(value)))
        else:
            parts.append(pamqp_encode.encode_table_value(value))
    content = b"".join(parts)
    return _LENGTH.pack(len(content)) + content


@lru_cache(maxsize=4096)
def short(text: str) -> bytes:
    """A short text (a name, a key) with its length before it. Raises ValueError over 255 bytes."""
    raw = text.encode()
    if len(raw) > SHORT:
        raise ValueError(f"over {SHORT} bytes: {text[:50]!r}…")
    return bytes((len(raw),)) + raw


def _integer(value: int) -> bytes:
    for kind, (lowest, highest, form) in zip(_INTEGER_KINDS, _INTEGERS, strict=True):
        if lowest <= value <= highest:
            return form.pack(kind, value)
    raise ValueError(f"no integer of AMQP holds {value}")


def decode(data: bytes, start: int, nested: int = 0) -> tuple[dict[str, Any], int]:
    """The table at `start`, and where it ends. Raises ValueError, IndexError or struct.error where it is none."""
    position, end = _bounds(data, start, nested)
    table: dict[str, Any] = {}
    while position < end:
        first = position + 1
        position = first + data[position]
        name = _name(data[first:position])
        kind = data[position]
        if kind == _S:
            first = position + 5
            position = first + _LENGTH.unpack_from(data, first - 4)[0]
            try:
                table[name] = data[first:position].decode()
            except UnicodeDecodeError:
                table[name] = data[first:position]
        elif kind == _T:
            table[name] = data[position + 1] != 0
            position += 2
        else:
            table[name], position = _value(data, position, nested)
    if position != end:
        raise ValueError("a table that does not end where it says")
    return table, end


def end(data: bytes, start: int) -> int:
    """Where the table at `start` ends. Raises ValueError or struct.error where it is longer than what holds it."""
    return _bounds(data, start, 0)[1]


@lru_cache(maxsize=4096)
def _name(raw: bytes) -> str:
    return raw.decode(errors="replace")


def _bounds(data: bytes, start: int, nested: int) -> tuple[int, int]:
    if nested > MOST_NESTED:
        raise ValueError("tables nested too deeply")
    position = start + 4
    end = position + int(_LENGTH.unpack_from(data, start)[0])
    if end > len(data):
        raise ValueError("a table that is longer than its frame")
    return position, end


def _value(data: bytes, position: int, nested: int) -> tuple[Any, int]:
    """The value at `position`, its kind before it, and where it ends."""
    kind = data[position]
    position += 1
    if (number := _NUMBERS.get(kind)) is not None:
        return number.unpack_from(data, position)[0], position + number.size
    if (read := _OTHERS.get(kind)) is None:
        raise ValueError(f"no kind of value: {kind}")
    return read(data, position, nested)


def _boolean(data: bytes, position: int, _nested: int) -> tuple[bool, int]:
    return data[position] != 0, position + 1


def _long_text(data: bytes, position: int, _nested: int) -> tuple[str | bytes, int]:
    first = position + 4
    end = first + _LENGTH.unpack_from(data, position)[0]
    try:
        return data[first:end].decode(), end
    except UnicodeDecodeError:
        return data[first:end], end


def _bytes(data: bytes, position: int, _nested: int) -> tuple[bytearray, int]:
    first = position + 4
    end = first + _LENGTH.unpack_from(data, position)[0]
    return bytearray(data[first:end]), end


def _array(data: bytes, start: int, nested: int) -> tuple[list[Any], int]:
    position, end = _bounds(data, start, nested)
    values = []
    while position < end:
        value, position = _value(data, position, nested + 1)
        values.append(value)
    if position != end:
        raise ValueError("an array that does not end where it says")
    return values, end


def _table(data: bytes, start: int, nested: int) -> tuple[dict[str, Any], int]:
    return decode(data, start, nested + 1)


def _decimal(data: bytes, position: int, _nested: int) -> tuple[Any, int]:
    return pamqp_decode.decimal(data[position : position + 5])[1], position + 5


def _timestamp(data: bytes, position: int, _nested: int) -> tuple[Any, int]:
    """A time; as a number where it lies outside the calendar."""
    raw = data[position : position + 8]
    try:
        return pamqp_decode.timestamp(raw)[1], position + 8
    except (ValueError, OverflowError, OSError):
        return int.from_bytes(raw, "big"), position + 8


def _nothing(_data: bytes, position: int, _nested: int) -> tuple[None, int]:
    return None, position


_S: Final = ord("S")
_T: Final = ord("t")
_OTHERS: Final[dict[int, Callable[[bytes, int, int], tuple[Any, int]]]] = {
    _S: _long_text,
    _T: _boolean,
    ord("x"): _bytes,
    ord("A"): _array,
    ord("F"): _table,
    ord("D"): _decimal,
    ord("T"): _timestamp,
    ord("V"): _nothing,
    0: _nothing,
}
