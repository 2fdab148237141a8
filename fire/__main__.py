"""`make fire`: inject faults into a private system under a steady stream, and compare what was accepted with what happened.

make fire                                        # every row once; the report goes to docs/fire.md
make fire ARGS="broker-killed postgres-killed"   # some
make fire ARGS="--random 20 --seed 7"            # rows drawn at random, the same ones for the same seed
"""

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from dev.places import CannotStart
from dev.venv import ROOT
from fire import report
from fire.row import Row
from fire.rows import ROWS, table
from fire.runs import Run, tried_all
from fire.system import BACKLOG

REPORT: Final = ROOT / "docs" / "fire.md"
RATE: Final = 60.0


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(
        prog="python -m fire", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows to try (all of them; --list names them)")
    parser.add_argument("--list", action="store_true", help="name the rows, and end")
    parser.add_argument("--short", action="store_true", help="only the rows that `make test` tries")
    parser.add_argument("--random", type=int, metavar="N", help="draw N rows at random")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the draw; printed when it is not given")
    parser.add_argument("--rate", type=float, default=RATE, help="events/s of the stream (%(default)g)")
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="events of the row `backlog` (%(default)d)")
    parser.add_argument("--report", type=Path, help="write the report here (docs/fire.md when every row is tried)")
    parser.add_argument("--json", type=Path, help="write the raw verdicts here")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.rows) - set(names)):
        parser.error(f"no such row: {', '.join(unknown)}; --list names them")
    if chosen.rate <= 0:
        parser.error("--rate must be above 0")
    return chosen


def picked(chosen: argparse.Namespace) -> list[Row]:
    """The rows to try, in order."""
    rows = [
        row
        for row in table(chosen.backlog)
        if (not chosen.rows or row.name in chosen.rows) and (row.short or not chosen.short)
    ]
    if chosen.random is None:
        return rows
    return random.Random(chosen.seed).choices(rows, k=chosen.random)


def main() -> int:
    """0 when every promise was kept, 1 when one was not (the ids are named), 2 for wrong arguments."""
    chosen = arguments()
    if chosen.list:
        for row in ROWS:
            print(f"{row.name:32} {row.claim}")
        return 0
    rows = picked(chosen)
    print(f"{len(rows)} rows at {chosen.rate:g} events/s{f', seed {chosen.seed}' if chosen.random else ''}")
    run = Run(backlog=chosen.backlog)

    def tell(line: str) -> None:
        print(line, flush=True)
        _keep(chosen, run)  # a run of all rows takes long enough to be ended by something else

    try:
        asyncio.run(tried_all(rows, chosen.rate, run, tell))
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        _write(chosen, run)
    return 0 if run.verdicts and all(one.good for one in run.verdicts) else 1


def _write(chosen: argparse.Namespace, run: Run) -> None:
    all_tried = len(run.verdicts) + len(run.skipped) == len(ROWS) and chosen.random is None
    place = chosen.report or (REPORT if all_tried else None)
    if place is not None:
        words = ["make fire", *(f"--random {chosen.random} --seed {chosen.seed}" for _ in [0] if chosen.random)]
        place.write_text(report.markdown(run, " ".join(words), chosen.rate))
        print(f"written: {place}")


def _keep(chosen: argparse.Namespace, run: Run) -> None:
    if chosen.json is not None:
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(run.verdicts)))


if __name__ == "__main__":
    sys.exit(main())
