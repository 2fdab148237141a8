"""A primary with a synchronous standby: the primary killed and the standby promoted; the standby gone."""

import asyncio
from typing import Final, cast

from fire.row import Row
from fire.standby import Pair
from fire.system import System

SEEN: Final = 60  # events that both have, before one is lost
DARK: Final = 2.0  # seconds from the primary's death until somebody has noticed
STANDBY_AWAY: Final = 8.0


async def _together(system: System) -> Pair:
    """Return when every commit waits for the standby, and some have."""
    pair = cast("Pair", system.servers.postgres)
    await pair.complete()
    await system.stream.reached(len(system.stream.accepted) + SEEN)
    return pair


async def _failed_over(system: System) -> None:
    pair = await _together(system)
    await asyncio.to_thread(pair.primary.kill)
    await asyncio.sleep(DARK)
    await asyncio.to_thread(pair.fail_over)


async def _standby_away(system: System) -> None:
    pair = await _together(system)
    await asyncio.to_thread(pair.standby.kill)
    await asyncio.sleep(STANDBY_AWAY)
    await asyncio.to_thread(pair.standby.start)


ROWS: Final = (
    Row(
        "postgres-failed-over",
        "what was committed is at the standby: nothing is lost, nothing has an effect twice, nothing is dead-lettered",
        30.0,
        _failed_over,
        repeats_mail=20,
        short=True,
        place="standby",
    ),
    Row(
        "postgres-standby-away",
        "a commit waits for the standby; nothing is dead-lettered for it",
        30.0,
        _standby_away,
        repeats_mail=20,
        place="standby",
    ),
)
