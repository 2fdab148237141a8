"""Our programs as real processes: started, waited for, told to stop, killed."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.polling import eventually

ROOT = Path(__file__).resolve().parents[2]

# What a test's process may see of ours: no settings of the person who runs the tests.
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass
class Program:
    """A running process; `lines` is its stderr so far."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs; -9 after SIGKILL."""
        return self.process.returncode

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.code is None:
            self.process.send_signal(number)

    async def logged(self, text: str, timeout: float = 45.0, times: int = 1) -> str:  # noqa: ASYNC109
        """Wait for the `times`-th line that contains `text`; that line. Raises AssertionError when it ends before."""

        def found() -> str | None:
            hits = [line for line in self.lines if text in line]
            if len(hits) < times and self.code is not None:
                raise AssertionError(f"ended with {self.code}:\n" + "\n".join(self.lines[-30:]))
            return hits[times - 1] if len(hits) >= times else None

        try:
            return await eventually(found, timeout) or ""
        except AssertionError as error:
            raise AssertionError(f"no line with {text!r}; the last ones:\n" + "\n".join(self.lines[-30:])) from error

    async def stop(self, timeout: float = 45.0) -> int:  # noqa: ASYNC109
        """SIGTERM, and wait for the end; its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended(timeout)

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def ended(self, timeout: float = 45.0) -> int:  # noqa: ASYNC109
        """Wait for the end; its exit code."""
        async with asyncio.timeout(timeout):
            return await self.process.wait()


@asynccontextmanager
async def program(*arguments: str, **environment: str) -> AsyncIterator[Program]:
    """`python arguments…` for the length of a block, with only `environment` set; killed at its end if need be."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=ROOT,
        env={**kept, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **environment},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    running = Program(process)
    reader = asyncio.create_task(_read(running))
    try:
        yield running
    finally:
        if running.code is None:
            process.kill()
        await process.wait()
        await reader


async def _read(running: Program) -> None:
    assert running.process.stderr is not None
    async for line in running.process.stderr:
        running.lines.append(line.decode(errors="replace").rstrip())


@asynccontextmanager
async def workers(*names: str, database_url: str, amqp_url: str, **environment: str) -> AsyncIterator[Program]:
    """`python -m workers names…`, begun but not waited for: `await it.logged("queue.consuming")` does that."""
    async with program("-m", "workers", *names, DATABASE_URL=database_url, AMQP_URL=amqp_url, **environment) as running:
        yield running


def memory(pid: int) -> int:
    """Resident bytes."""
    return int(psutil.Process(pid).memory_info().rss)


def environment_of(base: Mapping[str, str], **more: str) -> dict[str, str]:
    """`base` and `more`, as keyword arguments for `program`."""
    return {**base, **more}


def since(moment: float) -> float:
    """Seconds since `time.monotonic()` was `moment`."""
    return time.monotonic() - moment
