"""The rows of the fault table that matter most, tried once each; `make fire` tries all of them."""

import asyncio

import pytest

from dev.setup import uses_given_servers
from dev.stripe_events import token
from fire.row import Row
from fire.rows import ROWS
from fire.system import private, running
from fire.trial import Verdict, tried

RATE = 60.0
SHORT = [row for row in ROWS if row.short]

pytestmark = [
    pytest.mark.skipif(uses_given_servers(), reason="given servers are not killed"),
    pytest.mark.timeout(420),  # five rows on one system, one after the other
]


async def try_all(rows: list[Row]) -> list[Verdict]:
    verdicts = []
    with private() as (given, children):
        async with running(given, children, RATE) as system:
            for number, row in enumerate(rows):
                verdicts.append(await tried(row, system, f"{token(row.name, 4)}{number:03}", RATE))
    return verdicts


def test_every_accepted_event_has_each_effect_once_whatever_is_killed() -> None:
    """INVARIANT: nothing that was answered 200 is lost, or done twice; nothing needs a human."""
    for verdict in asyncio.run(try_all(SHORT)):
        assert not verdict.broken, f"{verdict.row}: {verdict.broken}"
        assert verdict.recovered is not None
