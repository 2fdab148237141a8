"""How the queue of a worker is read. Ours hold what we published ourselves; into others, strangers write."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from quittance.database import Connection
from quittance.wire import Delivery
from workers.runtime.pace import SHARE

# What several events of one quote have in common is loaded and saved once for a batch; the more, the longer are rows locked,
# and locks have to be had for all of it (`max_locks_per_transaction`).
BATCH: Final = 300
PACE: Final = 0.005


@dataclass(frozen=True)
class Intake:
    """`prepare` turns deliveries, one for one and whatever is in them, into what the runtime files, tries and sends again:
    messages with our own headers (`Event.headers`). It may raise errors of the database and nothing else. `longest`: what
    is kept of a body, in bytes. `batch`: the most that one transaction handles. `pace`: seconds from the begin of one batch
    to that of the next, unless that is large already: small transactions would take the processor from whoever brings more.
    It grows where batches take long, so that the worker works for no more than `share` of the time. What comes alone is never
    held back.
    """

    prepare: Callable[[Sequence[Delivery], Connection], Awaitable[list[Delivery]]] | None = None
    longest: int | None = None
    batch: int = BATCH
    pace: float = PACE
    share: float = SHARE


OURS: Final = Intake()
# Of a quote, the CRM hears by it only what comes after the status.
AFTERWARDS: Final = Intake(pace=0.05, share=0.2)
# Nobody waits for it by the millisecond.
AT_LEISURE: Final = Intake(pace=0.1, share=0.2)
