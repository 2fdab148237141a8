"""A wire that can be cut: a TCP proxy between one of our processes and a server."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit, urlunsplit

CHUNK: Final = 1 << 16
RESET_AT_ONCE: Final = struct.pack("ii", 1, 0)  # SO_LINGER for 0 s: an RST instead of a goodbye


@dataclass
class Proxy:
    """Passes bytes on, both ways, as long as it is not told otherwise."""

    host: str
    port: int  # of the server behind it
    listening: int = 0  # its own
    delay: float = 0.0  # seconds that each piece is held back
    refusing: bool = False
    accepted: int = 0  # connections so far
    passing: asyncio.Event = field(default_factory=asyncio.Event)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    def latency(self, seconds: float) -> None:
        """Hold every piece back for so long, each way."""
        self.delay = seconds

    def black_hole(self) -> None:
        """Keep connections, accept new ones, and pass nothing."""
        self.passing.clear()

    def reset(self) -> None:
        """Reset every open connection, at both ends."""
        for writer in self.writers:
            with suppress(OSError, ValueError):
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
            writer.transport.abort()

    def refuse(self) -> None:
        """Reset what is open, and every new connection at once."""
        self.refusing = True
        self.reset()

    def heal(self) -> None:
        """Pass bytes on again, at once."""
        self.delay, self.refusing = 0.0, False
        self.passing.set()

    def through(self, url: str) -> str:
        """The address `url`, by way of this proxy."""
        parts = urlsplit(url)
        user = parts.netloc.rpartition("@")[0]
        place = f"127.0.0.1:{self.listening}"
        return urlunsplit(parts._replace(netloc=f"{user}@{place}" if user else place))

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end; a task that `ended` waits for."""
        task = asyncio.create_task(self._serve(reader, writer))
        self.serving.add(task)
        await asyncio.wait([task])
        self.serving.discard(task)

    async def ended(self) -> None:
        """End every connection, and take no more."""
        self.heal()
        self.refuse()
        await asyncio.gather(*self.serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.writers.add(writer)
        try:
            if self.refusing:
                self.reset()
                return
            onward_reader, onward = await asyncio.open_connection(self.host, self.port)
            self.writers.add(onward)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass(reader, onward))
                    both.create_task(self._pass(onward_reader, writer))
            finally:
                self.writers.discard(onward)
                onward.transport.abort()
        except* OSError:
            pass  # one side is gone: so is the other
        finally:
            self.writers.discard(writer)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(CHUNK):
            await self.passing.wait()
            if self.delay:
                await asyncio.sleep(self.delay)
            writer.write(piece)
            await writer.drain()
        raise ConnectionResetError  # ends the other direction too


@asynccontextmanager
async def proxy(url: str) -> AsyncIterator[Proxy]:
    """A proxy to the server of an address, until the block ends."""
    parts = urlsplit(url)
    one = Proxy(parts.hostname or "127.0.0.1", parts.port or 0)
    one.heal()
    server = await asyncio.start_server(one.accept, "127.0.0.1", 0)
    one.listening = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        await one.ended()
