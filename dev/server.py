"""What Postgres and RabbitMQ have in common here: one process of ours, with a log, that can be started, ended, frozen."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from dev.places import CannotStart, account
from dev.processes import Ledger, family, signal_all


class Server:
    """A process that stays the same server (data, port) over any number of starts."""

    name = "server"
    farewell: tuple[tuple[int, float], ...] = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0))

    def __init__(self, folder: Path, ledger: Ledger, log: Path) -> None:
        self.folder = folder
        self.log = log
        self._ledger = ledger
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise CannotStart(f"{self.name} is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _launch(self, command: list[str], environment: dict[str, str]) -> None:
        """A session of its own: Ctrl-C in the terminal is for the starter, who then stops us in good order."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                **account().popen,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                umask=0o077,
                start_new_session=True,
            )
        self._ledger.add(self.name, self._process.pid, list(self.farewell))

    def _wait_until(self, ready: Callable[[], bool], patience: float = 60.0) -> None:
        deadline = time.monotonic() + patience
        while not ready():
            if not self.is_running:
                raise CannotStart(f"{self.name} ended while it started; the end of {self.log}:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                self._end(((signal.SIGKILL, 5.0),))
                raise CannotStart(f"{self.name} did not start within {patience:.0f} s; see {self.log}")
            time.sleep(0.03)

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def _end(self, farewell: tuple[tuple[int, float], ...]) -> None:
        process = self._process
        if process is None:
            return
        for number, patience in farewell:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.send_signal(number)
                signal_all(family(process.pid), signal.SIGCONT)  # one that a test has frozen hears nothing else
                process.wait(patience)
                break
        self._process = None
        self._ledger.remove(self.name)

    def kill(self) -> None:
        """As if the machine's power failed, but for what the kernel has in its cache."""
        self._end(((signal.SIGKILL, 10.0),))

    def stop(self) -> None:
        self._end(self.farewell)

    def pause(self) -> None:
        """Frozen: connections stay open and nothing answers, as when a disk or a hypervisor hangs."""
        signal_all(family(self.pid), signal.SIGSTOP)

    def resume(self) -> None:
        signal_all(family(self.pid), signal.SIGCONT)
