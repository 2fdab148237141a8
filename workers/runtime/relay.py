"""The relay: what is in the outbox, published in order and confirmed, then deleted.

One loop for each destination (crm, notifications, quittance, replies), so that a full `crm` queue delays nobody else; of
the replies, whose queues are the CRM's own, one that is full delays nobody else either (workers/runtime/replies.py).
Several relays may run: each claims buckets of streams with advisory locks that belong to its transaction. Chosen, instead of
rows to lock with SKIP LOCKED, because such rows would have to be there, and instead of session locks, because a
transaction's locks end with it whatever happens: a relay that dies loses its connection, one that is cut off is ended by
idle_in_transaction_session_timeout, and a broker that hangs is given PUBLISH_TIMEOUT.

Within a claim, rows go in waves: the first row of every stream together, then the second of those whose first was
confirmed. So a stream stops at the first row that is not confirmed, and nothing of it overtakes. Rows are claimed in one
statement and read in the next: the read's snapshot must be younger than the claim, or a relay would see, and publish
again, rows that another one deleted just before it let go of the bucket.

A relay that dies between publish and delete publishes again: the same id, the same bytes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from aiormq.abc import AbstractChannel

from quittance import broker
from quittance.broker import BrokerAway, NotTaken
from quittance.database import DATABASE_ERRORS, Connection
from quittance.outbox import BUCKETS, STATUS_CHANGED
from workers.runtime import metrics, replies
from workers.runtime.backoff import Backoff
from workers.runtime.batch import ACQUIRE_TIMEOUT, Database
from workers.runtime.held import Held
from workers.runtime.replies import REPLIES

log = structlog.get_logger(__name__)

# Each with a pace of its own; the numbers are half of the advisory locks' keys.
DESTINATIONS: Final = {"crm": 1, "notifications": 2, "quittance": 3, REPLIES: 4}

# MATERIALIZED: the locks are tried only on buckets that hold something, and only until CLAIM_MOST are had, or one relay
# would hold all of them. In random order, or two relays would always begin with the same ones.
CLAIM: Final = """
WITH waiting AS MATERIALIZED (
    SELECT candidate.bucket FROM generate_series(0, $3::integer - 1) AS candidate (bucket)
    WHERE EXISTS (SELECT FROM outbox WHERE outbox.destination = $1 AND outbox.bucket = candidate.bucket)
    ORDER BY random()
)
SELECT bucket::smallint FROM waiting WHERE pg_try_advisory_xact_lock(7202, $2::integer * 1000 + bucket) LIMIT $4
"""
READ: Final = """
SELECT waiting.id, waiting.bucket, waiting.stream, waiting.exchange, waiting.routing_key, waiting.event_id,
       waiting.type, waiting.headers, waiting.body
FROM unnest($2::smallint[]) AS claimed (bucket)
CROSS JOIN LATERAL (
    SELECT id, outbox.bucket, stream, exchange, routing_key, event_id, type, headers, body FROM outbox
    WHERE destination = $1 AND outbox.bucket = claimed.bucket AND outbox.routing_key <> ALL($4::text[])
    ORDER BY id LIMIT $3
) AS waiting
ORDER BY waiting.id
"""
PUBLISHED: Final = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"

# After this many rows at once, the next claim waits a little: each costs a transaction, however few rows it brings.
BUSY: Final = 5
LINGER: Final = 0.01

CLAIM_MOST: Final = 32  # buckets
READ_MOST: Final = 25  # rows of each
PUBLISH_TIMEOUT: Final = 5.0
# Should a notification be missed (it is not stored), this is how long a change waits, in seconds.
POLL: Final = 2.0
CLOUD_EVENTS: Final = "application/cloudevents+json"

Trouble = BrokerAway | NotTaken
Send = Callable[[AbstractChannel, asyncpg.Record], Awaitable[Trouble | None]]


class Relay:
    """Publishes the rows of one destination until `stopping` is set, whatever goes down and comes back meanwhile."""

    def __init__(self, destination: str, database: Database, amqp_url: str, stopping: asyncio.Event) -> None:
        self.destination = destination
        self.name = f"relay {destination}"
        self.ready = False
        self.busy_since: float | None = None
        self._database = database
        self._url = amqp_url
        self._stopping = stopping
        self._woken = asyncio.Event()
        self._held = Held()
        self._log = log.bind(destination=destination)

    def wake(self) -> None:
        """There may be something to publish."""
        self._woken.set()

    async def run(self) -> None:
        """Connect, publish what there is, wait for more; and connect again."""
        pause = Backoff()
        while not self._stopping.is_set():
            try:
                async with broker.connected(self._url, self.name) as connection:
                    channel = await broker.open_channel(connection, confirms=True)
                    self.ready = True
                    await self._publish_all(channel, pause)
            except (BrokerAway, *DATABASE_ERRORS) as error:
                self._log.warning("outbox.away", error=f"{type(error).__name__}: {error}")
                await pause.wait(self._stopping)
            finally:
                self.ready = False

    async def _publish_all(self, channel: AbstractChannel, pause: Backoff) -> None:
        while not self._stopping.is_set():
            # Before the claim: what is written after the claim's snapshot rings again.
            self._woken.clear()
            self.busy_since = time.monotonic()
            try:
                async with self._database.acquire(timeout=ACQUIRE_TIMEOUT) as db:
                    published = await publish_claim(db, channel, self.destination, self._held)
            except NotTaken as error:
                # The CRM's queue is full, or its exchange lost its binding: this destination waits, nobody else does.
                self._log.warning("outbox.refused", error=str(error))
                await pause.wait(self._stopping)
                continue
            finally:
                self.busy_since = None
            pause.reset()
            if published == 0:
                await self._wait(channel)
            elif published >= BUSY:
                await asyncio.sleep(LINGER)

    async def _wait(self, channel: AbstractChannel) -> None:
        try:
            async with asyncio.timeout(POLL):
                await self._woken.wait()
        except TimeoutError:
            if channel.is_closed:
                raise BrokerAway("the channel was lost") from None


async def publish_claim(db: Connection, channel: AbstractChannel, destination: str, held: Held | None = None) -> int:
    """Claim, publish and delete once; returns how many rows were published.

    Raises NotTaken or BrokerAway where some were not, after deleting those that were; of the replies only where it is
    the broker that is lost: a queue that does not take them is `held`.
    """
    held = held or Held()
    send = partial(replies.publish, held=held) if destination == REPLIES else publish
    async with db.transaction():
        claimed = await db.fetch(CLAIM, destination, DESTINATIONS[destination], BUCKETS, CLAIM_MOST)
        if not claimed:
            return 0
        rows = await db.fetch(READ, destination, [row["bucket"] for row in claimed], READ_MOST, held.now())
        confirmed, trouble = await publish_in_waves(channel, rows, send)
        if confirmed:
            await db.execute(PUBLISHED, [row["id"] for row in confirmed])
    metrics.RELAYED.labels(destination).inc(len(confirmed))
    for row in confirmed:
        log.debug("outbox.relayed", destination=destination, event_id=row["event_id"], stream=row["stream"])
    if trouble is not None:
        metrics.REFUSED.labels(destination).inc()
        if destination != REPLIES or channel.is_closed:
            raise trouble
    return len(confirmed)


async def publish_in_waves(
    channel: AbstractChannel, rows: Sequence[asyncpg.Record], send: Send
) -> tuple[list[asyncpg.Record], Trouble | None]:
    """Publish rows (in order of id) so that each stream keeps its order; those confirmed, and the last trouble."""
    streams: dict[tuple[int, str], list[asyncpg.Record]] = {}
    for row in rows:
        streams.setdefault((row["bucket"], row["stream"]), []).append(row)
    confirmed: list[asyncpg.Record] = []
    trouble: Trouble | None = None
    wave = list(streams.values())
    position = 0
    while wave:
        answers = await asyncio.gather(*(send(channel, stream[position]) for stream in wave))
        going_on = []
        for stream, answer in zip(wave, answers, strict=True):
            if answer is not None:
                trouble = answer
                continue
            confirmed.append(stream[position])
            if len(stream) > position + 1:
                going_on.append(stream)
        # A broker that does not answer is not asked once more for every wave that is left.
        wave = [] if isinstance(trouble, BrokerAway) else going_on
        position += 1
    return confirmed, trouble


async def publish(channel: AbstractChannel, row: asyncpg.Record) -> Trouble | None:
    """Publish one row; None once it is confirmed, else why it was not."""
    headers: dict[str, Any] = msgspec.json.decode(row["headers"])
    if row["type"] == STATUS_CHANGED:
        about = broker.properties(headers | cloud_event_headers(row["body"]), row["type"], CLOUD_EVENTS)
    else:
        about = broker.properties(headers, row["type"])
    try:
        await broker.publish(channel, row["exchange"], row["routing_key"], row["body"], about, PUBLISH_TIMEOUT)
    except (BrokerAway, NotTaken) as trouble:
        return trouble
    _measure(headers, row["exchange"] or row["routing_key"])
    return None


_attributes = msgspec.json.Decoder(dict[str, msgspec.Raw])


def cloud_event_headers(body: bytes) -> dict[str, str]:
    """The text attributes of a CloudEvent in structured JSON, as `ce-…` headers."""
    texts = {name: bytes(raw) for name, raw in _attributes.decode(body).items()}
    return {f"ce-{name}": msgspec.json.decode(raw, type=str) for name, raw in texts.items() if raw.startswith(b'"')}


def _measure(headers: dict[str, Any], to: str) -> None:
    now = time.time()
    if received := headers.get("received-at"):
        metrics.ACCEPTED_LAG.labels(to).observe(max(0.0, now - float(received)))
    if created := headers.get("created"):
        metrics.CREATED_LAG.labels(to).observe(max(0.0, now - float(created)))
