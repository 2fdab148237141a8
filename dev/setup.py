"""Sees to it that the programs of Postgres and RabbitMQ are there. Starts nothing.

What the system has is used. What is missing is installed with apt by root, and put under .local/ by anybody else; where
neither can be done, the command that somebody with the rights has to run is printed.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from dev import apt
from dev.places import CannotStart
from dev.programs import (
    MINIMUM_POSTGRES,
    PostgresPrograms,
    RabbitPrograms,
    find_postgres,
    find_rabbitmq,
    outdated_rabbitmq,
    own_programs,
)
from dev.venv import ROOT, alone, say

OWN_SERVERS = ("DATABASE_URL", "AMQP_URL")


def uses_given_servers() -> bool:
    """Both addresses are set: nothing is to be installed or started. One alone would leave half of it to guesswork."""
    return all(os.environ.get(name) for name in OWN_SERVERS)


ADVICE = """\
{what}: missing, and not to be had here: {why}

Run this, then try again:

    sudo apt-get update && sudo apt-get install --no-install-recommends {package}

or set DATABASE_URL and AMQP_URL to servers of your own."""


def cannot(what: str, why: str, package: str) -> CannotStart:
    return CannotStart(ADVICE.format(what=what, why=why, package=package))


def install_with_apt(packages: list[str]) -> None:
    say(f"Installing with apt-get: {' '.join(packages)} (no server is started, no database cluster is created)")
    try:
        apt.install(packages)
    except apt.AptFailed as failed:
        say(f"apt-get could not: {failed}")


def install_postgres_wheel() -> None:
    """A wheel that carries the server's programs; of its Python code nothing is run."""
    target = own_programs() / "postgres"
    say(f"Postgres is not installed; putting a copy under {target}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    command += ["--require-hashes", "--no-deps", "--target", str(target), "-r", "requirements.postgres.lock"]
    subprocess.run(command, cwd=ROOT, check=False)


def make_relocatable(erl: Path) -> None:
    """Debian fixes Erlang's folder in its start script; upstream's script asks ERL_ROOTDIR, and so does this one then."""
    fixed = re.compile(r"^(\s*ROOTDIR=)/usr/lib/erlang$", re.MULTILINE)
    erl.write_text(fixed.sub(r'\1"${ERL_ROOTDIR:-/usr/lib/erlang}"', erl.read_text()))


def unpack_rabbitmq() -> None:
    target = own_programs() / "rabbitmq"
    say(f"RabbitMQ is not installed; unpacking Debian's packages under {target}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        apt.unpack("rabbitmq-server", target)
        make_relocatable(target / "usr" / "lib" / "erlang" / "bin" / "erl")
    except (apt.AptFailed, subprocess.CalledProcessError, OSError) as failed:
        say(f"apt-get could not: {failed}")


def no_rabbitmq() -> CannotStart:
    if version := outdated_rabbitmq():
        return CannotStart(
            f"RabbitMQ 3.10 or later is needed, and this system's packages have {version}.\n"
            "Set DATABASE_URL and AMQP_URL to servers of your own, or use `docker compose up`."
        )
    why = "see above." if apt.available() else "this system has no apt-get."
    return cannot("RabbitMQ 3.10 or later", why, "rabbitmq-server")


def ensure_programs() -> tuple[PostgresPrograms, RabbitPrograms]:
    """Both, or CannotStart. Safe to call at any time, and by several at once."""
    with alone("setup"):
        postgres, rabbitmq = find_postgres(), find_rabbitmq()
        wanted = [*([] if postgres else ["postgresql"]), *([] if rabbitmq else ["rabbitmq-server"])]
        if wanted and os.geteuid() == 0 and apt.available():
            install_with_apt(wanted)
            postgres, rabbitmq = find_postgres(), find_rabbitmq()
        if not postgres:
            install_postgres_wheel()
            postgres = find_postgres()
        if not rabbitmq and apt.available():
            unpack_rabbitmq()
            rabbitmq = find_rabbitmq()
    if not postgres:
        raise cannot(f"Postgres {MINIMUM_POSTGRES} or later", "see above.", "postgresql")
    if not rabbitmq:
        raise no_rabbitmq()
    return postgres, rabbitmq


def main() -> int:
    if uses_given_servers():
        say("DATABASE_URL and AMQP_URL are set: those servers are used, nothing to set up.")
        return 0
    try:
        programs = ensure_programs()
    except CannotStart as problem:
        say(str(problem))
        return 1
    say("Ready: " + ", ".join(map(str, programs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
