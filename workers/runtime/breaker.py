"""Circuit breakers: a destination that is down or limits us is left alone for a while, then tried with one attempt."""

import time
from dataclasses import dataclass
from typing import Final

from workers.runtime.backoff import jittered

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
# What a destination asks for is granted, within reason.
LONGEST_WISH: Final = 300.0


@dataclass
class Breaker:
    """Of one destination. Closed: anything may go. Open: nothing, until `open_until`. Half-open: one at a time."""

    pause: float = FIRST_PAUSE
    open_until: float = 0.0  # monotonic
    failing: bool = False
    probing: bool = False

    def wait(self) -> float:
        """Seconds until an attempt may be made; 0 for now."""
        if not self.failing:
            return 0.0
        left = max(0.0, self.open_until - time.monotonic())
        return max(FIRST_PAUSE, left) if self.probing else left

    def begin(self) -> None:
        """An attempt is made, which `wait` allowed; while the breaker is half-open it is the only one."""
        self.probing = self.failing

    def succeed(self) -> None:
        """It answered, be it with a refusal: it is there."""
        self.failing = self.probing = False
        self.pause = FIRST_PAUSE

    def fail(self, retry_after: float | None = None) -> float:
        """It is unavailable; returns the pause in seconds. The destination's own wish is followed, up to LONGEST_WISH."""
        moment = time.monotonic()
        if self.failing and not self.probing and self.open_until > moment:
            # One of several that were under way when it opened: it tells nothing new.
            return self.open_until - moment
        pause = jittered(self.pause) if retry_after is None else max(0.1, min(retry_after, LONGEST_WISH))
        self.pause = min(self.pause * 2, LONGEST_PAUSE)
        self.failing, self.probing = True, False
        self.open_until = moment + pause
        return pause
