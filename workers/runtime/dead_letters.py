"""What the broker gave up: messages that ended their worker's process until the delivery limit was reached.

They come to the queue `dead-letters`. Each is filed in failed_deliveries and sent to its own queue once more, to be tried
alone (header `last-try`); one that comes here a second time is dead. The consumer itself gives a last try no third
chance: see Consumer.settle_alone.
"""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import structlog

from quittance.broker import DEAD_LETTERS, BrokerAway
from quittance.database import DATABASE_ERRORS, Connection
from quittance.wire import Delivery
from workers.runtime import batch, failures, metrics
from workers.runtime.backoff import Backoff
from workers.runtime.batch import Database
from workers.runtime.intake import OURS, Intake
from workers.runtime.subscription import subscribed
from workers.runtime.unreadable import event_in

log = structlog.get_logger(__name__)

FILE: Final = """
INSERT INTO failed_deliveries (queue, account, livemode, event_id, type, quote_id, state, reason, error, next_at, body,
                               headers)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'crashed_worker', $8, CASE $7 WHEN 'retrying' THEN now() END, $9, $10)
ON CONFLICT (queue, account, livemode, event_id) DO UPDATE SET
    state = excluded.state, reason = excluded.reason, error = excluded.error, traceback = '', fingerprint = '',
    next_at = excluded.next_at, last_failed_at = now()
RETURNING id
"""
PREFETCH: Final = 20
LONGEST: Final = 16 << 20  # bytes of a body; nothing of ours comes near it
OURS_ALL: Final[Mapping[str, Intake]] = MappingProxyType({})


async def consume(
    database: Database, amqp_url: str, stopping: asyncio.Event, intakes: Mapping[str, Intake] = OURS_ALL
) -> None:
    """File what comes to `dead-letters`, until `stopping` is set; `intakes`: of the queues that it may come from."""
    pause = Backoff()
    while not stopping.is_set():
        try:
            async with subscribed(
                amqp_url, DEAD_LETTERS, "relay dead-letters", stopping, Intake(longest=LONGEST)
            ) as subscription:
                await subscription.consume(PREFETCH)
                while taken := await subscription.take(1):
                    async with database.acquire(timeout=batch.ACQUIRE_TIMEOUT) as db:
                        await file(db, await _prepared(taken[0], db, intakes))
                    await subscription.ack(taken[0].tag, multiple=True)
                    pause.reset()
        except (BrokerAway, *DATABASE_ERRORS) as error:
            # Unsettled, it comes again: this queue gives nothing up.
            log.warning("dead_letters.away", error=f"{type(error).__name__}: {error}")
            await pause.wait(stopping)


async def _prepared(delivery: Delivery, db: Connection, intakes: Mapping[str, Intake]) -> Delivery:
    """As its own queue's worker would have it: above all, without a token."""
    intake = intakes.get(came_from(delivery.headers), OURS)
    if intake.prepare is None:
        return delivery
    (prepared,) = await intake.prepare([delivery], db)
    # What the broker says of its death is the message's still.
    return prepared._replace(headers={"x-death": delivery.headers.get("x-death"), **prepared.headers})


async def file(db: Connection, delivery: Delivery) -> None:
    """Enter one message that the broker gave up, in a transaction of its own."""
    queue = came_from(delivery.headers)
    event = event_in(delivery)
    given_up = bool(delivery.headers.get(failures.LAST_TRY))
    async with db.transaction():
        row_id: int = await db.fetchval(
            FILE,
            queue,
            event.account,
            event.livemode,
            event.id,
            event.type,
            failures.quote_id_in(event.body),
            "dead" if given_up else "retrying",
            "the process that handled it ended each time, until the broker gave it up",
            event.body,
            failures.encode(delivery.headers),
        )
        action = "dead_lettered" if given_up else "given_up_by_broker"
        await db.execute(failures.REMEMBER, row_id, "relay", action, "crashed_worker")
    if given_up:
        metrics.DEAD.labels(queue, "crashed_worker").inc()
        log.error("event.dead_lettered", queue=queue, event_id=event.id, reason="crashed_worker")
    else:
        log.warning("event.given_up_by_broker", queue=queue, event_id=event.id)


def came_from(headers: Mapping[str, Any]) -> str:
    """The queue that a dead-lettered message was in: the newest entry of the broker's own record stands first."""
    deaths = headers.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], Mapping):
        return failures.storable(str(deaths[0].get("queue", "unknown")), 255)
    return failures.storable(str(headers.get("x-first-death-queue", "unknown")), 255)
