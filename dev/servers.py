"""Private Postgres and RabbitMQ for a demo, a test run, a benchmark or a try by hand.

    with running("test") as servers:
        servers.database_url, servers.amqp_url
        servers.broker.kill(); servers.broker.start()

With DATABASE_URL and AMQP_URL both set, those servers are handed out and cannot be controlled. By hand:
`python -m dev.servers` starts a pair and prints the two addresses until Ctrl-C.
"""

import argparse
import asyncio
import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import asyncpg

from dev.places import CannotStart, Instance, free_ports, instance, is_free, private_file
from dev.postgres import Mode, Postgres
from dev.rabbitmq import RabbitMQ
from dev.setup import ensure_programs, uses_given_servers
from dev.venv import say


class NotOurs(RuntimeError):
    """Asked to stop, or otherwise handle, a server that somebody else runs."""


class Control(Protocol):
    """What can be done to a server that we run. Its address stays the same throughout. Every call blocks: in a
    coroutine, use asyncio.to_thread.
    """

    def start(self) -> None: ...
    def kill(self) -> None:
        """SIGKILL, as by a crash."""

    def pause(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""

    def resume(self) -> None: ...


class PostgresControl(Control, Protocol):
    def stop(self, mode: Mode = "fast") -> None: ...


class BrokerControl(Control, Protocol):
    def stop(self) -> None: ...
    def ctl(self, *arguments: str) -> str: ...
    def add_vhost(self, name: str) -> str: ...


class Foreign:
    """Stands where a control would: says why there is none."""

    def _refuse(self, *_: object) -> str:
        raise NotOurs("DATABASE_URL and AMQP_URL name servers that were not started here: they are never touched")

    def stop(self, mode: Mode = "fast") -> None:
        self._refuse(mode)

    def start(self) -> None:
        self._refuse()

    kill = pause = resume = start
    ctl = add_vhost = _refuse


@dataclass(frozen=True)
class Servers:
    database_url: str
    amqp_url: str
    postgres: PostgresControl
    broker: BrokerControl
    managed: bool  # False: the servers are given, and the controls raise NotOurs
    logs: Path | None = None

    def rabbitmqctl(self, *arguments: str) -> str:
        return self.broker.ctl(*arguments)

    def add_vhost(self, name: str) -> str:
        """Another name space of the same broker; its URL."""
        return self.broker.add_vhost(name)

    def add_database(self, name: str) -> str:
        """Another, empty database of the same server; its URL. Works with a given server too, if it permits it."""
        return in_thread(create_database, self.database_url, name)


def create_database(url: str, name: str) -> str:
    async def create() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute('CREATE DATABASE "{}"'.format(name.replace('"', '""')))
        finally:
            await connection.close()

    asyncio.run(create())
    return url.rpartition("/")[0] + "/" + name


def in_thread(function: Callable[..., str], *arguments: str) -> str:
    """From a thread of its own: the caller may stand inside a running event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


@dataclass
class Settings:
    """What a set of servers keeps from one start to the next, where it keeps its data."""

    password: str
    node: str
    postgres_port: int
    ports: tuple[int, int, int]

    @classmethod
    def of(cls, folder: Path) -> "Settings":
        file = folder / "settings.json"
        postgres_port, *ports = free_ports(4)
        new = cls(
            secrets.token_urlsafe(18),
            f"q{secrets.token_hex(4)}@localhost",
            postgres_port,
            (ports[0], ports[1], ports[2]),
        )
        if file.exists():
            old = json.loads(file.read_text())
            new.password, new.node = old["password"], old["node"]
            taken = (old["postgres_port"], *old["ports"])
            if all(map(is_free, taken)):
                new.postgres_port, new.ports = taken[0], (taken[1], taken[2], taken[3])
        private_file(file, json.dumps(asdict(new)))
        return new


def build(at: Instance, settings_of_postgres: Mapping[str, str] | None = None) -> tuple[Postgres, RabbitMQ]:
    postgres_programs, rabbit_programs = ensure_programs()
    logs = at.folder / "log"
    logs.mkdir(exist_ok=True)
    settings = Settings.of(at.folder)
    postgres = Postgres(
        postgres_programs,
        at.folder / "postgres",
        at.ledger,
        logs / "postgres.log",
        port=settings.postgres_port,
        password=settings.password,
        settings=settings_of_postgres,
    )
    rabbitmq = RabbitMQ(
        rabbit_programs,
        at.folder / "rabbitmq",
        at.ledger,
        logs / "rabbitmq.log",
        ports=settings.ports,
        node=settings.node,
        password=settings.password,
    )
    return postgres, rabbitmq


@contextmanager
def running(
    purpose: str = "run", *, keep: bool | None = None, settings_of_postgres: Mapping[str, str] | None = None
) -> Iterator[Servers]:
    """A pair of servers until the block ends. Data are kept for "run" alone, unless said otherwise.

    May be used any number of times at once: each gets its own. A process that was forked from this one without exec, and
    lives on, holds the pipe that tells of our end; apart from that, however this process ends, the servers do too.
    """
    if uses_given_servers():
        yield Servers(os.environ["DATABASE_URL"], os.environ["AMQP_URL"], Foreign(), Foreign(), managed=False)
        return
    with instance(purpose, keep=purpose == "run" if keep is None else keep) as at:
        postgres, rabbitmq = build(at, settings_of_postgres)
        try:
            with ThreadPoolExecutor(2) as pool:
                for start in [pool.submit(rabbitmq.start), pool.submit(postgres.start)]:
                    start.result()
            yield Servers(postgres.url, rabbitmq.url, postgres, rabbitmq, managed=True, logs=at.folder / "log")
        finally:
            rabbitmq.end()
            postgres.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.servers", description="Private servers until Ctrl-C.")
    parser.add_argument("--purpose", default="run", help="a name for the set of servers (default: run)")
    parser.add_argument("--fresh", action="store_true", help="start empty, and keep nothing")
    chosen = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with running(chosen.purpose, keep=not chosen.fresh) as servers:
            print(f"DATABASE_URL={servers.database_url}\nAMQP_URL={servers.amqp_url}", flush=True)
            say("Running until Ctrl-C.")
            ended.wait()
    except CannotStart as problem:
        say(str(problem))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
