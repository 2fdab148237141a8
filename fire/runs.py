"""Several trials: grouped by the servers that their rows need, each set of which is started once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dev.stripe_events import token
from fire.disk import NotHere
from fire.places import PLACES, Place
from fire.row import Row
from fire.system import BACKLOG, private, running
from fire.trial import Verdict, failed, tried


@dataclass
class Run:
    """What came of rows that were tried; also of one that was ended in the middle."""

    verdicts: list[Verdict] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # rows that cannot be tried here, and why
    backlog: int = BACKLOG  # events of the row of that name
    seconds: float = 0.0


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Those of one place together, else as given."""
    return sorted(rows, key=lambda row: PLACES.index(row.place))


async def tried_all(rows: Sequence[Row], rate: float, run: Run, tell: Callable[[str], None] = print) -> None:
    """Try the rows, one after the other, into `run`; `tell` hears how it goes."""
    began = time.monotonic()
    waiting = in_order(rows)
    while waiting:
        place = waiting[0].place
        together = [row for row in waiting if row.place == place]
        waiting = waiting[len(together) :]
        while together:
            await _tried_at(place, together, rate, run, tell)
            run.seconds = time.monotonic() - began


async def _tried_at(place: Place, waiting: list[Row], rate: float, run: Run, tell: Callable[[str], None]) -> None:
    """Take rows from `waiting`, and try them on one system; to the last, or to one that leaves it as nobody knows."""
    mark = token(str(time.time_ns()), 4)
    try:
        with private(place) as (given, children):
            async with running(given, children, rate, place) as system:
                system.backlog = run.backlog
                for number in range(len(waiting)):
                    row = waiting.pop(0)
                    try:
                        verdict = await tried(row, system, f"{mark}{number:03}", rate)
                    except NotHere as why:
                        tell(f"{row.name}: skipped, {why}")
                        run.skipped[row.name] = str(why)
                        continue
                    except Exception as error:  # noqa: BLE001 - whatever a fault leads to, the other rows are tried
                        run.verdicts.append(failed(row, error))
                        tell(described(run.verdicts[-1]))
                        return
                    run.verdicts.append(verdict)
                    tell(described(verdict))
    except NotHere as why:
        tell(f"skipped, {why}: {', '.join(row.name for row in waiting)}")
        run.skipped |= {row.name: str(why) for row in waiting}
        waiting.clear()


def described(verdict: Verdict) -> str:
    """A verdict as a line for people."""
    kept = "kept" if verdict.good else f"BROKEN: {verdict.broken or 'too late'}"
    noted = "".join(f" ({note})" for note in verdict.notes)
    return (
        f"{verdict.row}: {verdict.accepted} accepted, {verdict.refused} sent again, first 200 after "
        f"{seconds(verdict.first_answer)}, all done after {seconds(verdict.recovered)}{noted}: {kept}"
    )


def seconds(given: float | None) -> str:
    """Seconds as text; or never."""
    return "never" if given is None else f"{given:.1f} s"
