"""What the peers are installed in: .local/peers/, from locks with hashes, apart from our own environment."""

import json
import re
import shutil
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

from dev import venv
from dev.places import CannotStart
from dev.venv import ROOT, alone, say

HOME: Final = ROOT / ".local" / "peers"
APPS: Final = Path(__file__).parent / "apps"
LOCK: Final = ROOT / "requirements.peers.lock"
ENGINE: Final = APPS / "sync_engine"
NODE: Final = 20


def python() -> Path:
    """The folder with the programs of the Python peers; installs them where they are not there yet."""
    made = HOME / "python"
    with alone("peers-python"):
        if not _same(made, LOCK):
            say(f"Setting up .local/peers/python from {LOCK.name} (a minute)")
            HOME.mkdir(parents=True, exist_ok=True)
            pip = [str(made / "bin" / "python"), "-m", "pip"] if venv.usable(made) else venv.create(made)
            quiet = ["--quiet", "--quiet", "--disable-pip-version-check", "--no-input"]
            _run([*pip, "install", *quiet, "--require-hashes", "-r", str(LOCK)], "pip could not install the peers")
            _stamp(made, LOCK)
    return made / "bin"


def node() -> Path:
    """The folder `node_modules` of the peer that runs on Node."""
    made = HOME / "node"
    lock = ENGINE / "package-lock.json"
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        raise CannotStart("node and npm are not installed: sudo apt-get install nodejs npm")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(said.lstrip("v").partition(".")[0]) < NODE:
        raise CannotStart(f"node {NODE} or later is needed, this is {said}")
    with alone("peers-node"):
        if not _same(made, lock):
            say("Setting up .local/peers/node from package-lock.json (a minute)")
            made.mkdir(parents=True, exist_ok=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(ENGINE / name, made / name)
            silent = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            _run([npm, "ci", *silent], "npm could not install the peer", cwd=made)
            _stamp(made, lock)
    return made / "node_modules"


def python_versions(*names: str) -> dict[str, str]:
    """Of these packages, as they are installed; none where nothing is."""
    folders = [str(each) for each in (HOME / "python").glob("lib/python*/site-packages")]
    found = {normal(each.name): each.version for each in distributions(path=folders)}
    return {name: found[name] for name in names if name in found}


def normal(name: str) -> str:
    """A package's name as a lock has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def node_versions(*names: str) -> dict[str, str]:
    """Of these packages, by the lock, with Node's own; none where nothing is installed."""
    if not (HOME / "node" / ".installed").exists():
        return {}
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    packages = json.loads((ENGINE / "package-lock.json").read_text())["packages"]
    return {"node": said.lstrip("v"), **{name: packages[f"node_modules/{name}"]["version"] for name in names}}


def _run(command: list[str], complaint: str, cwd: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=cwd, check=False)
    if done.returncode != 0:
        raise CannotStart(f"{complaint}: exit code {done.returncode}; its words are above.")


def _same(made: Path, lock: Path) -> bool:
    stamp = made / ".installed"
    return stamp.exists() and stamp.read_bytes() == lock.read_bytes()


def _stamp(made: Path, lock: Path) -> None:
    (made / ".installed").write_bytes(lock.read_bytes())
