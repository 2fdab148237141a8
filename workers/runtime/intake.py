"""How the queue of a worker is read. Ours hold what we published ourselves; into others, strangers write."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from quittance.database import Connection
from quittance.wire import Delivery

# The knee of throughput lies at 100 to 200 events a transaction.
BATCH: Final = 200
PACE: Final = 0.005


@dataclass(frozen=True)
class Intake:
    """`prepare` turns deliveries, one for one and whatever is in them, into what the runtime files, tries and sends again:
    messages with our own headers (`Event.headers`). It may raise errors of the database and nothing else. `longest`: what
    is kept of a body, in bytes. `batch`: the most that one transaction handles. `pace`: seconds from the begin of one batch
    to that of the next, unless that is large already: small transactions would take the processor from whoever brings more.
    It grows where batches take long. What comes alone is never held back.
    """

    prepare: Callable[[Sequence[Delivery], Connection], Awaitable[list[Delivery]]] | None = None
    longest: int | None = None
    batch: int = BATCH
    pace: float = PACE


OURS: Final = Intake()
# Of a quote, the CRM hears by it only what comes after the status.
AFTERWARDS: Final = Intake(pace=0.05)
# Nobody waits for it by the millisecond.
AT_LEISURE: Final = Intake(pace=0.1)
