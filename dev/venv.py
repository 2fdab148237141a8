"""Makes the virtual environment from requirements.lock. Runs before there is one: the standard library only.

Debian splits `venv` off into a package of its own, so a Python that works may still be unable to make an environment;
then we install that package if we may, fall back on a pip that is already there, or name the command.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = ".installed"


def say(text: str) -> None:
    """To stderr: stdout may belong to a program that somebody reads."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def alone(name: str) -> Iterator[None]:
    """One at a time for this checkout: two `make` runs at once must not build the same thing together."""
    folder = ROOT / ".local"
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def up_to_date(stamp: Path) -> bool:
    sources = [ROOT / "requirements.lock", ROOT / "pyproject.toml", ROOT / "dev" / "venv.py"]
    return stamp.exists() and all(stamp.stat().st_mtime > source.stat().st_mtime for source in sources)


def has_ensurepip() -> bool:
    """Asked of a child without its output: on Debian the module may be there and its wheels may not."""
    probe = "import ensurepip; assert ensurepip.version()"
    return subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0


def venv_package() -> str:
    """Debian's name of what is missing, for the interpreter that runs this."""
    return f"python3.{sys.version_info.minor}-venv"


def install_venv_package() -> bool:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    say(f"This Python cannot make virtual environments: installing {venv_package()} with apt-get")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update"], ["install", "-y", "--no-install-recommends", venv_package()]):
        done = subprocess.run(["apt-get", "-qq", *step], env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            say(f"apt-get could not: {done.stdout}{done.stderr}")
            return False
    return True


def has_pip() -> bool:
    return subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def create(venv: Path) -> list[str]:
    """Makes the environment; returns the command that is pip for it."""
    python = venv / "bin" / "python"
    if has_ensurepip() or install_venv_package():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        return [str(python), "-m", "pip"]
    if has_pip():
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(venv)], check=True)
        return [sys.executable, "-m", "pip", "--python", str(python)]
    raise SystemExit(
        "This Python can neither make a virtual environment with pip nor has a pip of its own. Run this, then try "
        f"again:\n\n    sudo apt-get update && sudo apt-get install {venv_package()}\n"
    )


def usable(venv: Path) -> bool:
    """Whether what is there can be updated in place: made by this version of Python, with its pip."""
    probe = f"import sys, pip; assert sys.version_info[:2] == {sys.version_info[:2]}"
    python = venv / "bin" / "python"
    return python.exists() and subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode == 0


def install(pip: list[str]) -> None:
    """The lock with its hashes, then the project itself: neither resolves anything. Twice quiet: errors only."""
    quiet = ["--quiet", "--quiet", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "install", *quiet, "--require-hashes", "-r", "requirements.lock"], cwd=ROOT, check=True)
    subprocess.run([*pip, "install", *quiet, "--no-deps", "--no-build-isolation", "-e", "."], cwd=ROOT, check=True)


def main() -> int:
    venv = ROOT / (sys.argv[1] if len(sys.argv) > 1 else ".venv")
    stamp = venv / STAMP
    with alone("venv"):
        if up_to_date(stamp):
            return 0
        say(f"Setting up {venv.name} from requirements.lock")
        stamp.unlink(missing_ok=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip"] if usable(venv) else create(venv)
        try:
            install(pip)
        except subprocess.CalledProcessError as failed:
            say("pip could not install what requirements.lock names; its words are above.")
            return failed.returncode
        stamp.touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
