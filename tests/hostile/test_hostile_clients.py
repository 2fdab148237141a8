"""Clients that would use up the ingress: it goes on serving the honest, and lets go of the others in time.

The real `python -m ingest`, with the soft limit of files that most systems give; only the time that headers may take is
made shorter, so that nobody waits 75 s for the end.
"""

import asyncio
import contextlib
import gzip
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from ingest.__main__ import KEEPALIVE, LINGERING
from ingest.app import MAX_BODY, READ_BUDGET
from tests.ingest.ingress import PATH, SECRET, Ingress, event_body, signed
from tests.support.polling import eventually
from tests.support.processes import memory

HEADERS_WITHIN = 3.0  # seconds, in place of KEEPALIVE
HONEST_WITHIN = 4.0  # seconds for one honest answer while the machine is busy with the others
GROWTH = 300 << 20  # bytes that all that hostility may cost at most
MOST_IDLE = 10_000
SPARE = 500  # file handles of the test itself and of the ingress
START = """
import resource, sys, ingest.__main__ as program
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
program.KEEPALIVE = float(sys.argv.pop(1))
sys.exit(program.main())
"""


@pytest.fixture
def ingress(amqp_url: str, tmp_path: Path) -> Iterator[Ingress]:
    """An ingress that gives a client HEADERS_WITHIN for its headers."""
    log = tmp_path / "ingest.log"
    given = {"AMQP_URL": amqp_url, "STRIPE_WEBHOOK_SECRETS": SECRET, "INGEST_HOST": "127.0.0.1", "INGEST_PORT": "0"}
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(HEADERS_WITHIN)],
            env={"PATH": os.environ["PATH"], **given},
            stderr=written,
        )
    started = Ingress(process, log)
    try:
        started.await_listening()
        started.await_ready()
        yield started
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


class Hostile:
    """One connection that says what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.opened = time.monotonic()

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(OSError):
            await self.writer.drain()

    async def heard(self, within: float) -> bytes:
        """All that comes until the ingress closes. Raises TimeoutError where it does not, within so many seconds."""
        received = b""
        async with asyncio.timeout(within):
            with contextlib.suppress(OSError):
                while chunk := await self.reader.read(65_536):
                    received += chunk
        return received

    async def dribble(self, data: bytes, every: float, within: float) -> bytes:
        """A byte at a time, for as long as it is let; what came back. Raises TimeoutError after `within` seconds."""
        heard = asyncio.create_task(self.heard(within))
        while not heard.done():
            await self.say(data)
            await asyncio.wait({heard}, timeout=every)
        return await heard


@contextlib.asynccontextmanager
async def hostile(ingress: Ingress, number: int) -> AsyncIterator[list[Hostile]]:
    """So many connections, open until the end of the block."""
    clients: list[Hostile] = []
    try:
        while len(clients) < number:
            wave = min(200, number - len(clients))
            opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", ingress.port) for _ in range(wave)))
            clients += [Hostile(*streams) for streams in opened]
        yield clients
    finally:
        for client in clients:
            client.writer.transport.abort()


async def honest(ingress: Ingress, times: int = 20, prefix: str = "evt_honest") -> None:
    """So many signed events in turn, each on a connection of its own and each answered 200 in time."""
    for number in range(times):
        async with aiohttp.ClientSession() as client, asyncio.timeout(HONEST_WITHIN):
            assert await ingress.post(client, event_body(f"{prefix}_{number}")) == 200


def head(*lines: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {PATH} HTTP/1.1", "Host: ingest", *lines, "", ""]).encode()


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]


async def test_slow_headers_end_in_time(ingress: Ingress) -> None:
    """INVARIANT: a header that comes byte by byte does not prolong its time, and holds nobody up."""
    async with hostile(ingress, 200) as clients:
        for client in clients:
            await client.say(f"POST {PATH} HTTP/1.1\r\nX: ".encode())
        slow = [asyncio.create_task(client.dribble(b"a", 0.2, HEADERS_WITHIN + 4)) for client in clients]
        await honest(ingress)
        await asyncio.gather(*slow)
    assert KEEPALIVE == 75.0  # what docs/operations.md says


async def test_slow_bodies_end_in_time(ingress: Ingress) -> None:
    """INVARIANT: 408 after READ_BUDGET, and the connection is let go of after LINGERING, though it still sends."""
    header = signed(b"x")["Stripe-Signature"]
    async with hostile(ingress, 100) as clients:
        for client in clients:
            await client.say(head(f"Stripe-Signature: {header}", "Content-Length: 100000"))
        within = READ_BUDGET + LINGERING + 4
        slow = [asyncio.create_task(client.dribble(b"a", 0.3, within)) for client in clients]
        await honest(ingress)
        answers = await asyncio.gather(*slow)
    assert {tuple(statuses(answer)) for answer in answers} == {(408,)}


async def test_idle_connections_cost_little_and_end_in_time(ingress: Ingress) -> None:
    """INVARIANT: with ten thousand of them the honest are served, and all are closed after the time for headers."""
    number = idle_connections()
    before = memory(ingress.process.pid)
    async with hostile(ingress, number) as clients:
        await honest(ingress)
        assert memory(ingress.process.pid) - before < GROWTH
        closed = asyncio.gather(*(client.heard(HEADERS_WITHIN + 20) for client in clients))
        assert set(await closed) == {b""}
    await honest(ingress, 3, "evt_after")


def idle_connections() -> int:
    """How many connections this process may open, once it allows itself as many files as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return MOST_IDLE if hard == resource.RLIM_INFINITY else min(MOST_IDLE, hard - SPARE)


async def test_the_ingress_takes_as_many_files_as_it_may(ingress: Ingress) -> None:
    """INVARIANT: a soft limit of 1,024, as most systems have it, is no limit for it."""
    limits = Path(f"/proc/{ingress.process.pid}/limits")
    if not limits.is_file():
        pytest.skip("no /proc here")
    (line,) = (line for line in limits.read_text().splitlines() if line.startswith("Max open files"))
    soft, hard = line.split()[3:5]
    assert soft == hard


async def test_a_gzip_bomb_is_not_inflated(ingress: Ingress) -> None:
    """INVARIANT: 415 at once, whatever it would grow to."""
    bomb = gzip.compress(bytes(400 << 20), 1)[:MAX_BODY]
    before = memory(ingress.process.pid)
    async with hostile(ingress, 20) as clients:
        for client in clients:
            signature = signed(bomb)["Stripe-Signature"]
            await client.say(
                head(f"Stripe-Signature: {signature}", "Content-Encoding: gzip", f"Content-Length: {len(bomb)}") + bomb
            )
        heard = [asyncio.create_task(client.heard(HEADERS_WITHIN + LINGERING + 4)) for client in clients]
        await honest(ingress)
        assert {tuple(statuses(answer)) for answer in await asyncio.gather(*heard)} == {(415,)}
    assert memory(ingress.process.pid) - before < 100 << 20


async def test_pipelined_requests_are_answered_in_order_and_bounded(ingress: Ingress) -> None:
    """INVARIANT: one client's thousand requests at once are each answered, in turn, and wait without using memory up."""
    asked = []
    for number in range(1_000):
        body = event_body(f"evt_pipe_{number}")
        signature = "t=1" if number % 2 else signed(body)["Stripe-Signature"]
        asked.append(head(f"Stripe-Signature: {signature}", f"Content-Length: {len(body)}") + body)
    before = memory(ingress.process.pid)
    async with hostile(ingress, 4) as clients:
        heard = [asyncio.create_task(client.heard(HEADERS_WITHIN + 40)) for client in clients]
        said = [asyncio.create_task(client.say(b"".join(asked))) for client in clients]
        await honest(ingress)
        await asyncio.gather(*said)
        for answer in await asyncio.gather(*heard):
            assert statuses(answer) == [200, 400] * 500
    assert memory(ingress.process.pid) - before < GROWTH


NOW = b"t=now"  # to be replaced when it is said: a stale header would be refused before the lie is
SIGNED = f"Stripe-Signature: {NOW.decode()},v1={'0' * 64}"
LIES = {
    "body shorter than said": (head(SIGNED, "Content-Length: 500") + b"{}", [408]),
    "body longer than said": (head(SIGNED, "Content-Length: 2") + b"{}" + b"x" * 5_000, None),
    "two lengths": (head(SIGNED, "Content-Length: 2", "Content-Length: 3") + b"{}x", [400]),
    "negative length": (head(SIGNED, "Content-Length: -1") + b"{}", [400]),
    "no number": (head(SIGNED, "Content-Length: 0x2") + b"{}", [400]),
    "length of a thousand digits": (head(SIGNED, "Content-Length: " + "9" * 1_000) + b"{}", None),
    "length and chunked": (head(SIGNED, "Content-Length: 2", "Transfer-Encoding: chunked") + b"0\r\n\r\n", [400]),
    "chunk without size": (head(SIGNED, "Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n", [400]),
    "endless chunk size": (head(SIGNED, "Transfer-Encoding: chunked") + b"f" * 100_000, [400]),
    "huge header": (head("X: " + "x" * 200_000), [400]),
    "ten thousand headers": (head(*(f"X-{number}: x" for number in range(10_000))), [400]),
    "huge path": (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n", [400]),
    "no HTTP at all": (bytes(range(256)) * 100, [400]),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), [400]),
}


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_is_refused_and_its_connection_closed(ingress: Ingress, name: str) -> None:
    """INVARIANT: none of the 500s, no memory, no connection left open, and the honest are served."""
    said, expected = LIES[name]
    before = memory(ingress.process.pid)
    async with hostile(ingress, 10) as clients:
        for client in clients:
            await client.say(said.replace(NOW, b"t=%d" % time.time()))
        heard = [asyncio.create_task(client.heard(READ_BUDGET + LINGERING + HEADERS_WITHIN + 4)) for client in clients]
        await honest(ingress, 5)
        for answer in await asyncio.gather(*heard):
            got = statuses(answer)
            assert got == expected if expected is not None else got and all(400 <= status < 500 for status in got), got
    assert memory(ingress.process.pid) - before < 100 << 20
    assert "Traceback" not in ingress.text()
    assert ingress.process.poll() is None


async def test_all_at_once_nothing_honest_is_lost(ingress: Ingress) -> None:
    """INVARIANT: what was answered 200 in the middle of it all is no fault, and it stops in time."""
    async with hostile(ingress, 300) as clients:
        for number, client in enumerate(clients):
            said, _ = [*LIES.values()][number % len(LIES)]
            await client.say(said.replace(NOW, b"t=%d" % time.time()))
        await honest(ingress, 30)
        ingress.signal(signal.SIGTERM)
        await eventually(lambda: ingress.process.poll() is not None, 12)
    assert ingress.process.returncode == 0
    events = [json.loads(line)["event"] for line in ingress.text().splitlines()]
    assert "ingest.stopped" in events
