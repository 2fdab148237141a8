"""What workers do outside of Postgres: intents claimed under a lease, performed outside any transaction, then settled.

`handle` records the intent, this loop carries it out. A process that dies leaves a lease behind, which runs out; the
intent is then performed again with the same idempotency key or Message-ID. A destination that is down or limits us is
left alone (workers/runtime/breaker.py), no attempt is counted, and everything else goes on.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, cast
from uuid import UUID, uuid4

import asyncpg
import structlog

from quittance.database import DATABASE_ERRORS
from workers.runtime import failures, metrics
from workers.runtime.backoff import Backoff, delay, pause_unless
from workers.runtime.batch import ACQUIRE_TIMEOUT, Database
from workers.runtime.breaker import Breaker
from workers.runtime.outcomes import Attempted, Failed, Outcome, Refused, Unavailable
from workers.runtime.settling import Settles, Settling, redacted

log = structlog.get_logger(__name__)

CLAIM_MOST: Final = 20
# So many places have to be free before more is claimed, or as many as are after a moment: not a statement for each.
HALF: Final = CLAIM_MOST // 2
# Below the lease, which has to last for the settling too (workers/runtime/settling.py).
PERFORM_TIMEOUT: Final = 20.0
# Should a notification be missed, and for what comes due by itself (seconds).
POLL: Final = 1.0
# What ends within this time (seconds) is settled together, where the worker can.
GATHER: Final = 0.01


class Performs(Settles, Protocol):
    """A worker's module that acts on the outside world (see interfaces in workers/notifications.py)."""

    CLAIM: str

    def outside(self) -> AbstractAsyncContextManager[Any]:
        """What `perform` needs: a client, its settings."""

    def destination(self, claim: asyncpg.Record) -> tuple[str, str]:
        """Whose availability an attempt says something about."""

    def perform(self, claim: asyncpg.Record, outside: Any) -> Awaitable[Outcome]:
        """One attempt; repeating it has no second effect."""


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
        self._running: dict[asyncio.Task[None], float] = {}  # what was claimed together, with the moment of the claim
        self._free = CLAIM_MOST
        self._room = asyncio.Event()
        self._more = False  # whether the last claim may have left something
        self._settling = Settling(worker, database, schedule)
        self._settling_one = asyncio.Lock()  # else many that end one by one would take every connection
        self._gather = GATHER if hasattr(worker, "settle_together") else 0.0
        self._log = log.bind(queue=self.queue)

    @property
    def busy_since(self) -> float | None:
        """When the oldest of what is under way began: the claim, an attempt with its settling."""
        return min((*self._running.values(), *([] if self._claiming is None else [self._claiming])), default=None)

    def wake(self, _said: str = "") -> None:
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
                    await self._claim(outside, self._free)
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
        """Return when there may be something to claim and places for it: half of them, or what is free after a moment."""
        if not self._more:
            await pause_unless(self._woken, POLL)
        while self._free < HALF:
            self._room.clear()
            await pause_unless(self._room, GATHER)
            if self._free:
                return

    async def _claim(self, outside: Any, most: int) -> None:
        """Claim what is due, up to `most`, and begin to perform it."""
        token, claimed_at = uuid4(), time.monotonic()
        async with self._database.acquire(timeout=ACQUIRE_TIMEOUT) as db:
            claims = await db.fetch(self.worker.CLAIM, token, most)
        self._more = len(claims) == most
        if claims:
            self._free -= len(claims)
            task = asyncio.create_task(self._perform_all(claims, outside, token, claimed_at))
            self._running[task] = claimed_at
            task.add_done_callback(self._running.pop)

    async def _perform_all(
        self, claims: Sequence[asyncpg.Record], outside: Any, token: UUID, claimed_at: float
    ) -> None:
        """Perform what was claimed together, side by side, and settle together what ends together."""
        attempts = {asyncio.create_task(self._perform(claim, outside, token, claimed_at)) for claim in claims}
        try:
            while attempts:
                ended, attempts = await asyncio.wait(attempts, return_when=asyncio.FIRST_COMPLETED)
                if attempts:
                    also, attempts = await asyncio.wait(attempts, timeout=self._gather)
                    ended |= also
                try:
                    async with self._settling_one:
                        await self._settling.settle([each.result() for each in ended if not self._raised(each)])
                finally:
                    self._make_room(len(ended))
        finally:
            for attempt in attempts:
                attempt.cancel()
            self._make_room(len(attempts))

    def _make_room(self, places: int) -> None:
        self._free += places
        if self._free >= HALF:
            self._room.set()

    def _raised(self, attempt: asyncio.Task[Attempted]) -> bool:
        """Whether not even an outcome came of it: its lease runs out, and it is claimed again."""
        if (error := attempt.exception()) is None:
            return False
        self._log.error("attempt.lost", error=failures.place(error))
        return True

    async def _perform(self, claim: asyncpg.Record, outside: Any, token: UUID, claimed_at: float) -> Attempted:
        where = self.worker.destination(claim)
        breaker = self._breakers[where]
        if pause := breaker.wait():
            outcome: Outcome = Unavailable(f"{'/'.join(filter(None, where))} is being left alone", pause)
        else:
            breaker.begin()
            outcome = self._judge(await self._attempt(claim, outside), claim, breaker)
            metrics.PERFORMED.labels(self.queue, type(outcome).__name__.lower()).inc()
            metrics.BREAKER_OPEN.labels(self.queue, where[0]).set(self._open(where[0]))
        return Attempted(claim, outcome, token, claimed_at)

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
