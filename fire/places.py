"""The servers that a row needs: one of each, or three broker nodes, or a Postgres with a standby or on a small disk.

Everything is private, and ends with its block.
"""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from dev import servers
from dev.cluster import cluster
from dev.places import Instance, free_ports, instance, private_folder
from dev.postgres import Postgres
from dev.rabbitmq import RabbitMQ
from dev.servers import Servers
from dev.setup import ensure_programs
from fire.disk import SmallPostgres, small, unmount_left_over
from fire.standby import Pair

# The bytes that the queue `crm` holds are part of how its broker is set up.
Place = Literal["plain", "cluster", "standby", "small-disk", "small-crm-queue"]
PLACES: Final[tuple[Place, ...]] = ("plain", "cluster", "standby", "small-disk", "small-crm-queue")
# What is told at once fits several times; what is told in a few seconds does not.
SETTINGS: Final[dict[Place, dict[str, str]]] = {"small-crm-queue": {"CRM_QUEUE_MAX_BYTES": "65536"}}

DATA_MEGABYTES: Final = 192
WAL_MEGABYTES: Final = 128
SMALL_WAL: Final = {"min_wal_size": "32MB", "max_wal_size": "64MB"}


@contextmanager
def servers_of(place: Place) -> Iterator[Servers]:
    """Started, until the block ends. Raises CannotStart; NotHere where this machine does not allow it."""
    match place:
        case "cluster":
            with _postgres_alone("fire-cluster-postgres") as postgres, cluster("fire-cluster") as nodes:
                yield Servers(postgres.url, nodes.urls(), postgres, nodes, managed=True)
        case "standby":
            with _pair() as given:
                yield given
        case "small-disk":
            with _on_a_small_disk() as given:
                yield given
        case _:
            with servers.running(f"fire-{place}") as given:
                yield given


@contextmanager
def _postgres_alone(purpose: str) -> Iterator[Postgres]:
    with instance(purpose, keep=False) as at:
        postgres = _postgres(at, "Postgres", secrets.token_urlsafe(18))
        try:
            postgres.start()
            yield postgres
        finally:
            postgres.stop()


@contextmanager
def _pair() -> Iterator[Servers]:
    with instance("fire-standby", keep=False) as at:
        password = secrets.token_urlsafe(18)
        pair = Pair([_postgres(at, f"Postgres-{letter}", password) for letter in "ab"])
        with _with_broker(at, pair.primary) as broker:
            try:
                yield Servers(pair.url, broker.url, pair, broker, managed=True)
            finally:
                pair.end()


@contextmanager
def _on_a_small_disk() -> Iterator[Servers]:
    unmount_left_over()
    with instance("fire-small-disk", keep=False) as at:
        data, wal = at.folder / "postgres", at.folder / "wal"
        with small(data, DATA_MEGABYTES), small(wal, WAL_MEGABYTES):
            programs, _ = ensure_programs()
            postgres = SmallPostgres(
                programs,
                data,
                at.ledger,
                _log(at, "postgres"),
                port=free_ports(1)[0],
                password=secrets.token_urlsafe(18),
                wal=wal,
                settings=SMALL_WAL,
            )
            with _with_broker(at, postgres) as broker:
                yield Servers(postgres.url, broker.url, postgres, broker, managed=True)


@contextmanager
def _with_broker(at: Instance, postgres: Postgres) -> Iterator[RabbitMQ]:
    """A broker beside a Postgres, started side by side."""
    _, broker = servers.build(at)
    try:
        with ThreadPoolExecutor(2) as pool:
            for started in [pool.submit(broker.start), pool.submit(postgres.start)]:
                started.result()
        yield broker
    finally:
        broker.end()
        postgres.stop()


def _postgres(at: Instance, name: str, password: str) -> Postgres:
    programs, _ = ensure_programs()
    folder = private_folder(at.folder / name.lower())
    log = _log(at, name.lower())
    return Postgres(programs, folder, at.ledger, log, port=free_ports(1)[0], password=password, name=name)


def _log(at: Instance, name: str) -> Path:
    logs = at.folder / "log"
    logs.mkdir(exist_ok=True)
    return logs / f"{name}.log"
