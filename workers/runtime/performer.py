"""What workers do outside of Postgres: intents claimed under a lease, performed outside any transaction, then settled.

`handle` records the intent, this loop carries it out. A process that dies leaves a lease behind, which runs out; the
intent is then performed again with the same idempotency key or Message-ID. A destination that is down or limits us is
left alone (workers/runtime/breaker.py), no attempt is counted, and everything else goes on.
"""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple, Protocol, cast
from uuid import UUID, uuid4

import asyncpg
import msgspec
import structlog

from quittance import outbox
from quittance.broker import Queue
from quittance.database import DATABASE_ERRORS, Connection
from quittance.errors import Rejected
from quittance.event import Event, decode_envelope, event_of, from_message
from workers.runtime import failures, metrics
from workers.runtime.backoff import Backoff, delay
from workers.runtime.batch import ACQUIRE_TIMEOUT, Database
from workers.runtime.breaker import Breaker
from workers.runtime.classify import Meaning, meaning
from workers.runtime.outcomes import Done, Failed, Outcome, Refused, Unavailable

log = structlog.get_logger(__name__)

CLAIM_MOST: Final = 20
# The lease lasts 30 s from the claim: the attempt and the settling of its outcome must both lie within it.
PERFORM_TIMEOUT: Final = 20.0
LEASE: Final = 28.0
# Should a notification be missed, and for what comes due by itself (seconds).
POLL: Final = 1.0
SETTLE_AGAIN: Final = 0.2

ARCHIVED: Final = """
SELECT body, extract(epoch FROM received_at)::double precision AS received_at FROM events
WHERE event_id = $1 AND account = $2 AND livemode = $3
"""


class Performs(Protocol):
    """A worker's module that acts on the outside world (see interfaces in workers/notifications.py).

    The event that a refused intent came of is the claim's (`event_id`, `event_type`, `event_headers`, `event_body`); else the
    archive's; or, for intents that come of no message, what the module's `event_behind(claim)` says.
    """

    QUEUE: Queue
    CLAIM: str

    def outside(self) -> AbstractAsyncContextManager[Any]:
        """What `perform` needs: a client, its settings."""

    def destination(self, claim: asyncpg.Record) -> tuple[str, str]:
        """Whose availability an attempt says something about."""

    def perform(self, claim: asyncpg.Record, outside: Any) -> Awaitable[Outcome]:
        """One attempt; repeating it has no second effect."""

    def settle(self, claim: asyncpg.Record, outcome: Outcome, token: UUID, db: Connection) -> Awaitable[list[Event]]:
        """Record the outcome, if the claim's token still holds."""


_address = re.compile(r"[^\s<>@\"']+@[^\s<>@\"']+")


def redacted(detail: str) -> str:
    """What the outside said, for the log: short, and without addresses, which mail servers like to repeat."""
    return _address.sub("…", detail)[:200]


class Attempted(NamedTuple):
    """An attempt that is over, and is to be settled while its lease lasts; it was claimed at a monotonic time."""

    claim: asyncpg.Record
    outcome: Outcome
    token: UUID
    claimed_at: float


class NotArchived(Exception):
    """The event behind a refused intent is not in the archive yet; the lease runs out, and it is asked again."""


class Performer:
    """Performs one worker's intents until `stopping` is set."""

    def __init__(self, worker: Any, database: Database, schedule: tuple[float, ...], stopping: asyncio.Event) -> None:
        self.worker = cast("Performs", worker)
        self.queue = self.worker.QUEUE.name
        self.name = f"{self.queue} performer"
        self.ready = False
        self._database = database
        self._schedule = schedule
        self._stopping = stopping
        self._woken = asyncio.Event()
        self._breakers: dict[tuple[str, str], Breaker] = defaultdict(Breaker)
        self._claiming: float | None = None
        self._running: dict[asyncio.Task[None], float] = {}  # each with the moment of its claim
        self._eager = False
        # One settling at a time, of all that ended meanwhile.
        self._settling = asyncio.Lock()
        self._unsettled: list[Attempted] = []
        self._log = log.bind(queue=self.queue)

    @property
    def busy_since(self) -> float | None:
        """When the oldest of what is under way began: the claim, an attempt with its settling."""
        return min((*self._running.values(), *([] if self._claiming is None else [self._claiming])), default=None)

    def wake(self) -> None:
        """There may be something to perform."""
        self._woken.set()

    async def run(self) -> None:
        """Claim and perform what is due, CLAIM_MOST at a time; one that takes long keeps one place, not the others."""
        pause = Backoff()
        async with self.worker.outside() as outside:
            while not self._stopping.is_set():
                self._woken.clear()
                self._claiming = time.monotonic()
                try:
                    await self._claim(outside, CLAIM_MOST - len(self._running))
                except DATABASE_ERRORS as error:
                    self.ready = False
                    self._log.warning("performer.away", error=type(error).__name__)
                    self._claiming = None
                    await pause.wait(self._stopping)
                    continue
                self._claiming = None
                pause.reset()
                self.ready = True
                await self._wait()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(POLL):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _claim(self, outside: Any, most: int) -> None:
        """Claim what is due, up to `most`, and begin to perform it."""
        if most <= 0:
            return
        token, claimed_at = uuid4(), time.monotonic()
        async with self._database.acquire(timeout=ACQUIRE_TIMEOUT) as db:
            claims = await db.fetch(self.worker.CLAIM, token, most)
        for claim in claims:
            task = asyncio.create_task(self._perform(claim, outside, token, claimed_at))
            self._running[task] = claimed_at
            task.add_done_callback(self._ended)
        if len(claims) == most:
            # There may be more: to be claimed as places become free.
            self._eager = True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Its lease runs out, and it is claimed again.
            self._log.error("attempt.lost", error=failures.place(error))
        if self._eager:
            self._eager = False
            self.wake()

    async def _perform(self, claim: asyncpg.Record, outside: Any, token: UUID, claimed_at: float) -> None:
        where = self.worker.destination(claim)
        breaker = self._breakers[where]
        if pause := breaker.wait():
            outcome: Outcome = Unavailable(f"{'/'.join(filter(None, where))} is being left alone", pause)
        else:
            breaker.begin()
            outcome = self._judge(await self._attempt(claim, outside), claim, breaker)
            metrics.PERFORMED.labels(self.queue, type(outcome).__name__.lower()).inc()
            metrics.BREAKER_OPEN.labels(self.queue, where[0]).set(self._open(where[0]))
        self._unsettled.append(Attempted(claim, outcome, token, claimed_at))
        async with self._settling:
            together, self._unsettled = self._unsettled, []
            await self._settle_together(together)

    async def _attempt(self, claim: asyncpg.Record, outside: Any) -> Outcome:
        try:
            async with asyncio.timeout(PERFORM_TIMEOUT):
                return await self.worker.perform(claim, outside)
        except TimeoutError:
            return Unavailable(f"no answer within {PERFORM_TIMEOUT:g} s")
        except Exception as error:  # noqa: BLE001 - a mistake in one attempt is an attempt that failed, not the loop's end
            self._log.warning("attempt.raised", event_id=claim["event_id"], error=failures.place(error))
            return Failed(f"{type(error).__name__}: {error}")

    def _judge(self, outcome: Outcome, claim: asyncpg.Record, breaker: Breaker) -> Outcome:
        """What the outcome means for the breaker and the schedule, with its pause filled in."""
        if isinstance(outcome, Unavailable):
            pause = breaker.fail(outcome.retry_after)
            self._log.warning(
                "destination.unavailable",
                event_id=claim["event_id"],
                detail=redacted(outcome.detail),
                pause=round(pause, 3),
            )
            return Unavailable(outcome.detail, pause)
        breaker.succeed()
        if not isinstance(outcome, Failed):
            return outcome
        attempts = claim["attempts"] + 1
        retry_in = delay(self._schedule, attempts)
        if retry_in is None:
            return Refused("handler_failed", outcome.detail)
        self._log.warning(
            "attempt.failed",
            event_id=claim["event_id"],
            attempts=attempts,
            retry_in=round(retry_in, 3),
            detail=redacted(outcome.detail),
        )
        return Failed(outcome.detail, retry_in)

    def _open(self, destination: str) -> int:
        return int(any(breaker.failing for (name, _), breaker in self._breakers.items() if name == destination))

    async def _settle_together(self, attempts: Sequence[Attempted]) -> None:
        """Settle what was done in one transaction; where that fails, and all else, each by itself."""
        done = [each for each in attempts if isinstance(each.outcome, Done)]
        if done:
            try:
                async with self._database.acquire(timeout=ACQUIRE_TIMEOUT) as db, db.transaction():
                    for each in done:
                        await outbox.write(db, await self.worker.settle(each.claim, each.outcome, each.token, db))
                attempts = [each for each in attempts if not isinstance(each.outcome, Done)]
            except Exception as error:  # noqa: BLE001 - as in _settle_in_time, which tells them apart
                self._log.info("outcomes.not_settled_together", outcomes=len(done), error=failures.place(error))
        for each in attempts:
            await self._settle_in_time(each)

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
            await outbox.write(db, await self.worker.settle(claim, outcome, token, db))
            if isinstance(outcome, Refused):
                await self._dead_letter(db, claim, outcome)
        if isinstance(outcome, Done):
            self._log.debug("intent.performed", event_id=claim["event_id"])

    async def _dead_letter(self, db: Connection, claim: asyncpg.Record, refused: Refused) -> None:
        event, headers = await self._event_behind(db, claim)
        error = Rejected(refused.reason, refused.detail)
        await failures.record(db, self.queue, event, headers, error, self._schedule)
        metrics.DEAD.labels(self.queue, refused.reason).inc()
        self._log.error(
            "event.dead_lettered", event_id=event.id, reason=refused.reason, detail=redacted(refused.detail)
        )

    async def _event_behind(self, db: Connection, claim: asyncpg.Record) -> tuple[Event, dict[str, Any]]:
        """The event that the intent came of, to be kept, and replayed, as it was delivered."""
        if hasattr(self.worker, "event_behind"):
            own: Event = self.worker.event_behind(claim)
            return own, own.headers()
        if "event_body" in claim.keys():  # noqa: SIM118 - `in` of a Record looks at its values
            headers: dict[str, Any] = msgspec.json.decode(claim["event_headers"])
            return from_message(headers, claim["event_type"], claim["event_body"]), headers
        row = await db.fetchrow(ARCHIVED, claim["event_id"], claim["account"], claim["livemode"])
        if row is None:
            raise NotArchived(claim["event_id"])
        event = event_of(decode_envelope(row["body"]), row["body"], row["received_at"])
        return event, event.headers()
