"""Queues of others that do not take what the relay brings: each is left alone for a while, and nobody waits with it."""

import time
from typing import Final, NamedTuple

from workers.runtime.backoff import jittered

FIRST: Final = 0.5  # seconds
LONGEST: Final = 30.0


class _Pause(NamedTuple):
    until: float
    seconds: float


class Held:
    """Which queues are left alone now. What is kept of a queue is forgotten when it takes a message again."""

    def __init__(self) -> None:
        self._pauses: dict[str, _Pause] = {}

    def now(self) -> list[str]:
        """The queues to be left alone."""
        moment = time.monotonic()
        return [name for name, pause in self._pauses.items() if pause.until > moment]

    def hold(self, name: str) -> None:
        """It did not take a message: leave it alone, twice as long as the last time. Once for all who try it at once."""
        moment = time.monotonic()
        before = self._pauses.get(name)
        if before is not None and before.until > moment:
            return
        seconds = FIRST if before is None else min(2 * before.seconds, LONGEST)
        self._pauses[name] = _Pause(moment + jittered(seconds), seconds)

    def release(self, name: str) -> None:
        """It took a message, or is gone."""
        self._pauses.pop(name, None)
