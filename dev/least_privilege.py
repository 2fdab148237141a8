"""The whole system as it is to be run in earnest: each kind of process is a user of its own in Postgres."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from dev.servers import Servers
from dev.system import Child, System, initialise
from quittance.cli.database_users import USERS
from workers import WORKERS


class Databases(NamedTuple):
    """The DATABASE_URL of each kind of process."""

    workers: str
    relay: str
    web: str


def initialised(given: Servers, logs: Path) -> Databases:
    """Run `quittance init`. A server that is somebody else's is used as he says, and given no users. Raises ChildDied."""
    if not given.managed:
        initialise(given.database_url, given.amqp_url, logs)
        return Databases(given.database_url, given.database_url, given.database_url)
    passwords = {user: secrets.token_urlsafe(18) for user in USERS}
    told = {user.variable: password for user, password in passwords.items()}
    initialise(given.database_url, given.amqp_url, logs, **told)
    return Databases(*(as_user(given.database_url, user.name, password) for user, password in passwords.items()))


def as_user(url: str, name: str, password: str) -> str:
    """The same database, somebody else."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{name}:{password}@{parts.netloc.rpartition('@')[2]}"))


def start_workers(at: System, databases: Databases, environment: Mapping[str, str]) -> tuple[Child, Child]:
    """Every worker in one process, and the relay, whose rights are others, in another."""
    of_relay = {name: environment[name] for name in ("AMQP_URL", "LOG_LEVEL", "LOG_FORMAT") if name in environment}
    return (
        at.start("workers", ["workers", *WORKERS], "METRICS_PORT", {**environment, "DATABASE_URL": databases.workers}),
        at.start("relay", ["workers", "relay"], "METRICS_PORT", {**of_relay, "DATABASE_URL": databases.relay}),
    )
