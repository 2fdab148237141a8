"""Several rows: which servers they are tried on, in which order, and what the report says of them."""

import re

from fire import report
from fire.places import PLACES
from fire.row import Row
from fire.rows import ROWS, table
from fire.runs import Run, described, in_order
from fire.system import System
from fire.trial import Verdict


async def nothing(_system: System) -> None: ...


def verdict(name: str, **given: object) -> Verdict:
    fields = {"claim": "it holds", "bound": 9.0, "accepted": 12, "lives": 2, "refused": 3, "first_answer": 0.25}
    return Verdict(row=name, **{**fields, "recovered": 1.5, "broken": "", "notes": [], **given})  # type: ignore[arg-type]


def test_each_set_of_servers_is_started_once() -> None:
    rows = [Row(f"{place}-{number}", "", 1.0, nothing, place=place) for number in range(2) for place in PLACES]
    assert [row.name for row in in_order(rows)] == [f"{place}-{number}" for place in PLACES for number in range(2)]


def test_rows_have_names_of_their_own_and_stand_in_the_order_of_their_servers() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert in_order(ROWS) == list(ROWS)


def test_a_greater_backlog_is_given_more_time() -> None:
    (small,), (large,) = ([row for row in table(size) if row.name == "backlog"] for size in (5_000, 1_000_000))
    assert large.bound > small.bound + 1_000


def test_a_verdict_that_is_late_or_broken_is_not_good() -> None:
    assert verdict("a").good
    assert not verdict("a", recovered=9.1).good
    assert not verdict("a", recovered=None, broken="not archived: evt_1").good
    assert described(verdict("a", recovered=9.1)).endswith("BROKEN: too late")
    assert described(verdict("a", broken="not archived: evt_1")).endswith("BROKEN: not archived: evt_1")


def test_the_report_tells_of_each_row_what_was_measured_and_what_could_not_be_tried() -> None:
    run = Run([verdict("a", notes=["7 calls met it"]), verdict("b", broken="lost")], {"c": "no small disk"}, seconds=90)
    page = report.markdown(run, "make fire", 60.0)
    assert "2 trials in 2 minutes, 24 events accepted" in page
    assert "1 of 2 kept every promise in time" in page
    assert "`c` (no small disk)" in page
    assert re.search(r"^\| a \| it holds \| 12 \| 3 \| 0.2 s \| 1.5 s \| 9 s \| yes \|$", page, re.MULTILINE)
    assert "**no**: lost" in page
    assert "- `a`: 7 calls met it" in page
