"""What each process takes: CPU and memory, of it and of all its children."""

import asyncio
import contextlib
import os
import platform
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psutil

MEGABYTE = 1 << 20


@dataclass
class Meter:
    """Reads named processes. One that is gone counts no more."""

    processes: dict[str, psutil.Process]
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # Unix seconds, MB

    @classmethod
    def of(cls, pids: Mapping[str, int]) -> "Meter":
        """A meter for these processes."""
        return cls({name: psutil.Process(pid) for name, pid in pids.items()})

    def cpu(self) -> dict[str, float]:
        """CPU seconds since the start of each, its children included, the ended ones too."""
        return {name: _cpu(process) for name, process in self.processes.items()}

    def busy(self) -> float:
        """CPU seconds that all processes of the machine took since it was started."""
        times = psutil.cpu_times()
        return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))

    def look(self) -> None:
        """Take down the memory of each now (PSS: pages that processes share are shared out between them)."""
        now = time.time()
        for name, process in self.processes.items():
            self.memory.setdefault(name, []).append((now, _memory(process) / MEGABYTE))


def _family(process: psutil.Process) -> list[psutil.Process]:
    if process.pid == os.getpid():
        return [process]  # all the others are children of ours, and counted by themselves
    with contextlib.suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return []


def _cpu(process: psutil.Process) -> float:
    total = 0.0
    for member in _family(process):
        with contextlib.suppress(psutil.Error):
            times = member.cpu_times()
            total += times.user + times.system
            if member.pid != os.getpid():
                # What ended children took is in their parent's account.
                total += times.children_user + times.children_system
    return total


def _memory(process: psutil.Process) -> int:
    total = 0
    for member in _family(process):
        with contextlib.suppress(psutil.Error):
            total += int(member.memory_full_info().pss)
    return total


@asynccontextmanager
async def watching(meter: Meter, every: float) -> AsyncIterator[None]:
    """Take down the memory every so many seconds until the block ends."""

    async def watch() -> None:
        while True:
            await asyncio.to_thread(meter.look)
            await asyncio.sleep(every)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        meter.look()


def machine() -> str:
    """What a report says of where it was written."""
    return f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"


def percentile(ordered: list[float], share: float) -> float:
    """The value below which `share` (0 to 1) of an ordered list lies; 0 for an empty one."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
