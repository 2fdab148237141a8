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
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from dev.places import CannotStart
from dev.stripe_events import token
from dev.venv import ROOT
from fire import report
from fire.row import Row
from fire.rows import ROWS
from fire.system import private, running
from fire.trial import Verdict, tried

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
    rows = [row for row in ROWS if (not chosen.rows or row.name in chosen.rows) and (row.short or not chosen.short)]
    if chosen.random is None:
        return rows
    return random.Random(chosen.seed).choices(rows, k=chosen.random)


async def fire(rows: Sequence[Row], rate: float, verdicts: list[Verdict]) -> None:
    """Try the rows, one after the other, on one system."""
    began = token(str(time.time_ns()), 4)
    with private() as (given, children):
        async with running(given, children, rate) as system:
            for number, row in enumerate(rows):
                print(f"{number + 1:3}/{len(rows)} {row.name} …", end=" ", flush=True)
                verdict = await tried(row, system, f"{began}{number:03}", rate)
                verdicts.append(verdict)
                print(
                    f"{verdict.accepted} accepted, {verdict.refused} sent again, first 200 after "
                    f"{report.seconds(verdict.first_answer)}, all done after {report.seconds(verdict.recovered)}: "
                    f"{'kept' if verdict.good else 'BROKEN: ' + (verdict.broken or 'too late')}",
                    flush=True,
                )


def main() -> int:
    """0 when every promise was kept, 1 when one was not (the ids are named), 2 for wrong arguments."""
    chosen = arguments()
    if chosen.list:
        for row in ROWS:
            print(f"{row.name:32} {row.claim}")
        return 0
    rows = picked(chosen)
    print(f"{len(rows)} rows at {chosen.rate:g} events/s{f', seed {chosen.seed}' if chosen.random else ''}")
    verdicts: list[Verdict] = []
    try:
        asyncio.run(fire(rows, chosen.rate, verdicts))
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        _write(chosen, rows, verdicts)
    return 0 if verdicts and all(one.good for one in verdicts) else 1


def _write(chosen: argparse.Namespace, rows: Sequence[Row], verdicts: Sequence[Verdict]) -> None:
    place = chosen.report or (REPORT if len(verdicts) == len(ROWS) == len(rows) and chosen.random is None else None)
    if place is not None:
        words = ["make fire", *(f"--random {chosen.random} --seed {chosen.seed}" for _ in [0] if chosen.random)]
        place.write_text(report.markdown(verdicts, " ".join(words), chosen.rate))
        print(f"written: {place}")
    if chosen.json is not None:
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(verdicts)))


if __name__ == "__main__":
    sys.exit(main())
