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
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple

import asyncpg
import structlog

from quittance.broker import BrokerAway, NotTaken
from quittance.database import DATABASE_ERRORS, Connection
from quittance.outbox import BUCKETS
from workers.runtime import metrics, replies
from workers.runtime.backoff import Backoff
from workers.runtime.batch import ACQUIRE_TIMEOUT, Database
from workers.runtime.held import Held
from workers.runtime.listener import EVERYTHING
from workers.runtime.outlet import Outlet, Trouble, events_outlet
from workers.runtime.pace import next_begin
from workers.runtime.replies import REPLIES

log = structlog.get_logger(__name__)

# Each with a pace of its own; the numbers are half of the advisory locks' keys.
DESTINATIONS: Final = {"crm": 1, "notifications": 2, "quittance": 3, REPLIES: 4}

# Which buckets hold something, for who was not told: each is looked at, which costs more than a claim.
WAITING: Final = """
SELECT candidate.bucket FROM generate_series(0, $2::integer - 1) AS candidate (bucket)
WHERE EXISTS (SELECT FROM outbox WHERE outbox.destination = $1 AND outbox.bucket = candidate.bucket)
"""
# A bucket that another relay holds is left to it: whatever rang here rang there, before its read or for its next claim.
CLAIM: Final = """
SELECT bucket FROM unnest($2::smallint[]) AS wanted (bucket)
WHERE pg_try_advisory_xact_lock(7202, $1::integer * 1000 + bucket)
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

# Seconds from one claim to the next at least: each costs a transaction, however few rows it brings. A lone row never waits.
PACE: Final = 0.01
AT_LEISURE: Final = 0.025
PACES: Final = {"notifications": AT_LEISURE}

CLAIM_MOST: Final = 32  # buckets
READ_MOST: Final = 25  # rows of each
# Should a notification be missed (it is not stored), or a queue of others take again what it refused, this is how long a
# row waits, in seconds.
POLL: Final = 2.0


class Published(NamedTuple):
    """What a claim came to."""

    rows: int
    left: frozenset[int]  # buckets that may hold more: what is committed later rings, these would not


NOTHING: Final = Published(0, frozenset())


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
        self._rung: set[int] = set()  # buckets that something was committed in
        self._look_everywhere_at = 0.0  # monotonic
        self._held = Held()
        self._log = log.bind(destination=destination)

    def wake(self, said: str = EVERYTHING) -> None:
        """There may be something to publish, in the buckets that are named; EVERYTHING: anywhere."""
        if said == EVERYTHING:
            self._look_everywhere_at = 0.0
        self._rung.update(map(int, said.split()))
        self._woken.set()

    async def run(self) -> None:
        """Connect, publish what there is, wait for more; and connect again."""
        pause = Backoff()
        while not self._stopping.is_set():
            self.busy_since = time.monotonic()
            try:
                async with self._outlet() as outlet:
                    self.ready = True
                    await self._publish_all(outlet, pause)
            except (BrokerAway, *DATABASE_ERRORS) as error:
                self.busy_since = None
                self._look_everywhere_at = 0.0
                self._log.warning("outbox.away", error=f"{type(error).__name__}: {error}")
                await pause.wait(self._stopping)
            finally:
                self.ready = False

    def _outlet(self) -> AbstractAsyncContextManager[Outlet]:
        if self.destination == REPLIES:
            return replies.outlet(self._url, self.name, self._held)
        return events_outlet(self._url, self.name)

    async def _publish_all(self, outlet: Outlet, pause: Backoff) -> None:
        while not self._stopping.is_set():
            # Before the claim: what is written after the claim's snapshot rings again.
            self._woken.clear()
            began = self.busy_since = time.monotonic()
            try:
                async with self._database.acquire(timeout=ACQUIRE_TIMEOUT) as db:
                    wanted = await self._wanted(db)
                    published = await publish_claim(db, outlet, self.destination, wanted) if wanted else NOTHING
            except NotTaken as error:
                # The CRM's queue is full, or its exchange lost its binding: this destination waits, nobody else does. Then
                # on another channel: one that first published to a queue without leader may refuse for good (see
                # ingest/connection.py).
                self._log.warning("outbox.refused", error=str(error))
                self._look_everywhere_at = 0.0
                await pause.wait(self._stopping)
                return
            finally:
                self.busy_since = None
            pause.reset()
            self._rung |= published.left
            begin = next_begin(began, time.monotonic(), PACES.get(self.destination, PACE))
            if not published.left:
                await self._wait(outlet)
                await asyncio.sleep(begin - time.monotonic())

    async def _wanted(self, db: Connection) -> list[int]:
        """The buckets to claim now, CLAIM_MOST of them, so that other relays have some too; the others stay rung."""
        now = time.monotonic()
        if now >= self._look_everywhere_at:
            self._rung.update(row[0] for row in await db.fetch(WAITING, self.destination, BUCKETS))
            self._look_everywhere_at = now + POLL
        # At random, or two relays would always begin with the same ones.
        wanted = random.sample(sorted(self._rung), min(CLAIM_MOST, len(self._rung)))
        self._rung.difference_update(wanted)
        return wanted

    async def _wait(self, outlet: Outlet) -> None:
        if self._rung:
            return
        try:
            async with asyncio.timeout(POLL):
                await self._woken.wait()
        except TimeoutError:
            if outlet.lost:
                raise BrokerAway(outlet.lost) from None


async def publish_claim(db: Connection, outlet: Outlet, destination: str, wanted: Sequence[int]) -> Published:
    """Claim some buckets, publish and delete once; how many rows were published, and which buckets may hold more.

    Raises NotTaken or BrokerAway where some were not, after deleting those that were; of the replies only where it is
    the broker that is lost: a queue that does not take them is `held`.
    """
    async with db.transaction():
        claimed = [row[0] for row in await db.fetch(CLAIM, DESTINATIONS[destination], wanted)]
        if not claimed:
            return NOTHING
        rows = await db.fetch(READ, destination, claimed, READ_MOST, outlet.passed_over())
        confirmed, trouble = await publish_in_waves(outlet, rows)
        if confirmed:
            await db.execute(PUBLISHED, [row["id"] for row in confirmed])
    metrics.RELAYED.labels(destination).inc(len(confirmed))
    for row in confirmed:
        log.debug("outbox.relayed", destination=destination, event_id=row["event_id"], stream=row["stream"])
    if trouble is not None:
        metrics.REFUSED.labels(destination).inc()
        if destination != REPLIES or outlet.lost:
            raise trouble
    full = Counter(row["bucket"] for row in rows)
    return Published(len(confirmed), frozenset(bucket for bucket, number in full.items() if number >= READ_MOST))


async def publish_in_waves(
    outlet: Outlet, rows: Sequence[asyncpg.Record]
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
        answers = await outlet.publish([stream[position] for stream in wave])
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
