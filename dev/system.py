"""Quittance's own processes as children of the demo, of `make run` and of the benchmark.

Each child has a log of its own and only the environment that it reads. They end with us, however we end: the watcher of
dev/processes.py sees to it.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from dev.places import free_ports
from dev.processes import Ledger, watched
from dev.venv import ROOT

# What a process may find in the environment that is ours to decide (README, "Configuration").
OURS: Final = [
    "ADOPT_UNPUBLISHED",
    "AMQP_URL",
    "CRM_QUEUE_MAX_BYTES",
    "CURRENCY_POLICY",
    "DATABASE_URL",
    "FORWARDED_HOPS",
    "INGEST_HOST",
    "INGEST_PORT",
    "LOG_FORMAT",
    "LOG_LEVEL",
    "MAIL_FROM",
    "MAIL_TO",
    "METRICS_HOST",
    "METRICS_PORT",
    "PUBLIC_URL",
    "QUOTE_ID_PATTERN",
    "RELAY_PASSWORD",
    "REPLY_TO_PATTERN",
    "SMTP_URL",
    "STRIPE_API_BASE",
    "STRIPE_API_KEY",
    "STRIPE_CONNECT_BASE",
    "STRIPE_CONNECT_CLIENT_ID",
    "STRIPE_WEBHOOK_SECRETS",
    "STRIPE_WEBHOOK_SECRETS_FILE",
    "WEB_HOST",
    "WEB_PASSWORD",
    "WEB_PORT",
    "WORKERS_PASSWORD",
]

KEPT_LOG_FOLDERS: Final = 5

# A worker finishes its batch, and settles what it performs outside, before it goes.
FAREWELL: Final = [(signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)]


class ChildDied(Exception):
    """A process ended that should not have; the message holds the end of its log."""


@dataclass(frozen=True)
class Child:
    """A process of ours and where it can be asked how it is."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    port: int

    @property
    def url(self) -> str:
        """Where its health and metrics are."""
        return f"http://127.0.0.1:{self.port}"

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class System:
    """The children that were started, in order."""

    def __init__(self, logs: Path, ledger: Ledger) -> None:
        self.logs = logs
        self.children: list[Child] = []
        self._ledger = ledger

    def start(self, name: str, module: Sequence[str], port_variable: str, environment: Mapping[str, str]) -> Child:
        """Start `python -m module…`; it serves health and metrics at the port that `port_variable` tells it."""
        port = int(environment.get(port_variable) or free_ports(1)[0])
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *module],
                env={**inherited(), "METRICS_HOST": "127.0.0.1", **environment, port_variable: str(port)},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us, who then end the children in good order
            )
        self._ledger.add(name, process.pid, list(FAREWELL))
        child = Child(name, process, log, port)
        self.children.append(child)
        return child

    async def ready(self, patience: float = 60.0) -> None:
        """Wait until every child says that it is ready. Raises ChildDied, or TimeoutError naming who is not."""
        deadline = time.monotonic() + patience
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5), trust_env=False) as session:
            for child in self.children:
                while not await _answers(session, f"{child.url}/readyz"):
                    self.check()
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{child.name} is not ready after {patience:.0f} s:\n{child.tail()}")
                    await asyncio.sleep(0.1)

    def check(self) -> None:
        """Raise ChildDied where one has ended."""
        for child in self.children:
            if (code := child.process.poll()) is not None:
                raise ChildDied(f"{child.name} ended with exit code {code}; the end of {child.log}:\n{child.tail()}")

    def stop(self) -> None:
        """End all of them, together: SIGTERM, then, where that was not enough, SIGKILL."""
        for number, patience in FAREWELL:
            running = [child for child in self.children if child.process.poll() is None]
            for child in running:
                child.process.send_signal(number)
            deadline = time.monotonic() + patience
            for child in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(max(0.0, deadline - time.monotonic()))
        for child in self.children:
            self._ledger.remove(child.name)


def inherited() -> dict[str, str]:
    """The environment of this process without what is ours to decide."""
    return {name: value for name, value in os.environ.items() if name not in OURS}


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


def log_folder(purpose: str) -> Path:
    """A new folder for the logs of this run; of older ones the newest few are kept."""
    place = ROOT / ".local" / "log"
    place.mkdir(parents=True, exist_ok=True)
    for old in sorted(place.glob(f"{purpose}-*"))[: -(KEPT_LOG_FOLDERS - 1)]:
        shutil.rmtree(old, ignore_errors=True)
    folder = place / f"{purpose}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder.mkdir()
    return folder


@contextmanager
def system(purpose: str) -> Iterator[System]:
    """Children until the block ends."""
    logs = log_folder(purpose)
    with watched(Ledger(logs / "processes.json")) as ledger:
        started = System(logs, ledger)
        try:
            yield started
        finally:
            started.stop()


def initialise(database_url: str, amqp_url: str, logs: Path, **settings: str) -> None:
    """Run `quittance init`; `settings`: what its environment has besides. Raises ChildDied with what it said."""
    log = logs / "init.log"
    with log.open("wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "quittance.cli", "init"],
            env={**inherited(), "DATABASE_URL": database_url, "AMQP_URL": amqp_url, **settings},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
            timeout=120,
        )
    if done.returncode != 0:
        raise ChildDied(f"quittance init ended with exit code {done.returncode}:\n{log.read_text(errors='replace')}")
