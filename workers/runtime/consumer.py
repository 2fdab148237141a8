"""The consumer: one loop for one queue. What becomes of an event is decided here and nowhere else.

| what happened                     | what the runtime does                                                          |
|-----------------------------------|--------------------------------------------------------------------------------|
| handled                           | inbox, state and outbox commit; then ack                                       |
| handled before by this queue      | ack (and a row that was waiting for a retry is resolved)                       |
| `Rejected(reason)`                | row in failed_deliveries, state dead; ack                                      |
| serialisation failure, deadlock,  | the batch again at once, no attempt is counted                                 |
|   lock timeout                    |                                                                                |
| too much for one transaction      | the batch one by one, no attempt is counted                                    |
| Postgres or the broker away, disk | stop consuming, wait with jitter, go on; no attempt is counted, nothing is     |
|   full, read-only                 |   dead-lettered                                                                |
| any other exception               | row with attempt and time of the next; ack; the relay sends it again when due; |
|                                   |   after the last, state dead                                                   |
| returned twice or more, unsettled | that message alone, marked in failed_deliveries before it is tried; if the     |
|                                   |   process dies on it again and again, the broker's limit moves it to           |
|                                   |   dead-letters (see workers/runtime/dead_letters.py)                           |
| shutdown                          | stop taking, finish the batch or roll it back; what was not acked comes again  |

Traps for handlers, which see a batch as one: the same key twice in one ON CONFLICT DO UPDATE raises, so fold per key
first; insert and lock in sorted order of keys, or two workers deadlock; a batch that fails is rolled back and run again
one by one, so a handler has no effect but through `db`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

import asyncpg
import structlog

from quittance.broker import BrokerAway, Queue
from quittance.database import DATABASE_ERRORS, Connection
from quittance.errors import Rejected
from quittance.event import Event, from_message
from quittance.wire import Delivery
from workers.runtime import batch, failures, metrics, quarantine
from workers.runtime.backoff import Backoff, pause_unless
from workers.runtime.batch import Database, Handler
from workers.runtime.classify import Meaning, meaning
from workers.runtime.intake import OURS, Intake
from workers.runtime.subscription import Subscription, subscribed
from workers.runtime.unreadable import event_in

T = TypeVar("T")

log = structlog.get_logger(__name__)

# A batch that lost this many races in a row goes one by one: its neighbours may want the same rows in another order.
RACES: Final = 3
# A lone event on which Postgres keeps silent that often, while it answers everybody else, is itself at fault.
SILENCES: Final = 3
# Returned unsettled this often, a message is suspected of killing its process; once happens at any restart.
SUSPECT: Final = 2

PROBE: Final = "SELECT 1"


class Stopped(Exception):
    """The process is to stop, and the batch in hand cannot be finished."""


class Consumer:
    """Consumes one queue until `stopping` is set, whatever goes down and comes back meanwhile."""

    def __init__(  # noqa: PLR0917
        self,
        queue: Queue,
        handle: Handler,
        database: Database,
        amqp_url: str,
        schedule: Sequence[float],
        stopping: asyncio.Event,
        intake: Intake = OURS,
    ) -> None:
        self.queue = queue.name
        self.name = queue.name
        self.ready = False
        self.busy_since: float | None = None
        self._handle = handle
        self._database = database
        self._url = amqp_url
        self._schedule = schedule
        self._stopping = stopping
        self._intake = intake
        self._in_order = queue.in_order
        self._patience = Backoff(first=0.2)  # with Postgres
        self._log = log.bind(queue=queue.name)

    async def run(self) -> None:
        """Connect, consume, and connect again; returns when `stopping` is set and the batch in hand is done."""
        pause = Backoff()
        while not self._stopping.is_set():
            try:
                # Messages are not even taken while Postgres is away: each time a channel closes over unsettled
                # messages, the broker counts that against them.
                await self._wait_for_database()
                name = f"worker {self.queue}"
                async with subscribed(
                    self._url, self.queue, name, self._stopping, self._intake, self._in_order
                ) as subscription:
                    await self._consume(subscription, pause)
            except Stopped:
                return
            except BrokerAway as error:
                self._log.warning("broker.lost", error=str(error))
                await pause.wait(self._stopping)
            finally:
                self._set_consuming(False)

    async def _consume(self, subscription: Subscription, pause: Backoff) -> None:
        if (prepare := self._intake.prepare) is not None:
            subscription.prepare = lambda taken: self._on_database(lambda db: prepare(taken, db), subscription)
        marks = await self._on_database(lambda db: failures.marked(db, self.queue), subscription)
        await quarantine.pass_through(self, subscription, marks)
        await subscription.consume(2 * self._intake.batch)
        self._set_consuming(True)
        self._log.info("queue.consuming")
        while deliveries := await subscription.take(self._intake.batch):
            pause.reset()
            await self.settle(deliveries, subscription)
        await subscription.flush()

    async def settle(
        self, deliveries: Sequence[Delivery], subscription: Subscription, *, multiple: bool = True
    ) -> None:
        """Bring every delivery of a batch to one of the ends in the table, and ack; with `multiple`, every lower tag
        too, which is right when batches are taken in order and one at a time. Raises BrokerAway, Stopped.
        """
        self.busy_since = time.monotonic()
        try:
            for group, suspect in grouped(deliveries):
                if suspect:
                    await self.settle_alone(group[0], subscription)
                else:
                    await self._run_group(group, subscription)
                await subscription.ack(group[-1].tag, multiple=multiple)
        finally:
            self.busy_since = None

    async def settle_alone(self, delivery: Delivery, subscription: Subscription) -> None:
        """Run one suspect, marked and committed before; the caller acks. Raises BrokerAway, Stopped."""
        event = event_in(delivery)
        tried = await self._on_database(
            lambda db: failures.mark(db, self.queue, event, delivery.headers, delivery.message_id), subscription
        )
        self._log.warning("event.tried_alone", event_id=event.id, returned=delivery.returned)
        if tried and delivery.headers.get(failures.LAST_TRY):
            # It was sent once more after the broker had given it up, and ended the process again.
            await self._record(
                delivery, event, Rejected("crashed_worker", "the process ended on it again"), subscription
            )
        else:
            await self._run_group([delivery], subscription)

    async def _run_group(self, deliveries: Sequence[Delivery], subscription: Subscription) -> None:
        """Run deliveries as one batch; where that fails, one by one; where one fails alone, record it."""
        self.busy_since = time.monotonic()
        try:
            events = [from_message(delivery.headers, delivery.type, delivery.body) for delivery in deliveries]
        except Rejected as error:
            if len(deliveries) == 1:
                await self._record(deliveries[0], event_in(deliveries[0]), error, subscription)
            else:
                await self._one_by_one(deliveries, subscription)
            return
        races = silences = 0
        alone = len(events) == 1
        while True:
            try:
                await self._run(events)
                return
            except Exception as error:  # noqa: BLE001 - whatever a handler raises has its row in the table above
                verdict = meaning(error, alone=alone)
                if verdict is Meaning.AWAY:
                    await self._wait_for_database(subscription, error)
                    silences += isinstance(error, TimeoutError)
                    if silences < SILENCES:
                        continue
                    verdict = Meaning.FAILED
                if verdict is Meaning.AGAIN:
                    races += 1
                    metrics.AGAIN.labels(self.queue).inc()
                    if alone or races < RACES:
                        await pause_unless(self._stopping, min(0.01 * races, 1.0) if races > 1 else 0)
                        continue
                if alone:
                    await self._record(deliveries[0], events[0], error, subscription)
                    return
            await self._one_by_one(deliveries, subscription)
            return

    async def _one_by_one(self, deliveries: Sequence[Delivery], subscription: Subscription) -> None:
        for delivery in deliveries:
            await self._run_group([delivery], subscription)

    async def _run(self, events: Sequence[Event]) -> None:
        began = time.perf_counter()
        handled = await batch.run(self._database, self.queue, self._handle, events)
        metrics.HANDLER_SECONDS.labels(self.queue).observe(time.perf_counter() - began)
        self._patience.reset()
        self._report(handled)

    async def _record(self, delivery: Delivery, event: Event, error: BaseException, subscription: Subscription) -> None:
        recorded = await self._on_database(
            lambda db: failures.record(db, self.queue, event, delivery.headers, error, self._schedule), subscription
        )
        about = {"event_id": event.id, "type": event.type, "quote_id": failures.quote_id_in(event.body)}
        reason = error.reason if isinstance(error, Rejected) else "handler_failed"
        # What the error says may hold pieces of a payload: that is for failed_deliveries, never for the log.
        said = {"error": failures.place(error), "attempts": recorded.attempts, **about}
        if recorded.retry_in is None:
            metrics.DEAD.labels(self.queue, reason).inc()
            self._log.error("event.dead_lettered", reason=reason, **said)
        else:
            metrics.RETRIED.labels(self.queue).inc()
            self._log.warning("event.retried", retry_in=round(recorded.retry_in, 3), **said)

    async def _on_database(self, write: Callable[[Connection], Awaitable[T]], subscription: Subscription) -> T:
        """Do something apart from a batch (mark, record); until it is done, a delivery may neither be tried nor acked."""
        while True:
            try:
                async with self._database.acquire(timeout=batch.ACQUIRE_TIMEOUT) as db:
                    return await write(db)
            except DATABASE_ERRORS as trouble:
                await self._wait_for_database(subscription, trouble)

    def _report(self, handled: batch.Handled) -> None:
        metrics.BATCH.labels(self.queue).observe(len(handled.fresh) + len(handled.duplicates))
        metrics.HANDLED.labels(self.queue).inc(len(handled.fresh))
        metrics.DUPLICATES.labels(self.queue).inc(len(handled.duplicates))
        now, lag = time.time(), metrics.HANDLED_LAG.labels(self.queue)
        for event in handled.fresh:
            lag.observe(max(0.0, now - event.received_at))
        if self._log.is_enabled_for(logging.DEBUG):
            for name, events in (("event.handled", handled.fresh), ("event.duplicate", handled.duplicates)):
                for event in events:
                    self._log.debug(name, event_id=event.id, type=event.type, quote_id=failures.quote_id_in(event.body))

    async def _wait_for_database(
        self, subscription: Subscription | None = None, trouble: BaseException | None = None
    ) -> None:
        """Return when Postgres answers again. Raises BrokerAway when the channel is lost meanwhile, Stopped."""
        pause = self._patience
        if trouble is not None:
            self._log.warning("database.away", error=f"{type(trouble).__name__}: {trouble}")
            self._set_consuming(False)
            if isinstance(trouble, asyncpg.ReadOnlySQLTransactionError):
                # A primary that has become a standby would keep our connections for ever.
                await self._database.expire_connections()
            await pause.wait(self._stopping)
            self._still_waiting()
        while not self._stopping.is_set():
            if subscription is not None and subscription.lost:
                raise BrokerAway("the channel was lost while the database was away")
            try:
                async with self._database.acquire(timeout=batch.ACQUIRE_TIMEOUT) as db:
                    await db.execute(PROBE, timeout=batch.ACQUIRE_TIMEOUT)
            except DATABASE_ERRORS as error:
                trouble = error
                self._log.info("database.away", error=f"{type(error).__name__}: {error}")
                await pause.wait(self._stopping)
                self._still_waiting()
            else:
                self._set_consuming(subscription is not None)
                return
        raise Stopped

    def _still_waiting(self) -> None:
        """A batch that waits for Postgres is not stuck, however long."""
        if self.busy_since is not None:
            self.busy_since = time.monotonic()

    def _set_consuming(self, consuming: bool) -> None:
        self.ready = consuming
        metrics.CONSUMING.labels(self.queue).set(consuming)


def grouped(deliveries: Iterable[Delivery]) -> Iterable[tuple[list[Delivery], bool]]:
    """Deliveries in order, cut so that each suspect stands alone (True)."""
    group: list[Delivery] = []
    for delivery in deliveries:
        if delivery.returned < SUSPECT and not delivery.headers.get(failures.LAST_TRY):
            group.append(delivery)
            continue
        if group:
            yield group, False
            group = []
        yield [delivery], True
    if group:
        yield group, False
