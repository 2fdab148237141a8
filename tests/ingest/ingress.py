"""`python -m ingest` as a process of its own, and a client that says to it what Stripe would, or should not."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from dev.stripe_events import sign

SECRET = "whsec_first"
PATH = "/webhooks/stripe"
READY_WITHIN = 10.0  # seconds, of the broker's return


def event_body(event_id: str, event_type: str = "charge.succeeded", **more: Any) -> bytes:
    """A small event of Stripe's form."""
    return json.dumps(
        {"id": event_id, "object": "event", "type": event_type, "created": 1_790_000_000, "livemode": False, **more}
    ).encode()


def signed(body: bytes, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """The header that makes `body` Stripe's."""
    return {"Stripe-Signature": sign(body, secret, time.time() if at is None else at)}


class Ingress:
    """A running ingress. Its environment is what the test gave it, and nothing else."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def text(self) -> str:
        """All that it has logged."""
        return self._log.read_text()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The lines of this event name."""
        whole = [json.loads(line) for line in self.text().splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in whole if line["event"] == event]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.process.terminate()
        return self.process.wait(12)

    def await_listening(self) -> None:
        deadline = time.monotonic() + 30
        while not (said := self.lines("ingest.listening")):
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.02)
        self.port = said[0]["port"]

    def await_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN
        while not self.is_ready():
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.02)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False

    async def post(self, client: aiohttp.ClientSession, body: bytes, **headers: str) -> int:
        """Post `body`, signed unless `headers` say otherwise; the status."""
        async with client.post(self.url + PATH, data=body, headers={**signed(body), **headers}) as answer:
            return answer.status

    def raw(self, *parts: bytes, timeout: float = 8.0) -> tuple[int, bytes]:
        """Send bytes as they are; the status of the first answer (0: closed without one), and what came of it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as connection:
            for part in parts:
                connection.sendall(part)
            received = b""
            while b"\r\n\r\n" not in received and (chunk := connection.recv(65_536)):
                received += chunk
        return (int(received.split()[1]) if received.startswith(b"HTTP/1.") else 0), received


class Answer:
    """What came back, and after how long."""

    def __init__(self, status: int, seconds: float, retry_after: str | None, reason: str) -> None:
        self.status = status
        self.seconds = seconds
        self.retry_after = retry_after
        self.reason = reason


async def ask(client: aiohttp.ClientSession, ingress: Ingress, event_id: str = "evt_1") -> Answer:
    """Post a small event, well signed."""
    body = event_body(event_id)
    started = time.monotonic()
    async with client.post(ingress.url + PATH, data=body, headers=signed(body)) as answer:
        said = await answer.json()
        return Answer(
            answer.status, time.monotonic() - started, answer.headers.get("Retry-After"), said.get("error", "")
        )


async def in_flight(client: aiohttp.ClientSession, ingress: Ingress, number: int) -> bool:
    """Whether just so many events wait for their confirm."""
    async with client.get(f"{ingress.url}/metrics") as answer:
        return f"quittance_ingest_in_flight {number}.0\n" in await answer.text()


@contextmanager
def running(folder: Path, amqp_url: str, *, ready: bool = True, **environment: str) -> Iterator[Ingress]:
    """Start one on a free port; `ready`: wait until it can publish. Ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "ingest.log"
    given = {
        "PATH": os.environ["PATH"],
        "AMQP_URL": amqp_url,
        "STRIPE_WEBHOOK_SECRETS": SECRET,
        "INGEST_HOST": "127.0.0.1",
        "INGEST_PORT": "0",
        **environment,
    }
    with log.open("wb") as written:
        process = subprocess.Popen([sys.executable, "-m", "ingest"], env=given, stderr=written)
    ingress = Ingress(process, log)
    try:
        ingress.await_listening()
        if ready:
            ingress.await_ready()
        yield ingress
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
