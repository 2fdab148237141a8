"""Where programs and data of our private servers live, and as whom the servers run.

Everything belongs under .local/ of the checkout. Root is the exception that makes this a module: Postgres refuses to run
as root, so the servers run as an unprivileged account, and that account may be unable to reach a checkout in somebody's
private folder. Then a folder under /var/tmp, named after the checkout, takes the place of .local/.
"""

import fcntl
import hashlib
import os
import pwd
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import IO, Any

from dev.processes import Ledger, watched
from dev.venv import ROOT, say


class CannotStart(Exception):
    """A message for the person in front of the terminal; no traceback helps them."""


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int

    @property
    def popen(self) -> dict[str, Any]:
        """The arguments that make a subprocess run as this account."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@cache
def account() -> Account:
    """Ourselves, or for root an account that owns nothing of worth."""
    if os.geteuid() != 0:
        return Account(str(os.geteuid()), os.geteuid(), os.getegid())
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise CannotStart("Postgres does not run as root, and there is no account 'postgres' or 'nobody' to run it as.")


def reachable(folder: Path) -> bool:
    """Whether the servers' account can enter it: every parent folder has a say."""
    return subprocess.run(["test", "-x", folder], **account().popen, cwd="/", check=False).returncode == 0


def elsewhere() -> Path:
    """The substitute for .local/; a function of the checkout's path, so that `make clean` finds it again."""
    return Path("/var/tmp") / f"quittance-{hashlib.sha256(bytes(ROOT)).hexdigest()[:12]}"  # noqa: S108 - see home()


@cache
def home() -> Path:
    local = ROOT / ".local"
    local.mkdir(exist_ok=True)
    if reachable(local):
        return local
    folder = elsewhere()
    folder.mkdir(mode=0o755, exist_ok=True)
    # The name can be guessed, and everybody may write beside it: take it only if it is ours, and no link.
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise CannotStart(f"{folder} belongs to somebody else; remove it, or move the checkout to a public folder.")
    folder.chmod(0o755)
    pointer = local / "elsewhere"
    if not pointer.is_symlink():
        pointer.symlink_to(folder)
    return folder


def private_folder(path: Path) -> Path:
    """A folder for the servers' account alone."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(path, account().uid, account().gid)
    return path


def private_file(path: Path, text: str, mode: int = 0o600) -> Path:
    """Written under another name first, so that nobody reads half of it or finds it open to all for a moment."""
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    os.chown(draft, account().uid, account().gid)
    return draft.rename(path)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(number: int) -> list[int]:
    """Below the range that outgoing connections take theirs from: a server that is down for a while must not lose it."""
    candidates = (port for port in random.sample(range(20_000, 32_000), 2_000) if is_free(port))
    return [next(candidates) for _ in range(number)]


@dataclass(frozen=True)
class Instance:
    """One set of servers: its folder, held by one process at a time."""

    name: str
    folder: Path
    ledger: Ledger


def claim(servers: Path, purpose: str) -> tuple[str, IO[str]]:
    for number in count(1):
        name = purpose if number == 1 else f"{purpose}-{number}"
        lock = (servers / f"{name}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        if number > 1:
            say(f"Another `{purpose}` holds its servers: this one gets its own ({name}).")
        return name, lock
    raise AssertionError("count() has no end")


@contextmanager
def instance(purpose: str, *, keep: bool) -> Iterator[Instance]:
    """The first folder for this purpose that nobody holds, emptied unless its data are to be kept; what its ledger names is
    stopped when we are gone, even by SIGKILL.
    """
    servers = home() / "servers"
    servers.mkdir(mode=0o755, exist_ok=True)
    servers.chmod(0o755)
    name, lock = claim(servers, purpose)
    with lock:
        folder = servers / name
        folder.mkdir(mode=0o755, exist_ok=True)
        folder.chmod(0o755)
        at = Instance(name, folder, Ledger(folder / "processes.json"))
        at.ledger.stop_all()  # left over only if the watcher of dev/processes.py was killed too
        if not keep:
            remove_data(folder)
        with watched(at.ledger, holds=[lock.fileno()]):  # while servers end after us, the folder is still theirs
            yield at
        if not keep:
            remove_data(folder)


def remove_data(folder: Path) -> None:
    """The logs stay: they are what one looks for after a failure."""
    for entry in folder.iterdir():
        if entry.name == "log":
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
