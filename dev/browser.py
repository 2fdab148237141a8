"""Sees to it that there is a Chromium for the browser tests: `make setup` and `make test` alone need one.

The system's is used, driven through its path; a browser that Playwright would fetch never is. What is missing is installed
with apt by root, which is said before it is done. Where neither can be had, nothing fails: the tests are skipped, and
their reason is the command that somebody with the rights has to run.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from dev import apt
from dev.venv import alone, say

PACKAGE: Final = "chromium"
# Debian's, Ubuntu's (a snap behind it), Google's.
NAMES: Final = (
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
    "chrome",
    "chromium-headless-shell",
)
PATIENCE: Final = 30.0  # seconds for `--version`, which a snap takes its time for

DEBIAN: Final = f"sudo apt-get update && sudo apt-get install --no-install-recommends {PACKAGE}"
# Ubuntu's packages of that name are empty: they ask for a snap, which a container cannot run.
UBUNTU: Final = (
    "sudo snap install chromium (where there is no snap: install Google Chrome, or set CHROMIUM to a browser's path)"
)
ELSEWHERE: Final = "install Chromium or Google Chrome, or set CHROMIUM to the path of one"


def is_ubuntu() -> bool:
    """Or made from it: whose packages named Chromium hold none."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return False
    return "ubuntu" in f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".split()


def advice() -> str:
    """How somebody with the rights gets the browser here, in one line."""
    if not apt.available():
        return ELSEWHERE
    return f"run: {UBUNTU if is_ubuntu() else DEBIAN}"


def version(program: Path) -> str:
    """What the program says of itself; empty where it is none that runs, such as Ubuntu's note that points to a snap."""
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = done.stdout.strip()
    return said if done.returncode == 0 and said.startswith(("Chromium", "Google Chrome")) else ""


def find_chromium() -> Path | None:
    """The browser that CHROMIUM names, else the first on the path that answers."""
    if chosen := os.environ.get("CHROMIUM"):
        return Path(chosen) if version(Path(chosen)) else None
    found = (shutil.which(name) for name in NAMES)
    return next((Path(path) for path in found if path and version(Path(path))), None)


def why_not() -> str:
    """Why there is no browser, and what to do about it: the reason of a skipped test."""
    if chosen := os.environ.get("CHROMIUM"):
        return f"CHROMIUM names {chosen}, which is no Chromium that runs"
    return f"no Chromium: {advice()}"


def install() -> None:
    """As root, where the system has a package that holds a browser."""
    try:
        apt.update()
        if apt.candidate(PACKAGE) is None:
            return
        say(f"Installing with apt-get: {PACKAGE} (for the browser tests alone; nothing is started)")
        apt.install([PACKAGE])
    except apt.AptFailed as failed:
        say(f"apt-get could not: {failed}")


def ensure_chromium() -> Path | None:
    """The browser, installed if need be and allowed. Safe to call at any time, and by several at once."""
    with alone("setup"):
        found = find_chromium()
        if found is None and not os.environ.get("CHROMIUM") and os.geteuid() == 0 and apt.available():
            say("There is no Chromium: looking for the system's package")
            install()
            found = find_chromium()
    return found


def main() -> int:
    """Never a failure: without a browser everything but its tests works."""
    found = ensure_chromium()
    if found is None:
        say(f"The browser tests will be skipped: {why_not()}")
        return 0
    say(f"Ready: {version(found)} ({found})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
