"""How soon one batch may follow another: the busier the machine, the larger the batches, and the less an event costs."""

from typing import Final

# A loop works at most this share of the time, unless a whole batch waits for it.
SHARE: Final = 0.5
LONGEST: Final = 0.5  # seconds from the begin of one batch to that of the next, however long the first took


def next_begin(began: float, ended: float, least: float, share: float = SHARE) -> float:
    """When the next batch may begin, after one that lasted from `began` to `ended`; `least` is the pace of an idle
    machine, in seconds from begin to begin. A batch that took long says that the machine is busy.
    """
    return began + max(least, min((ended - began) / share, LONGEST))
