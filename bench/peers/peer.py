"""What there is to know of a peer: how it is set up and started, and what must be in its database afterwards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.bodies import templates
from bench.peers.environments import APPS

SECRET = "whsec_bench_of_quittance"


@dataclass(frozen=True)
class Place:
    """Where a peer finds everything: its programs (or Node's packages), its own database and virtual host."""

    programs: Path
    database_url: str
    amqp_url: str
    port: int
    stub_url: str

    def program(self, name: str) -> str:
        """The path of one of its programs."""
        return str(self.programs / name)


@dataclass(frozen=True)
class Command:
    """A program to run, in a folder that Python also imports from, and what it is told by its environment."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path = APPS


@dataclass(frozen=True)
class Check:
    """A query that counts rows, and of which events each adds one.

    `last` gives, as Unix seconds, when the last of them came.
    """

    what: str
    count: str
    of: Callable[[str], bool]
    last: str = ""

    def expected(self, run: str, lives: int) -> int:
        """How many rows that many lives add; kinds are sent equally often."""
        told = templates(run)
        return lives // len(told) * sum(self.of(each.type) for life in told for each in life)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One way to do it. `done` grows with every event that is processed; None where that is before the 200."""

    name: str
    title: str
    compared: Literal["processed", "accepted"]
    target: float  # ours must be so many times faster
    lives: int  # a round's, at full length
    path: str
    install: Callable[[], Path]
    versions: Callable[[], dict[str, str]]
    prepare: Callable[[Place], Sequence[Command]]
    processes: Callable[[Place], Sequence[Command]]
    done: Check | None
    checks: Sequence[Check]
    note: str
    stub: bool = False
    sql: str = ""  # run in its database before anything else


def every(_: str) -> bool:
    """Each event adds one row."""
    return True


def once(event_type: str) -> Callable[[str], bool]:
    """One row for each event of this type."""
    return lambda each: each == event_type
