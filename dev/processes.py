"""Stops the servers that a process started when that process is gone, however it went.

The starter writes each server down in a ledger and runs this file as a child with a pipe as its stdin. When the pipe
closes, because the starter ended or was killed, whatever the ledger still names is stopped. A process is known by its
number and its time of birth, so that a number used again by something else is left alone.

Runs with the standard library alone: python -I -S dev/processes.py LEDGER
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Recorded:
    """A process that we started: which one, and which signals end it, each with the seconds that it is given."""

    name: str
    pid: int
    born: str
    farewell: list[tuple[int, float]]


def born(pid: int) -> str:
    """When the process began, in whatever notation: only compared. Empty for one that is gone, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return ""
        listed = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return listed.stdout.strip()
    return "" if fields[0] in "ZX" else fields[19]


class Ledger:
    """The list on disk. Rewritten whole, under another name first: the reader may come at any moment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._one_at_a_time = threading.Lock()  # servers are started side by side

    def read(self) -> list[Recorded]:
        try:
            entries = json.loads(self.path.read_text())
        except FileNotFoundError:
            return []
        return [Recorded(e["name"], e["pid"], e["born"], [(s, t) for s, t in e["farewell"]]) for e in entries]

    def _write(self, entries: list[Recorded]) -> None:
        draft = self.path.with_name(self.path.name + ".draft")
        draft.write_text(json.dumps([asdict(entry) for entry in entries]))
        draft.replace(self.path)

    def add(self, name: str, pid: int, farewell: list[tuple[int, float]]) -> None:
        with self._one_at_a_time:
            self._write([*(e for e in self.read() if e.name != name), Recorded(name, pid, born(pid), farewell)])

    def remove(self, name: str) -> None:
        with self._one_at_a_time:
            self._write([e for e in self.read() if e.name != name])

    def stop_all(self) -> None:
        """In the reverse order of their start."""
        for entry in reversed(self.read()):
            stop(entry)
            self.remove(entry.name)


def is_alive(entry: Recorded) -> bool:
    return entry.born != "" and born(entry.pid) == entry.born


def family(pid: int) -> list[int]:
    """The process and its children: Postgres serves each connection from a child."""
    try:
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    except (FileNotFoundError, ProcessLookupError):
        return [pid]


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def stop(entry: Recorded) -> None:
    for number, patience in entry.farewell:
        if not is_alive(entry):
            return
        signal_all([entry.pid], number)
        signal_all(family(entry.pid), signal.SIGCONT)  # one that a test has frozen hears nothing else
        deadline = time.monotonic() + patience
        while is_alive(entry) and time.monotonic() < deadline:
            time.sleep(0.05)


@contextlib.contextmanager
def watched(ledger: Ledger, holds: Sequence[int] = ()) -> Iterator[Ledger]:
    """A watcher of the ledger until the block ends; by then its processes should have been stopped. `holds`: open files
    that it keeps open, and with them the locks on these.
    """
    read_end, write_end = os.pipe()
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(ledger.path)],
        stdin=read_end,
        stdout=subprocess.DEVNULL,
        pass_fds=holds,
        start_new_session=True,
    )
    os.close(read_end)
    try:
        yield ledger
    finally:
        os.close(write_end)
        watcher.wait()


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1):
        pass
    Ledger(Path(sys.argv[1])).stop_all()


if __name__ == "__main__":
    main()
