"""Pauses that grow, with jitter, and end at once when the process is to stop."""

import asyncio
import random
from collections.abc import Sequence
from typing import Final

JITTER: Final = 0.2


def jittered(seconds: float) -> float:
    """`seconds`, give or take a fifth, so that what failed together does not come back together."""
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, keeps no secret


class Backoff:
    """Pauses from `first`, doubling up to `longest` seconds, until `reset`."""

    def __init__(self, first: float = 0.1, longest: float = 5.0) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def reset(self) -> None:
        """Things went well: the next pause is the first again."""
        self._next = self._first

    async def wait(self, stopping: asyncio.Event) -> None:
        """Pause; return early when `stopping` is set."""
        pause = jittered(self._next)
        self._next = min(self._next * 2, self._longest)
        await pause_unless(stopping, pause)


async def pause_unless(stopping: asyncio.Event, seconds: float) -> None:
    """Wait `seconds`, or until `stopping` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        pass


def delay(schedule: Sequence[float], attempts: int) -> float | None:
    """Seconds until the next attempt after `attempts` have failed, jittered; None when that was the last."""
    return jittered(schedule[attempts - 1]) if attempts <= len(schedule) else None
