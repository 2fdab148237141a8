"""How often somebody may call: a bucket of tokens each. Per process: several processes allow as much more."""

import time
from collections.abc import Callable, Hashable
from typing import Final

MOST_KEYS: Final = 10_000


class Limiter:
    """Allows `burst` calls at once, and `rate` a second from then on, to each key."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: dict[Hashable, tuple[float, float]] = {}  # key: calls left, as of when

    def wait(self, key: Hashable) -> float | None:
        """None where `key` may call now (which counts), else the seconds until it may."""
        now = self._clock()
        left, since = self._buckets.pop(key, (float(self._burst), now))
        left = min(self._burst, left + (now - since) * self._rate)
        allowed = left >= 1
        self._buckets[key] = (left - 1 if allowed else left, now)  # at the end: the dict is in order of last use
        if len(self._buckets) > MOST_KEYS:
            del self._buckets[next(iter(self._buckets))]
        return None if allowed else (1 - left) / self._rate
