"""Failed deliveries that are due, sent to their own queue again: retries, replays, and last tries."""

import asyncio
from typing import Any, Final

import asyncpg
import msgspec
import structlog

from quittance import wire
from quittance.broker import BrokerAway, NotTaken
from quittance.database import DATABASE_ERRORS, Connection
from quittance.wire import Wire
from workers.runtime import failures, metrics
from workers.runtime.backoff import Backoff, pause_unless
from workers.runtime.batch import ACQUIRE_TIMEOUT, Database

log = structlog.get_logger(__name__)

# Two relays share what is due. One that dies before its commit publishes again: a duplicate, which the inbox tells apart.
DUE: Final = """
SELECT id, queue, state, reason, type, event_id, replay_id, headers, body FROM failed_deliveries
WHERE state IN ('retrying', 'replaying') AND next_at <= now()
ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""
SENT: Final = "UPDATE failed_deliveries SET next_at = NULL WHERE id = ANY($1::bigint[])"
# A queue that is full, or gone, keeps its own rows waiting and nobody else's.
POSTPONED: Final = """
UPDATE failed_deliveries SET next_at = now() + interval '30 seconds' WHERE id = ANY($1::bigint[])
"""

# The throttle: at most so many every PAUSE, so that a replay of 100,000 leaves room for new events.
MOST: Final = 100
PAUSE: Final = 0.25
PUBLISH_TIMEOUT: Final = 5.0


async def run(database: Database, amqp_url: str, stopping: asyncio.Event) -> None:
    """Send what is due, until `stopping` is set."""
    pause = Backoff()
    while not stopping.is_set():
        try:
            async with wire.connected(amqp_url, "relay redelivery", confirms=True) as channel:
                refused = 0
                # After a refusal on another channel: why, is said in ingest/connection.py.
                while not stopping.is_set() and not refused:
                    async with database.acquire(timeout=ACQUIRE_TIMEOUT) as db:
                        sent, refused = await send_due(db, channel)
                    pause.reset()
                    await pause_unless(stopping, PAUSE if sent else 4 * PAUSE)
        except (BrokerAway, *DATABASE_ERRORS) as error:
            log.warning("redelivery.away", error=f"{type(error).__name__}: {error}")
            await pause.wait(stopping)


async def send_due(db: Connection, channel: Wire) -> tuple[int, int]:
    """Send up to MOST rows, each confirmed, in one transaction; how many were taken, and refused. Raises BrokerAway."""
    async with db.transaction():
        rows = await db.fetch(DUE, MOST)
        if not rows:
            return 0, 0
        taken = await asyncio.gather(*(_send(channel, row) for row in rows))
        sent = [row["id"] for row, was_taken in zip(rows, taken, strict=True) if was_taken]
        refused = [row["id"] for row, was_taken in zip(rows, taken, strict=True) if not was_taken]
        await db.execute(SENT, sent)
        if refused:
            await db.execute(POSTPONED, refused)
    return len(sent), len(refused)


async def _send(channel: Wire, row: asyncpg.Record) -> bool:
    try:
        await channel.publish("", row["queue"], row["body"], headers_of(row), row["type"], PUBLISH_TIMEOUT)
    except NotTaken as error:
        log.warning("event.not_sent_again", queue=row["queue"], event_id=row["event_id"], error=str(error))
        return False
    metrics.REDELIVERED.labels(row["queue"]).inc()
    log.info("event.sent_again", queue=row["queue"], event_id=row["event_id"], replay_id=row["replay_id"])
    return True


def headers_of(row: asyncpg.Record) -> dict[str, Any]:
    """The headers to send a row with: its own, whose row it is, and why it is sent."""
    headers: dict[str, Any] = msgspec.json.decode(row["headers"])
    headers[failures.FAILED_DELIVERY_ID] = row["id"]
    if row["state"] == "replaying" and row["replay_id"]:
        headers[failures.REPLAY_ID] = row["replay_id"]
    if row["reason"] == "crashed_worker":
        headers[failures.LAST_TRY] = True
    return headers
