"""Debian's packages, installed so that nothing is started, or unpacked by somebody who may not install.

Debian's servers create a cluster and start a broker as they are installed, on the usual ports and for the whole
machine. Who runs `make test` asked for neither.
"""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dev.places import home
from dev.venv import say

POLICY = Path("/usr/sbin/policy-rc.d")
CLUSTER_SETTINGS = Path("/etc/postgresql-common/createcluster.d")
WAIT_FOR_OTHERS = ["-o", "DPkg::Lock::Timeout=300"]
ENVIRONMENT = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "ERL_EPMD_ADDRESS": "127.0.0.1"}


class AptFailed(Exception):
    """What apt said."""


def available() -> bool:
    return shutil.which("apt-get") is not None and shutil.which("dpkg") is not None


def apt(*arguments: str) -> str:
    done = subprocess.run(
        ["apt-get", "-q", *WAIT_FOR_OTHERS, *arguments],
        env={**ENVIRONMENT, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise AptFailed(f"apt-get {' '.join(arguments)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


@contextmanager
def temporary(path: Path, text: str, mode: int) -> Iterator[None]:
    """A file of the system's configuration for the time of the installation; one that is there already is left."""
    if path.exists():
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def epmds() -> set[int]:
    """Every running epmd, by number."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if entry.read_text().strip() == "epmd":
                found.add(int(entry.parent.name))
    return found


def update() -> None:
    """As root: the lists of what there is."""
    apt("update")


def candidate(package: str) -> str | None:
    """The version that would be installed; None where the lists have none, or only one that fetches a snap instead."""
    command = ["apt-cache", "policy", package]
    done = subprocess.run(command, env={**ENVIRONMENT, "LC_ALL": "C"}, capture_output=True, text=True, check=False)
    found = re.search(r"^\s+Candidate: (\S+)$", done.stdout, re.MULTILINE)
    return found[1] if found and found[1] != "(none)" and "snap" not in found[1] else None


def install(packages: Sequence[str]) -> None:
    """As root. Erlang's package starts its name service on all interfaces; one that was not there before is ended."""
    update()
    before = epmds()
    no_starts = temporary(POLICY, "#!/bin/sh\nexit 101\n", 0o755)
    no_cluster = temporary(CLUSTER_SETTINGS / "quittance.conf", "create_main_cluster = false\n", 0o644)
    try:
        with no_starts, no_cluster:
            apt("install", "-y", "--no-install-recommends", *packages)
    finally:
        for pid in epmds() - before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 15)


def user_options(folder: Path) -> list[str]:
    """apt with lists and downloads of its own, which needs no rights: what is installed it still reads."""
    state, cache = folder / "state", folder / "cache"
    for path in (state / "lists" / "partial", cache / "archives" / "partial"):
        path.mkdir(parents=True, exist_ok=True)
    return ["-o", f"Dir::State={state}", "-o", "Dir::State::status=/var/lib/dpkg/status", "-o", f"Dir::Cache={cache}"]


def erlang_packages(options: list[str], package: str) -> set[str]:
    """All parts of Erlang that the package needs, installed or not: parts in two places do not find each other."""
    command = ["apt-cache", *options, "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts"]
    command += ["--no-breaks", "--no-replaces", "--no-enhances", package]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^(erlang-[a-z0-9-]+)", printed, re.MULTILINE))


def unpack(package: str, into: Path) -> None:
    """As anybody: the package, what it needs and is not installed, laid out under a folder."""
    work = home() / "apt"
    options = user_options(work)
    say("  reading the package lists")
    apt(*options, "update")
    missing = set(
        re.findall(r"^Inst (\S+)", apt(*options, "-s", "install", "--no-install-recommends", package), re.MULTILINE)
    )
    wanted = sorted(missing | erlang_packages(options, package) | {package})
    say(f"  downloading {len(wanted)} packages")
    downloads = work / "downloads"
    shutil.rmtree(downloads, ignore_errors=True)
    downloads.mkdir()
    subprocess.run(["apt-get", "-q", *options, "download", *wanted], cwd=downloads, check=True, capture_output=True)
    draft = into.with_name(into.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    for archive in sorted(downloads.glob("*.deb")):
        subprocess.run(["dpkg", "-x", archive, draft], check=True)
    shutil.rmtree(into, ignore_errors=True)
    draft.rename(into)
    shutil.rmtree(work)
