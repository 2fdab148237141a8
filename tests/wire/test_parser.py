"""The parser fed with what a broker sends, cut anywhere, and with what none would: it reads it, or says Malformed."""

import time
from typing import Any

import pamqp.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic, Connection
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from quittance.broker import BrokerAway
from quittance.foreign_properties import UNREADABLE
from quittance.wire.frames import Delivery, Properties
from quittance.wire.parser import Malformed, Parser
from tests.wire.conftest import wired


class Seen:
    """What a parser told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_method(self, channel: int, method: Frame) -> None:
        self.told.append((channel, method.name))

    def on_delivery(self, delivery: Delivery) -> None:
        self.told.append(delivery)

    def on_return(self, message_id: str) -> None:
        self.told.append(message_id)

    def on_confirm(self, tag: int, *, multiple: bool, taken: bool) -> None:
        self.told.append((tag, multiple, taken))


def content(start: Frame, body: bytes, cut: int, **about: Any) -> bytes:
    parts: list[Any] = [start, ContentHeader(0, len(body), Basic.Properties(**about))]
    parts += [ContentBody(body[at : at + cut]) for at in range(0, len(body), cut)]
    return b"".join(pamqp.frame.marshal(part, 1) for part in parts)


def stream() -> tuple[bytes, list[Any]]:
    """One of everything, and what is to be told of it."""
    headers = {"event-id": "evt_1", "x-delivery-count": 3}
    deliver, back = Basic.Deliver("ctag", 7, False, "stripe.events", "a.b"), Basic.Return(312, "NO_ROUTE", "e", "k")
    data = [
        pamqp.frame.marshal(Heartbeat(), 0),
        content(deliver, b"0123456789" * 3, 7, headers=headers, message_type="a.b", message_id="m"),
        content(Basic.Deliver("ctag", 8, True, "", "q"), b"", 7),
        pamqp.frame.marshal(Basic.Ack(9, True), 1),
        pamqp.frame.marshal(Connection.Blocked("low on memory"), 0),
        content(back, b"gone", 99, message_id="id-1"),
        pamqp.frame.marshal(Basic.Nack(10, False, False), 1),
        pamqp.frame.marshal(Basic.QosOk(), 1),
    ]
    told: list[Any] = [
        Delivery(7, headers, "a.b", b"0123456789" * 3, "m", Properties(headers, "a.b", "m"), "a.b", 30),
        Delivery(8, {}, None, b"", "", Properties(), "q", 0),
        (9, True, True),
        (0, "Connection.Blocked"),
        "id-1",
        (10, False, False),
        (1, "Basic.QosOk"),
    ]
    return b"".join(data), told


def test_it_reads_the_same_wherever_it_is_cut_in_two() -> None:
    data, told = stream()
    for cut in range(len(data) + 1):
        seen = Seen()
        parser = Parser(seen)
        parser.feed(data[:cut])
        parser.feed(data[cut:])
        assert seen.told == told, cut


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9])
def test_it_reads_the_same_in_small_pieces(size: int) -> None:
    data, told = stream()
    seen = Seen()
    parser = Parser(seen)
    for at in range(0, len(data), size):
        parser.feed(data[at : at + size])
    assert seen.told == told
    assert told[0].returned == 3


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_garbage_is_malformed_or_waits_for_more(pieces: list[bytes]) -> None:
    parser = Parser(Seen())
    try:
        for piece in pieces:
            parser.feed(piece)
    except Malformed:
        return
    assert sum(map(len, parser._held)) <= parser.frame_max


@settings(max_examples=1000)
@given(st.data())
def test_a_stream_that_was_tampered_with_is_read_or_malformed(data: st.DataObject) -> None:
    raw = bytearray(stream()[0])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "insert"]))
        if change == "set":
            raw[at] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del raw[at : at + data.draw(st.integers(1, 5))]
        else:
            raw[at:at] = data.draw(st.binary(min_size=1, max_size=5))
    parser = Parser(Seen())
    try:
        parser.feed(bytes(raw))
    except Malformed:
        return


@settings(max_examples=300)
@given(st.integers(0, 3), st.integers(0, 2), st.binary(max_size=60))
def test_a_frame_of_garbage_is_read_or_malformed(kind: int, channel: int, payload: bytes) -> None:
    parser = Parser(Seen())
    try:
        parser.feed(pamqp.frame.marshal(Basic.Deliver("c", 1, False, "", "q"), 1) if kind == 2 else b"")
        parser.feed(bytes((kind,)) + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + b"\xce")
    except Malformed:
        return


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"AMQP\x00\x00\x09\x01",
        b"\x01\x00\x01\xff\xff\xff\xff\x00",  # a frame of 4 GB
        b"\x03\x00\x01\x00\x00\x00\x01x\xce",  # a body without a header
        pamqp.frame.marshal(Basic.Deliver("c", 1, False, "", "q"), 1) * 2,
        pamqp.frame.marshal(Basic.Deliver("c", 1, False, "", "q"), 1)
        + pamqp.frame.marshal(ContentHeader(0, 1 << 40, Basic.Properties()), 1),  # a body of a terabyte
        pamqp.frame.marshal(Basic.Ack(1), 2),
        pamqp.frame.marshal(Basic.Ack(1), 1)[:-1] + b"\x00",
    ],
)
def test_what_no_broker_sends_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        Parser(Seen()).feed(data)


def test_headers_that_cannot_be_read_are_said_so_and_cost_nobody_the_connection() -> None:
    """INVARIANT: what a stranger writes into a message cannot end the connection, again and again, for all the others."""
    nested = b""
    while len(nested) < 100_000:
        nested = b"\x00F" + len(nested).to_bytes(4, "big") + nested
    for inner in (nested, b"\x01aZ", b"\x01aT\x00", b"\xff"):
        seen = Seen()
        parser = Parser(seen)
        header = b"\x00\x3c\x00\x00" + (0).to_bytes(8, "big") + b"\x20\x00" + len(inner).to_bytes(4, "big") + inner
        parser.feed(pamqp.frame.marshal(Basic.Deliver("c", 1, False, "", "q"), 1))
        parser.feed(b"\x02\x00\x01" + len(header).to_bytes(4, "big") + header + b"\xce")
        (delivery,) = seen.told
        assert delivery.headers == {UNREADABLE: True}


def test_a_frame_that_comes_byte_by_byte_costs_no_more_than_its_bytes() -> None:
    seen = Seen()
    parser = Parser(seen)
    data = content(Basic.Deliver("c", 1, False, "", "q"), b"x" * 100_000, 131_000)
    began = time.process_time()
    for at in range(len(data)):
        parser.feed(data[at : at + 1])
    assert time.process_time() - began < 2
    assert len(seen.told) == 1


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=100).map(lambda raw: b"\xff" + raw))
async def test_whoever_waits_on_a_wire_that_gets_garbage_is_told_at_once(garbage: bytes) -> None:
    wire, socket = wired()
    confirm = wire.send("", "q", b"body", {}, "t", 60)
    wire.data_received(garbage + b"\x00" * 8)
    with pytest.raises(BrokerAway, match="no AMQP"):
        await confirm
    assert socket.closed
    assert "no AMQP" in wire.lost.result()
