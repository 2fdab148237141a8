"""Settling: what came of attempts on the outside world, recorded while their lease lasts, of several at once where it can be.

Whatever is not settled is performed again. So a failure here is never taken for one of the attempt.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Sequence
from typing import Any, Final, Protocol, cast
from uuid import UUID

import asyncpg
import msgspec
import structlog

from quittance import outbox
from quittance.broker import Queue
from quittance.database import DATABASE_ERRORS, Connection
from quittance.errors import Rejected
from quittance.event import Event, decode_envelope, event_of, from_message
from workers.runtime import failures, metrics
from workers.runtime.batch import ACQUIRE_TIMEOUT, Database
from workers.runtime.classify import Meaning, meaning
from workers.runtime.outcomes import Attempted, Done, Outcome, Refused

log = structlog.get_logger(__name__)

# The lease lasts 30 s from the claim: the attempt and the settling of its outcome must both lie within it.
LEASE: Final = 28.0
SETTLE_AGAIN: Final = 0.2

ARCHIVED: Final = """
SELECT body, extract(epoch FROM received_at)::double precision AS received_at FROM events
WHERE event_id = $1 AND account = $2 AND livemode = $3
"""


class Settles(Protocol):
    """The part of a worker's module that records outcomes.

    The event that a refused intent came of is the claim's (`event_id`, `event_type`, `event_headers`, `event_body`); else the
    archive's; or, for intents that come of no message, what the module's `event_behind(claim)` says.
    """

    QUEUE: Queue

    def settle(self, claim: asyncpg.Record, outcome: Outcome, token: UUID, db: Connection) -> Awaitable[list[Event]]:
        """Record the outcome, if the claim's token still holds."""


class SettlesTogether(Settles, Protocol):
    """One that can record many outcomes with one statement."""

    def settle_together(self, attempts: Sequence[Attempted], db: Connection) -> Awaitable[list[Event]]:
        """Record each as `settle` does."""


_address = re.compile(r"[^\s<>@\"']+@[^\s<>@\"']+")


def redacted(detail: str) -> str:
    """What the outside said, for the log: short, and without addresses, which mail servers like to repeat."""
    return _address.sub("…", detail)[:200]


class NotArchived(Exception):
    """The event behind a refused intent is not in the archive yet; the lease runs out, and it is asked again."""


class Settling:
    """Settles one worker's attempts."""

    def __init__(self, worker: Any, database: Database, schedule: tuple[float, ...]) -> None:
        self._worker = cast("Settles", worker)
        self._together = cast("SettlesTogether", worker) if hasattr(worker, "settle_together") else None
        self._queue = self._worker.QUEUE.name
        self._database = database
        self._schedule = schedule
        self._log = log.bind(queue=self._queue)

    async def settle(self, attempts: Sequence[Attempted]) -> None:
        """Settle what can be in one transaction; where that fails, and all else, each by itself."""
        together = [each for each in attempts if self._may_go_together(each.outcome)]
        alone = [each for each in attempts if not self._may_go_together(each.outcome)]
        if together:
            try:
                async with self._database.acquire(timeout=ACQUIRE_TIMEOUT) as db, db.transaction():
                    await outbox.write(db, await self._events_of(together, db))
            except Exception as error:  # noqa: BLE001 - as in _settle_in_time, which tells them apart
                self._log.info("outcomes.not_settled_together", outcomes=len(together), error=failures.place(error))
                alone = list(attempts)
        for each in alone:
            await self._settle_in_time(each)

    def _may_go_together(self, outcome: Outcome) -> bool:
        return not isinstance(outcome, Refused) if self._together else isinstance(outcome, Done)

    async def _events_of(self, attempts: Sequence[Attempted], db: Connection) -> list[Event]:
        if self._together:
            return await self._together.settle_together(attempts, db)
        return [
            event for each in attempts for event in await self._worker.settle(each.claim, each.outcome, each.token, db)
        ]

    async def _settle_in_time(self, attempted: Attempted) -> None:
        """Settle, and try again while the lease lasts: what is not settled is performed again.

        An outcome that cannot be settled for another reason than Postgres (a mistake in `settle`) becomes a dead letter:
        else a mail would be sent twice a minute, until somebody looks.
        """
        claim, outcome = attempted.claim, attempted.outcome
        while time.monotonic() - attempted.claimed_at < LEASE:
            try:
                await self._settle(claim, outcome, attempted.token)
                return
            except NotArchived:
                break
            except Exception as error:  # noqa: BLE001 - see above
                self._log.warning("outcome.not_settled", event_id=claim["event_id"], error=failures.place(error))
                away = isinstance(error, DATABASE_ERRORS) and not isinstance(error, asyncpg.PostgresError)
                if away or meaning(error, alone=True) in (Meaning.AGAIN, Meaning.AWAY):
                    # Also when we are to stop: what is left of the grace is for this, and not for a loop without a pause.
                    await asyncio.sleep(SETTLE_AGAIN)
                elif isinstance(outcome, Refused) and outcome.reason == "handler_failed":
                    break
                else:
                    was = type(outcome).__name__.lower()
                    outcome = Refused("handler_failed", f"{was}, but settling it raised {failures.place(error)}")
        else:
            return
        self._log.error("outcome.left", event_id=claim["event_id"], outcome=type(outcome).__name__.lower())

    async def _settle(self, claim: asyncpg.Record, outcome: Outcome, token: UUID) -> None:
        async with self._database.acquire(timeout=ACQUIRE_TIMEOUT) as db, db.transaction():
            await outbox.write(db, await self._worker.settle(claim, outcome, token, db))
            if isinstance(outcome, Refused):
                await self._dead_letter(db, claim, outcome)
        if isinstance(outcome, Done):
            self._log.debug("intent.performed", event_id=claim["event_id"])

    async def _dead_letter(self, db: Connection, claim: asyncpg.Record, refused: Refused) -> None:
        event, headers = await self._event_behind(db, claim)
        error = Rejected(refused.reason, refused.detail)
        await failures.record(db, self._queue, event, headers, error, self._schedule)
        metrics.DEAD.labels(self._queue, refused.reason).inc()
        self._log.error(
            "event.dead_lettered", event_id=event.id, reason=refused.reason, detail=redacted(refused.detail)
        )

    async def _event_behind(self, db: Connection, claim: asyncpg.Record) -> tuple[Event, dict[str, Any]]:
        """The event that the intent came of, to be kept, and replayed, as it was delivered."""
        if hasattr(self._worker, "event_behind"):
            own: Event = self._worker.event_behind(claim)
            return own, own.headers()
        if "event_body" in claim.keys():  # noqa: SIM118 - `in` of a Record looks at its values
            headers: dict[str, Any] = msgspec.json.decode(claim["event_headers"])
            return from_message(headers, claim["event_type"], claim["event_body"]), headers
        row = await db.fetchrow(ARCHIVED, claim["event_id"], claim["account"], claim["livemode"])
        if row is None:
            raise NotArchived(claim["event_id"])
        event = event_of(decode_envelope(row["body"]), row["body"], row["received_at"])
        return event, event.headers()
