"""A private Postgres: its own data, a password, one loopback port, no socket file, and fsync on as in earnest."""

import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from dev.places import CannotStart, account, private_file, private_folder
from dev.processes import Ledger, family, signal_all
from dev.programs import PostgresPrograms
from dev.server import Server

USER = DATABASE = "quittance"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # TCP only: no path whose length or permissions could be wrong
    "max_connections": "200",
    "log_line_prefix": "%m [%p] %d ",
}
Mode = Literal["smart", "fast", "immediate"]
SIGNALS: dict[str, int] = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Postgres(Server):
    name = "Postgres"
    farewell = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))

    def __init__(
        self,
        programs: PostgresPrograms,
        folder: Path,
        ledger: Ledger,
        log: Path,
        *,
        port: int,
        password: str,
        name: str = "Postgres",
        wal: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`name`: of several that one ledger knows; `wal`: an empty folder for it, else it is with the data."""
        super().__init__(private_folder(folder), ledger, log)
        self.name = name
        self.port = port
        self.environment: dict[str, str] = {}  # what its processes are given besides, from the next start on
        self._wal = wal
        self._settings = {**SETTINGS, **(settings or {}), "port": str(port)}
        self._programs = programs
        self._password = password
        self._data = folder / "data"

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def _environment(self) -> dict[str, str]:
        own = {"PATH": f"{self._programs.bin}:/usr/bin:/bin", "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}
        return {**own, **self.environment}

    def _run(self, program: str, *arguments: str, statement: str = "", **environment: str) -> None:
        """One of Postgres' programs, to its end, as the servers' account."""
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(self._programs.bin / program), *arguments],
            **account().popen,
            env={**self._environment, **environment},
            cwd=self.folder,
            input=statement,
            capture_output=True,
            text=True,
            umask=0o077,
            check=False,
        )
        if done.returncode != 0:
            raise CannotStart(f"{program} failed:\n{done.stdout}{done.stderr}")

    def _create(self) -> None:
        """Made beside its final name: one that was interrupted is not taken for a whole one."""
        draft = self._draft()
        secret = private_file(self.folder / "password", self._password)
        self._run(
            "initdb",
            *("-D", str(draft), "-U", USER, f"--pwfile={secret}", "-A", "scram-sha-256"),
            *("-E", "UTF8", "--locale=C.UTF-8", "--data-checksums"),
            *(() if self._wal is None else (f"--waldir={self._wal / 'pg_wal'}",)),
        )
        secret.unlink()
        self._run("postgres", "--single", "-D", str(draft), "postgres", statement=f"CREATE DATABASE {DATABASE}\n")
        draft.rename(self._data)

    def _draft(self) -> Path:
        draft = self.folder / "draft"
        if draft.exists():
            subprocess.run(["rm", "-rf", draft], check=True)
        return draft

    def follow(self, primary: "Postgres") -> None:
        """Begin anew as a standby of another, whose data it copies; it is to be stopped before. Returns when it can be read."""
        draft = self._draft()
        at = f"host=127.0.0.1 port={primary.port} user={USER} application_name={self.name}"
        copied = ("-D", str(draft), "-R", "-X", "stream", "-c", "fast")
        self._run("pg_basebackup", "-d", at, *copied, PGPASSWORD=self._password)
        shutil.rmtree(self._data, ignore_errors=True)
        draft.rename(self._data)
        self.start()

    def promote(self) -> None:
        """A standby becomes a primary; returns when it can be written to."""
        self._run("pg_ctl", "promote", "-w", "-D", str(self._data))

    def _check_version(self) -> None:
        found = int((self._data / "PG_VERSION").read_text())
        if found != self._programs.version:
            raise CannotStart(
                f"{self._data} was written by Postgres {found}, and {self._programs.bin} is Postgres "
                f"{self._programs.version}. `make clean` removes the old data."
            )

    def start(self) -> None:
        if self.is_running:
            return
        if not self._data.exists():
            self._create()
        self._check_version()
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        self._launch([str(self._programs.bin / "postgres"), "-D", str(self._data), *settings], self._environment)
        self._wait_until(self._is_ready)

    def _is_ready(self) -> bool:
        """The server says so in the last line of its pid file; pg_ctl looks there too."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and int(lines[0]) == self.pid and lines[7].strip() in ("ready", "standby")

    def stop(self, mode: Mode = "fast") -> None:
        """smart waits for clients to leave, fast drops them, immediate leaves the work to the next start's recovery."""
        self._end(((SIGNALS[mode], 10.0), *self.farewell[1:]))

    def kill(self) -> None:
        """With every child: survivors would hold the shared memory, and the next start would refuse."""
        children = family(self.pid)[1:] if self.is_running else []
        super().kill()
        signal_all(children, signal.SIGKILL)
