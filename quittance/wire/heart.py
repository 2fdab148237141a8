"""The heartbeat, both ways: say that we are there, and notice when the broker is not."""

import asyncio
from collections.abc import Callable
from typing import Final

# The broker is found dead after that many halves of a heartbeat in silence. Counted, not measured: our own process
# may be the one that slept.
MOST_SILENT: Final = 4


class Heart:
    """Beats from `start` to `stop`. Whoever reads and writes sets `heard` and `spoke`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, beat: Callable[[], None], silent: Callable[[], None]) -> None:
        self.heard = self.spoke = True
        self._loop = loop
        self._beat = beat
        self._tell_silent = silent
        self._half = 0.0
        self._missed = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, heartbeat: int) -> None:
        """`heartbeat` in seconds; 0 for none."""
        self._half = heartbeat / 2
        if heartbeat:
            self._timer = self._loop.call_later(self._half, self.tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def tick(self) -> None:
        """Twice a heartbeat."""
        self._missed = 0 if self.heard else self._missed + 1
        if self._missed >= MOST_SILENT:
            self._tell_silent()
            return
        if not self.spoke:
            self._beat()
        self.heard = self.spoke = False
        self._timer = self._loop.call_later(self._half, self.tick)
