"""Frames and tables beside pamqp's: the same bytes out, the same values in."""

import math
import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import decode as pamqp_decode
from pamqp import encode as pamqp_encode
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from quittance.wire import frames, tables

NAMES = st.text(st.characters(codec="utf-8"), min_size=0, max_size=30)
SHORTS = st.text(st.characters(codec="utf-8"), max_size=60)
LEAVES = (
    st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.text(st.characters(codec="utf-8"))
    | st.none()
    | st.floats(width=32, allow_nan=False)
    | st.decimals(0, 10**6, places=2)
    | st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
    | st.binary().map(bytearray)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=20
)


def in_order(value: Any) -> Any:
    """pamqp writes a table's names in order, we in that of the table."""
    if isinstance(value, dict):
        return {name: in_order(value[name]) for name in sorted(value)}
    return [in_order(one) for one in value] if isinstance(value, list) else value


TABLES = st.dictionaries(NAMES, VALUES, max_size=8).map(in_order)


@given(TABLES)
def test_a_table_is_written_as_pamqp_writes_it(table: dict[str, Any]) -> None:
    assert tables.encode(table) == pamqp_encode.field_table(table)


@given(TABLES)
def test_a_table_is_read_as_pamqp_reads_it(table: dict[str, Any]) -> None:
    raw = pamqp_encode.field_table(table)
    assert tables.decode(b"__" + raw + b"..", 2) == (pamqp_decode.field_table(raw)[1], 2 + len(raw))


KINDS = {
    b"t": b"\x01", b"b": b"\xff", b"B": b"\xff", b"s": b"\xff\xfe", b"u": b"\xff\xfe", b"I": b"\xff" * 4,
    b"i": b"\xff" * 4, b"l": b"\xff" * 8, b"L": b"\x7f" * 8, b"f": struct.pack(">f", 1.5), b"d": struct.pack(">d", 0.1),
    b"D": b"\x02\x00\x00\x01\x00", b"S": b"\x00\x00\x00\x02hi", b"A": b"\x00\x00\x00\x03t\x01V",
    b"T": b"\x00\x00\x00\x00\x6a\x00\x00\x00", b"F": b"\x00\x00\x00\x04\x01at\x01", b"V": b"", b"\x00": b"",
    b"x": b"\x00\x00\x00\x02\xff\xfe",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_value_is_read_as_pamqp_reads_it(kind: bytes) -> None:
    content = b"\x01k" + kind + KINDS[kind]
    raw = struct.pack(">I", len(content)) + content
    table, end = tables.decode(raw, 0)
    assert (end, table) == pamqp_decode.field_table(raw)
    assert type(table["k"]) is type(pamqp_decode.field_table(raw)[1]["k"])


def test_pamqp_knows_no_kind_of_value_that_we_do_not() -> None:
    assert set(KINDS) == set(pamqp_decode.TABLE_MAPPING)


def test_what_others_put_into_a_text_or_a_time_ends_no_connection() -> None:
    """A message that cannot be read would come again, and end the connection again, for ever."""
    content = b"\x01\xffS\x00\x00\x00\x01\xff" + b"\x01tT" + b"\xff" * 8
    table, _ = tables.decode(struct.pack(">I", len(content)) + content, 0)
    assert table == {"\ufffd": b"\xff", "t": (1 << 64) - 1}


@given(
    st.tuples(st.text("aZ0-_.:"), SHORTS, SHORTS.filter(bool), SHORTS.filter(bool)),
    TABLES,
    st.binary(max_size=300),
    st.integers(1, 64),
)
def test_a_publish_is_what_pamqp_makes_of_it(
    texts: tuple[str, str, str, str], headers: dict[str, Any], body: bytes, chunk: int
) -> None:
    exchange, key, message_type, content_type = texts
    largest = 1 << 20 if chunk == 64 else max(chunk + 8, len(tables.encode(headers)) + 1000)
    about = Basic.Properties(
        content_type=content_type, headers=headers, delivery_mode=2, message_id="0" * 32, message_type=message_type
    )
    wanted = pamqp.frame.marshal(Basic.Publish(exchange=exchange, routing_key=key, mandatory=True), 1)
    wanted += pamqp.frame.marshal(ContentHeader(0, len(body), about), 1)
    step = largest - 8
    for start in range(0, len(body), step):
        wanted += pamqp.frame.marshal(ContentBody(body[start : start + step]), 1)
    made = b"".join(frames.publish(exchange, key, headers, message_type, content_type, "0" * 32, body, largest))
    assert made == wanted


@given(st.integers(0, (1 << 63) - 1), st.booleans())
def test_an_ack_is_what_pamqp_makes_of_it(tag: int, multiple: bool) -> None:
    assert frames.ack(tag, multiple=multiple) == pamqp.frame.marshal(Basic.Ack(tag, multiple), 1)


@given(st.integers(0, 1000), st.integers(20, 60))
def test_a_body_is_cut_where_frames_end(size: int, largest: int) -> None:
    pieces = frames._cut(b"x" * size, largest)
    assert len(pieces) == 3 * math.ceil(size / largest)
    assert all(len(piece) <= largest for piece in pieces)


OPTIONAL = st.none() | SHORTS.filter(bool)


@given(
    st.fixed_dictionaries(
        {
            "content_type": OPTIONAL, "content_encoding": OPTIONAL, "headers": st.none() | TABLES,
            "delivery_mode": st.sampled_from([None, 1, 2]), "priority": st.none() | st.integers(0, 9),
            "correlation_id": OPTIONAL, "reply_to": OPTIONAL, "expiration": OPTIONAL, "message_id": OPTIONAL,
            "timestamp": st.sampled_from([None, datetime(2026, 1, 1, tzinfo=UTC)]), "message_type": OPTIONAL,
            "user_id": OPTIONAL, "app_id": OPTIONAL,
        }
    )
)  # fmt: skip
def test_properties_are_read_as_pamqp_wrote_them(given_: dict[str, Any]) -> None:
    raw = ContentHeader(0, 5, Basic.Properties(**given_)).marshal()
    read = frames.properties(raw, 12)
    headers = given_["headers"]
    assert read.headers == (pamqp_decode.field_table(pamqp_encode.field_table(headers))[1] if headers else {})
    assert read.type == given_["message_type"]
    assert (read.message_id, read.reply_to, read.correlation_id) == tuple(
        given_[name] or "" for name in ("message_id", "reply_to", "correlation_id")
    )


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1, object(), Decimal("NaN")])
def test_what_no_table_holds_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        tables.encode({"a": value})


def test_what_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="255 bytes"):
        frames.publish("", "k" * 256, {}, "t", "c", "0" * 32, b"", 4096)
    with pytest.raises(ValueError, match="do not fit"):
        frames.publish("", "k", {"a": "x" * 5000}, "t", "c", "0" * 32, b"", 4096)
