"""A disk that can be filled: a small file system in memory, for the data of Postgres and another for its log (WAL)."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from dev.places import account, home, private_folder
from dev.postgres import Postgres

FILLER: Final = "filler"
MEGABYTE: Final = bytes(1 << 20)
PAGE: Final = bytes(1 << 12)


class NotHere(Exception):
    """What a row needs is not to be had on this machine; the message says what."""


class SmallPostgres(Postgres):
    """Its folder, and that of its WAL, are file systems of their own."""

    def fill(self, folder: Path) -> None:
        """Leave no room for a single page."""
        with (folder / FILLER).open("ab", buffering=0) as filler:
            for piece in (MEGABYTE, PAGE):
                with suppress(OSError):
                    while filler.write(piece) == len(piece):
                        pass

    def clear(self, folder: Path) -> None:
        """Give the room back."""
        (folder / FILLER).unlink(missing_ok=True)

    @property
    def wal(self) -> Path:
        """Where the WAL is."""
        assert self._wal is not None  # noqa: S101 - places.py gives one
        return self._wal


@contextmanager
def small(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of that size at `folder`, until the block ends. Raises NotHere."""
    private_folder(folder)
    owner = account()
    options = f"size={megabytes}m,mode=0700,uid={owner.uid},gid={owner.gid}"
    done = _run("mount", "-t", "tmpfs", "-o", options, "quittance", str(folder))
    if done.returncode != 0:
        raise NotHere(f"no small disk: mount says {done.stderr.strip() or done.returncode}")
    try:
        yield
    finally:
        _run("umount", "--lazy", str(folder))


def unmount_left_over() -> None:
    """What a run that was killed has left mounted. One that is in use stays: umount refuses."""
    ours = str(home() / "servers" / "fire-small-disk")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.startswith(f"quittance {ours}"):
            _run("umount", line.split()[1])


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as missing:
        raise NotHere(f"no small disk: {missing}") from missing
