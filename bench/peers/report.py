"""The comparison for people, and as JSON."""

from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from bench.peers.peer import Peer
from bench.peers.rounds import Comparison, Figures, median
from dev.venv import ROOT


class Entry(msgspec.Struct, kw_only=True):
    """One peer. Rates in events a second, times in seconds, CPU in microseconds an event; None: it could not be run."""

    peer: str
    accepted_rate: float | None = None
    processed_rate: float | None = None
    p50: float | None = None
    p99: float | None = None
    cpu_us_per_event: float | None = None
    servers_cpu_us_per_event: float | None = None
    refused: float | None = None
    ours_accepted_rate: float | None = None
    ours_processed_rate: float | None = None
    ours_cpu_us_per_event: float | None = None
    ours_servers_cpu_us_per_event: float | None = None
    compared: str
    ratio: float | None = None
    target: float
    met: bool | None = None
    versions: dict[str, str]
    note: str
    problem: str | None = None
    rounds: Comparison | None = None


def entry(peer: Peer, made: Comparison) -> Entry:
    """The medians of both sides, and how they compare."""
    theirs, ours = median(made.theirs), median(made.ours)
    ratio = _rate(ours, peer) / _rate(theirs, peer)
    return Entry(
        peer=peer.name,
        accepted_rate=theirs.accepted_rate,
        processed_rate=theirs.processed_rate,
        p50=theirs.p50,
        p99=theirs.p99,
        cpu_us_per_event=theirs.cpu,
        servers_cpu_us_per_event=theirs.servers_cpu,
        refused=theirs.refused,
        ours_accepted_rate=ours.accepted_rate,
        ours_processed_rate=ours.processed_rate,
        ours_cpu_us_per_event=ours.cpu,
        ours_servers_cpu_us_per_event=ours.servers_cpu,
        compared=peer.compared,
        ratio=ratio,
        target=peer.target,
        met=ratio >= peer.target,
        versions=peer.versions(),
        note=peer.note,
        rounds=made,
    )


def failed(peer: Peer, problem: str) -> Entry:
    """A peer that could not be installed, or did not do its work."""
    return Entry(
        peer=peer.name,
        compared=peer.compared,
        target=peer.target,
        versions=peer.versions(),
        note=peer.note,
        problem=problem,
    )


def _rate(figures: Figures, peer: Peer) -> float:
    return figures.accepted_rate if peer.compared == "accepted" else figures.processed_rate


def show(entries: list[Entry], to: Console) -> None:
    """Print the table, then what is to be known of each peer."""
    table = Table(title="Quittance against its peers", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    columns = ("peer", "accepted/s", "processed/s", "p50 ms", "p99 ms", "CPU us", "ours acc./s", "ours proc./s")
    for index, column in enumerate((*columns, "ours CPU us", "times", "target", "met")):
        table.add_column(column, justify="right" if index else "left")
    for each in entries:
        if each.problem is not None:
            table.add_row(each.peer, *["-"] * 9, f"{each.target:g} {each.compared}", "not run")
            continue
        table.add_row(
            each.peer,
            *(f"{rate or 0:,.0f}" for rate in (each.accepted_rate, each.processed_rate)),
            *(f"{1_000 * (seconds or 0):,.1f}" for seconds in (each.p50, each.p99)),
            f"{each.cpu_us_per_event or 0:,.0f}",
            *(f"{rate or 0:,.0f}" for rate in (each.ours_accepted_rate, each.ours_processed_rate)),
            f"{each.ours_cpu_us_per_event or 0:,.0f}",
            f"{each.ratio or 0:.1f}",
            f"{each.target:g} {each.compared}",
            "yes" if each.met else "no",
        )
    to.print(table)
    for each in entries:
        versions = ", ".join(f"{name} {version}" for name, version in each.versions.items())
        to.print(f"{each.peer}: {each.note} ({versions})", markup=False, highlight=False)
        if each.refused:
            to.print(f"  answered 5xx and sent again: {each.refused:,.0f} a round", markup=False, highlight=False)
        if each.problem is not None:
            to.print(f"  {each.problem}", style="red", markup=False, highlight=False)


def write(entries: list[Entry]) -> Path:
    """All of it, as JSON."""
    file = ROOT / ".local" / "bench" / "peers.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(entries), indent=1))
    return file
