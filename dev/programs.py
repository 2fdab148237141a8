"""Finds the programs of Postgres and RabbitMQ: the system's, or those that dev/setup.py has put into .local/programs."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dev.places import home

MINIMUM_POSTGRES = 15
MINIMUM_RABBITMQ = (3, 10)
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True)
class PostgresPrograms:
    bin: Path
    version: int

    def __str__(self) -> str:
        return f"Postgres {self.version} ({self.bin})"


@dataclass(frozen=True)
class RabbitPrograms:
    sbin: Path
    epmd: Path
    version: str
    environment: Mapping[str, str]

    def __str__(self) -> str:
        return f"RabbitMQ {self.version} ({self.sbin})"


def own_programs() -> Path:
    return home() / "programs"


def postgres_folders() -> Iterator[Path]:
    """The packages' first: Debian's, Red Hat's; then whatever is on the path; ours last."""
    yield from Path("/usr/lib/postgresql").glob("*/bin")
    yield from Path("/usr").glob("pgsql-*/bin")
    if found := shutil.which("initdb"):
        yield Path(found).resolve().parent
    yield from own_programs().glob("postgres/*/pginstall/bin")


def postgres_version(folder: Path) -> int:
    """0 for a folder without a server, such as one of clients only."""
    if not all(os.access(folder / program, os.X_OK) for program in ("postgres", "initdb")):
        return 0
    printed = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    number = re.search(r"\d+", printed)
    return int(number.group()) if number else 0


def find_postgres() -> PostgresPrograms | None:
    """The newest there is; one that we installed only where the system has none that will do."""
    found = [PostgresPrograms(folder, postgres_version(folder)) for folder in postgres_folders()]
    fit = [programs for programs in found if programs.version >= MINIMUM_POSTGRES]
    return max(fit, key=lambda p: (not p.bin.is_relative_to(home()), p.version), default=None)


def rabbitmq_folders() -> Iterator[Path]:
    yield from Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin")
    if found := shutil.which("rabbitmq-server"):
        yield Path(found).resolve().parent
    yield from own_programs().glob("rabbitmq/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin")


def rabbitmq_version(sbin: Path) -> str:
    """Read off the folder of the broker's own code; empty where there is none, as beside Debian's wrapper."""
    for folder in (sbin.parent / "plugins").glob("rabbit-[0-9]*"):
        return folder.name.removeprefix("rabbit-").removesuffix(".ez")
    return ""


def is_recent(version: str) -> bool:
    numbers = re.findall(r"\d+", version)[:2]
    return tuple(map(int, numbers)) >= MINIMUM_RABBITMQ


def erlang_of(sbin: Path) -> tuple[Path | None, dict[str, str]]:
    """Erlang's epmd and the variables that make its programs found: an unpacked one has to be told where it lies."""
    unpacked = own_programs() / "rabbitmq"
    if not sbin.is_relative_to(unpacked):
        epmd = shutil.which("epmd")
        folder = f"{Path(epmd).parent}:" if epmd else ""
        return (Path(epmd) if epmd else None), {"PATH": folder + PATH}
    root = unpacked / "usr" / "lib" / "erlang"
    libraries = [str(p.parent) for p in unpacked.glob("**/lib/*-linux-*/lib*.so.*")]
    variables = {
        "PATH": f"{root / 'bin'}:{PATH}",
        "ERL_ROOTDIR": str(root),
        "ROOTDIR": str(root),
        **({"LD_LIBRARY_PATH": ":".join(sorted(set(libraries)))} if libraries else {}),
    }
    return next(root.glob("erts-*/bin/epmd"), None), variables


def outdated_rabbitmq() -> str:
    """The version of one that will not do, for the message that says so; empty where there is none at all."""
    versions = [rabbitmq_version(sbin) for sbin in rabbitmq_folders()]
    return next((version for version in versions if version and not is_recent(version)), "")


def find_rabbitmq() -> RabbitPrograms | None:
    for sbin in rabbitmq_folders():
        version = rabbitmq_version(sbin)
        epmd, environment = erlang_of(sbin)
        if is_recent(version) and epmd:
            return RabbitPrograms(sbin, epmd, version, environment)
    return None
