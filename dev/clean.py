"""Removes what lies outside the checkout, before `make clean` removes the rest; refuses while servers run."""

import fcntl
import os
import shutil
import sys
from pathlib import Path

from dev.places import elsewhere
from dev.processes import Ledger
from dev.venv import ROOT, say


def held(servers: Path) -> list[str]:
    """The names of the sets of servers that some process is using."""
    names = []
    for path in servers.glob("*.lock"):
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                names.append(path.stem)
    return names


def main() -> int:
    folders = [ROOT / ".local", elsewhere()]
    if names := [name for folder in folders for name in held(folder / "servers")]:
        say(f"Servers are running ({', '.join(names)}): end what uses them first.")
        return 1
    for folder in folders:
        for ledger in folder.glob("servers/*/processes.json"):
            Ledger(ledger).stop_all()
    if elsewhere().is_dir() and elsewhere().stat().st_uid == os.geteuid():
        shutil.rmtree(elsewhere())
    return 0


if __name__ == "__main__":
    sys.exit(main())
