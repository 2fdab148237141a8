"""What can come of an attempt on the outside world (Stripe, a mail server): the closed set that `perform` returns."""

from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from asyncpg import Record

from quittance.errors import Reason


@dataclass(frozen=True)
class Done:
    """It is done, now or by an earlier attempt; `result` is for the worker's own `settle`."""

    result: Any = None


@dataclass(frozen=True)
class Refused:
    """The outside will never do it: the event behind it becomes a dead letter."""

    reason: Reason
    detail: str


@dataclass(frozen=True)
class Unavailable:
    """The outside is down or limits us: no attempt is counted, and its circuit breaker opens.

    `retry_after` is what the outside asked for, in seconds; the runtime always sets it before `settle` sees it.
    """

    detail: str
    retry_after: float | None = None


@dataclass(frozen=True)
class Failed:
    """Anything else: an attempt is counted, and the next comes by the schedule of all retries.

    The runtime sets `retry_in` (seconds until the next) before `settle` sees it, and turns the last one into `Refused`.
    """

    detail: str
    retry_in: float = 0.0


Outcome = Done | Refused | Unavailable | Failed


class Attempted(NamedTuple):
    """An attempt that is over, and is to be settled while its lease lasts; it was claimed at a monotonic time."""

    claim: Record
    outcome: Outcome
    token: UUID
    claimed_at: float
