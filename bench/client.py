"""An HTTP client that does no more than a webhook needs, so that the load takes little of the machine it measures."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Final, Self, cast
from urllib.parse import urlsplit

HEAD: Final = (
    b"POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\n"
    b"Content-Type: application/json; charset=utf-8\r\nStripe-Signature: t=%d,v1=%s\r\nContent-Length: %d\r\n\r\n"
)


class Door:
    """Where to post, and how to sign."""

    def __init__(self, host: str, port: int, path: str, secret: str) -> None:
        self.host, self.port = host, port
        self._path, self._name = path.encode(), f"{host}:{port}".encode()
        self._key = hmac.new(secret.encode(), digestmod=hashlib.sha256)

    @classmethod
    def at(cls, url: str, secret: str) -> Self:
        """The door at a webhook address."""
        parts = urlsplit(url)
        return cls(parts.hostname or "127.0.0.1", parts.port or 80, parts.path, secret)

    def request(self, body: bytes) -> bytes:
        """The bytes of a request, signed now."""
        now = int(time.time())
        signing = self._key.copy()
        signing.update(b"%d." % now)
        signing.update(body)
        return HEAD % (self._path, self._name, now, signing.hexdigest().encode(), len(body)) + body


class Line(asyncio.Protocol):
    """One kept-alive connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio calls this."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        """An answer, or a part of one: it is complete when its Content-Length is there."""
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(rest) >= length and self._answer is not None and not self._answer.done():
            self._buffer = b""
            self._answer.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        """The other side has closed."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("closed by ingest"))

    async def post(self, request: bytes) -> int:
        """Send the request; the status of the answer."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("not connected")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


async def lines(door: Door, count: int) -> Sequence[Line]:
    """That many connections to the door."""
    loop = asyncio.get_running_loop()
    made = await asyncio.gather(*(loop.create_connection(Line, door.host, door.port) for _ in range(count)))
    return [line for _, line in made]
