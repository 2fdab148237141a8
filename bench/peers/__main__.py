"""`make peers`: Quittance and what one would pick instead, with the same events, on the same servers, in turn.

    make peers ARGS="--quick"
    make peers ARGS="--only dj-stripe --only procrastinate --rounds 5"

Each peer is installed under .local/peers/ from a lock with hashes, and set up as its own documentation says
(bench/peers/apps). Quittance is up all the time; rounds alternate, the figures are medians.
Every round's rows are counted in the database; a missing one is a failure. Results: .local/bench/peers.json.
"""

import argparse
import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from bench import runs
from bench.instance import Shape, Stage, instance, private_servers
from bench.peers import report
from bench.peers.catalogue import ALL
from bench.peers.peer import Peer
from bench.peers.report import Entry
from bench.peers.rounds import Length, Ours, compare
from bench.target import Target
from dev.demo_report import console
from dev.places import CannotStart
from dev.servers import Servers
from dev.system import ChildDied, log_folder
from dev.venv import say

OUR_LIVES = 1_000
QUICK = 0.2  # of a full round
PROBLEMS = (
    CannotStart,
    ChildDied,
    TimeoutError,
    RuntimeError,
    OSError,
    subprocess.SubprocessError,
    asyncpg.PostgresError,
)


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__, formatter_class=formatter)
    names = [peer.name for peer in ALL]
    parser.add_argument("--only", action="append", choices=names, help="this peer (may be said again); all if not said")
    parser.add_argument("--rounds", type=int, default=3, help="of each side (%(default)s)")
    parser.add_argument("--senders", type=int, default=32, help="connections (%(default)s)")
    parser.add_argument(
        "--together", action="store_true", help="our workers and the relay in one process, not one each"
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of each round: to see that it works")
    return parser.parse_args()


def installed(chosen: list[Peer]) -> tuple[dict[str, Path], list[Entry]]:
    """Where each peer's programs are, and the ones that could not be installed."""
    programs, missing = {}, []
    for peer in chosen:
        try:
            programs[peer.name] = peer.install()
        except PROBLEMS as problem:
            say(f"{peer.title} is left out: {problem}")
            missing.append(report.failed(peer, f"could not be installed: {problem}"))
    return programs, missing


@asynccontextmanager
async def quittance(given: Servers, shape: Shape) -> AsyncIterator[Target]:
    """Our own instance, up and warm."""
    stage = Stage(given)
    async with stage.place("peers_ours") as place, instance(stage, place, shape) as ours:
        say("Quittance is up: warming up")
        await runs.warm(ours, "PEERSW", 100)
        yield ours


async def measured(
    chosen: list[Peer], programs: dict[str, Path], given: Servers, shape: Shape, length: Length
) -> list[Entry]:
    """One peer after the other. One that fails does not keep the others from their turn."""
    entries = []
    logs = log_folder("peers")
    async with quittance(given, shape) as ours:
        for peer in chosen:
            say(f"{peer.title}: setting up")
            try:
                made = await compare(peer, programs[peer.name], Ours(ours, given, logs), length)
            except PROBLEMS as problem:
                say(f"{peer.title} FAILED: {problem}")
                entries.append(report.failed(peer, f"{type(problem).__name__}: {problem}"))
            else:
                entries.append(report.entry(peer, made))
            report.write(entries)  # of a run that is ended early, too
    return entries


def main() -> int:
    """Run the comparison; the exit code."""
    chosen = arguments()
    to = console()
    share = QUICK if chosen.quick else 1.0
    length = Length(chosen.rounds, share, round(OUR_LIVES * share / 2) * 2, chosen.senders)
    peers = [peer for peer in ALL if not chosen.only or peer.name in chosen.only]
    programs, entries = installed(peers)
    present = [peer for peer in peers if peer.name in programs]
    try:
        if present:
            shape: Shape = "together" if chosen.together else "apart"
            with private_servers("peers") as given:
                entries += asyncio.run(measured(present, programs, given, shape, length))
    except PROBLEMS as problem:
        to.print(str(problem), style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 130
    report.show(entries, to)
    to.print(f"Raw figures: {report.write(entries)}", markup=False, highlight=False)
    return 1 if any(each.problem for each in entries) else 0


if __name__ == "__main__":
    sys.exit(main())
