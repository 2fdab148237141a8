"""A peer's processes: started with a log each, ended with us, however we end (dev/processes.py)."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.peers.peer import Command
from dev.processes import Ledger, watched
from dev.system import ChildDied

# Each started program leads a group of its own; so the servers' and workers' own children end with it.
FAREWELL: Final = [(signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)]
TO_SET_UP: Final = 300.0  # seconds: Django's migrations alone are hundreds of statements
KEPT: Final = ("HOME", "LANG", "PATH", "TMPDIR", "TZ")


class Processes:
    """What was started, and where its logs are."""

    def __init__(self, logs: Path, ledger: Ledger) -> None:
        self.logs = logs
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._ledger = ledger

    def start(self, command: Command) -> None:
        """Start it, and go on."""
        with self._log(command.name).open("ab") as output:
            process = subprocess.Popen(
                command.arguments,
                env=_environment(command),
                cwd=command.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._ledger.add(command.name, process.pid, list(FAREWELL))
        self.running[command.name] = process

    def run(self, command: Command) -> None:
        """Start it, and wait for its end. Raises ChildDied where that was none in peace."""
        self.start(command)
        code = self.running[command.name].wait(TO_SET_UP)
        del self.running[command.name]
        self._ledger.remove(command.name)
        if code != 0:
            raise ChildDied(self._last_words(command.name, code))

    def check(self) -> None:
        """Raise ChildDied where one has ended."""
        for name, process in self.running.items():
            if (code := process.poll()) is not None:
                raise ChildDied(self._last_words(name, code))

    async def listening(self, port: int, patience: float = 60.0) -> None:
        """Wait until something accepts connections there."""
        deadline = time.monotonic() + patience
        while True:
            self.check()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens after {patience:.0f} s; see {self.logs}")
            await asyncio.sleep(0.1)

    def pids(self) -> Mapping[str, int]:
        """Of those that run."""
        return {name: process.pid for name, process in self.running.items()}

    def stop(self) -> None:
        """End all of them, each with its children."""
        for number, patience in FAREWELL:
            going = [each for each in self.running.values() if each.poll() is None]
            for process in going:
                process.send_signal(number)
            deadline = time.monotonic() + patience
            for process in going:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        for name, process in self.running.items():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a child that did not follow its parent
            self._ledger.remove(name)
        self.running.clear()

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def _last_words(self, name: str, code: int) -> str:
        log = self._log(name)
        end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        return f"{name} ended with exit code {code}; the end of {log}:\n{end}"


def _environment(command: Command) -> dict[str, str]:
    """Nothing of ours but what the command is told: a peer reads variables of the same names."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, "PYTHONPATH": str(command.folder), **command.environment}


@contextmanager
def processes_of(peer: str, logs: Path) -> Iterator[Processes]:
    """Processes until the block ends; their logs are below `logs`."""
    folder = logs / peer
    folder.mkdir(exist_ok=True)
    with watched(Ledger(folder / "processes.json")) as ledger:
        started = Processes(folder, ledger)
        try:
            yield started
        finally:
            started.stop()
