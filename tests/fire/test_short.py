"""The rows of the fault table that matter most, tried once each; `make fire` tries all of them."""

import asyncio
from collections.abc import Sequence

import pytest

from dev.setup import uses_given_servers
from fire.row import Row
from fire.rows import ROWS
from fire.runs import Run, tried_all

RATE = 60.0
SHORT = [row for row in ROWS if row.short]

pytestmark = [
    pytest.mark.skipif(uses_given_servers(), reason="given servers are not killed"),
    pytest.mark.timeout(600),  # a few rows on each system, one after the other
]


def tried(rows: Sequence[Row]) -> Run:
    run = Run()
    asyncio.run(tried_all(rows, RATE, run))
    return run


def test_every_accepted_event_has_each_effect_once_whatever_is_killed() -> None:
    """INVARIANT: nothing that was answered 200 is lost, or done twice; nothing needs a human."""
    run = tried(SHORT)
    for verdict in run.verdicts:
        assert not verdict.broken, f"{verdict.row}: {verdict.broken}"
        assert verdict.recovered is not None
    assert len(run.verdicts) + len(run.skipped) == len(SHORT)
