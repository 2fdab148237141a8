"""A mail server that throws everything away at little cost, so that mails are sent in the benchmark as in life."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast


class Sink(asyncio.Protocol):
    """One SMTP session: yes to everything, and a count of mails."""

    mails = 0

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._in_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so
        self._say(b"220 bench")

    def data_received(self, data: bytes) -> None:
        """Commands, one a line; a mail ends with a dot alone on its line."""
        self._buffer += data
        while self._step():
            pass

    def _step(self) -> bool:
        end = b"\r\n.\r\n" if self._in_data else b"\r\n"
        part, found, rest = self._buffer.partition(end)
        if not found:
            return False
        self._buffer = rest
        if self._in_data:
            self._in_data = False
            Sink.mails += 1
            self._say(b"250 OK")
            return True
        command = part[:4].upper()
        if command == b"DATA":
            self._in_data = True
            self._say(b"354 go on")
        elif command == b"EHLO":
            self._say(b"250-bench\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 PIPELINING")
        elif command == b"QUIT":
            self._say(b"221 bye")
            if self._transport is not None:
                self._transport.close()
        else:
            self._say(b"250 OK")
        return True

    def _say(self, line: bytes) -> None:
        if self._transport is not None:
            self._transport.write(line + b"\r\n")


@asynccontextmanager
async def sink() -> AsyncIterator[str]:
    """The server, on a free port of this machine; its SMTP_URL."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    try:
        yield f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
