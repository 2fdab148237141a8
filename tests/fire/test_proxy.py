"""The wire of the fault suite: what each of its faults looks like from the client's side."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from fire.proxy import Proxy, proxy

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(100):
        writer.write(piece)
    writer.transport.abort()


@pytest.fixture
async def wire() -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with proxy(f"amqp://user:secret@127.0.0.1:{port}/a%2Fvhost") as one:
        yield one
    server.close()


@asynccontextmanager
async def client(wire: Proxy) -> AsyncIterator[Ends]:
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.listening)
    yield reader, writer
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def said(ends: Ends, text: bytes, within: float = 5) -> bytes:
    reader, writer = ends
    writer.write(text)
    async with asyncio.timeout(within):
        return await reader.read(100)


async def test_it_passes_bytes_both_ways_and_keeps_the_rest_of_the_address(wire: Proxy) -> None:
    assert wire.through("amqp://user:secret@somewhere:1/a%2Fvhost") == (
        f"amqp://user:secret@127.0.0.1:{wire.listening}/a%2Fvhost"
    )
    async with client(wire) as ends:
        assert await said(ends, b"hello") == b"hello"


async def test_latency_holds_each_way_back(wire: Proxy) -> None:
    wire.latency(0.1)
    async with client(wire) as ends:
        began = asyncio.get_running_loop().time()
        assert await said(ends, b"hello") == b"hello"
        assert asyncio.get_running_loop().time() - began >= 0.2


async def test_a_black_hole_accepts_and_is_silent_and_gives_back_what_it_held(wire: Proxy) -> None:
    wire.black_hole()
    async with client(wire) as ends:
        with pytest.raises(TimeoutError):
            await said(ends, b"hello", within=0.2)
        wire.heal()
        async with asyncio.timeout(5):
            assert await ends[0].read(100) == b"hello"


async def test_a_reset_ends_what_is_open_and_lets_new_connections_through(wire: Proxy) -> None:
    async with client(wire) as ends:
        assert await said(ends, b"hello") == b"hello"
        wire.reset()
        with pytest.raises(ConnectionResetError):
            await said(ends, b"hello")
    async with client(wire) as ends:
        assert await said(ends, b"again") == b"again"


async def test_refused_connections_end_at_once(wire: Proxy) -> None:
    wire.refuse()
    async with client(wire) as ends:
        with pytest.raises(ConnectionResetError):
            await said(ends, b"hello")
    wire.heal()
    async with client(wire) as ends:
        assert await said(ends, b"hello") == b"hello"
