"""Everything that was measured, as it is written to disk."""

import time
from pathlib import Path

import msgspec
from msgspec import Struct, field

from bench.backlog import Backlog
from bench.growth import Growth
from bench.ingress import Ingress
from bench.limits import Limits
from bench.one_sender import OneSender
from bench.ratios import Compared
from bench.runs import Fast, Steady
from dev.venv import ROOT

FOLDER = ROOT / ".local" / "bench"


class Measured(Struct, kw_only=True):
    """What was measured of one way to run the workers; None where it was not."""

    shape: str  # apart, together; "" of another instance
    fast: Fast | None = None
    latency: Steady | None = None
    one_sender: OneSender | None = None
    backlog: Backlog | None = None
    growth: Growth | None = None
    flush: Compared | None = None
    twice: Compared | None = None


class Results(Struct, kw_only=True):
    """One run of the benchmark."""

    at: str
    machine: dict[str, str]
    arguments: dict[str, str]
    load_before: list[float]  # load averages of the machine before anything was started
    limits: Limits | None = None
    ingress: Ingress | None = None
    measured: list[Measured] = field(default_factory=list)


class Peer(Struct, kw_only=True):
    """A peer's figures, in events a second: of `.local/bench/peers.json`, written by `python -m bench.peers`."""

    peer: str
    processed_rate: float | None = None
    accepted_rate: float | None = None
    ours_processed_rate: float | None = None  # ours, in the same minutes
    ours_accepted_rate: float | None = None
    ratio: float | None = None  # the median of its rounds, where it says so


def peers(file: Path = FOLDER / "peers.json") -> list[Peer]:
    """What is known of the peers; nothing where they were not run, or the file is not what it should be."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Peer])
    except (FileNotFoundError, msgspec.DecodeError):
        return []


def write(results: Results) -> Path:
    """The raw figures, as JSON."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"{time.strftime('%Y-%m-%dT%H%M%S')}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
    return file
