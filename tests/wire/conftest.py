"""A queue of a test's own, and a wire whose socket is a list."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from quittance.wire import Wire
from tests.support.messages import Broker


class Socket(asyncio.Transport):
    """What a wire writes is kept; it closes when told."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self.wire = wire
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.wire.connection_lost, None)


def wired() -> tuple[Wire, Socket]:
    """A wire that takes the socket for a broker, with confirms. Inside an event loop."""
    wire = Wire()
    socket = Socket(wire)
    wire.connection_made(socket)
    wire.confirming = True
    return wire, socket


@pytest.fixture
async def queue(amqp: Broker) -> AsyncIterator[str]:
    """The name of a quorum queue, deleted afterwards."""
    name = f"wire-{uuid4().hex[:12]}"
    await amqp.channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
    yield name
    async with Broker.at(amqp.url) as again:  # the test may have killed the broker
        await again.channel.queue_delete(name)
