"""A replay of failed deliveries: marked in one transaction, sent by the relay when due, watched until it has an end."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import msgspec

from quittance.event import Event, from_message
from quittance.locks import Connection

REPLAYABLE: Final = ("dead", "retrying", "replaying", "discarded")

LOAD: Final = """
SELECT id, queue, account, livemode, event_id, type, quote_id, state, headers::text AS headers, body
FROM failed_deliveries WHERE id = ANY ($1::bigint[]) ORDER BY first_failed_at, id
"""
# Oldest first, `rate` a second. The state is checked again: a worker may have settled one since it was chosen.
MARK: Final = """
WITH chosen AS (
    SELECT id, first_failed_at, state FROM failed_deliveries
    WHERE id = ANY ($1::bigint[]) AND state = ANY ($2::text[])
    ORDER BY id FOR UPDATE
), placed AS (
    SELECT id, state, row_number() OVER (ORDER BY first_failed_at, id) - 1 AS place FROM chosen
), marked AS (
    UPDATE failed_deliveries AS delivery
    SET state = 'replaying', replay_id = $3, next_at = now() + make_interval(secs => place / $4::float8)
    FROM placed WHERE delivery.id = placed.id
    RETURNING delivery.id, delivery.next_at, placed.state AS before
), noted AS (
    INSERT INTO failed_delivery_history (failed_delivery_id, actor, action, note)
    SELECT id, $5, 'replayed', concat_ws('; ', 'was ' || before, 'replay ' || $3, nullif($6, ''))
    FROM marked ORDER BY id
)
SELECT id, now() AS at FROM marked ORDER BY next_at, id
"""

UNDER_WAY: Final = """
SELECT count(*) FROM failed_deliveries WHERE id = ANY ($1::bigint[]) AND state = 'replaying' AND replay_id = $2
"""
# `waiting`: the relay has not sent it yet although it is due.
PROGRESS: Final = """
SELECT id, queue, event_id, type, quote_id, state, reason, error, attempts,
       state = 'replaying' AND replay_id = $2 AS under_way,
       next_at IS NOT NULL AND next_at < now() - interval '3 seconds' AS waiting
FROM failed_deliveries WHERE id = ANY ($1::bigint[]) ORDER BY first_failed_at, id
"""
STOP: Final = """
WITH stopped AS (
    UPDATE failed_deliveries SET state = 'dead', next_at = NULL
    WHERE id = ANY ($1::bigint[]) AND state = 'replaying' AND replay_id = $2 AND next_at IS NOT NULL
    RETURNING id
), noted AS (
    INSERT INTO failed_delivery_history (failed_delivery_id, actor, action, note)
    SELECT id, $3, 'replay_stopped', 'before it was sent' FROM stopped ORDER BY id
)
SELECT id FROM stopped
"""

# How often a person's screen, and the database, are asked.
POLL: Final = 0.25


class Marked(msgspec.Struct, frozen=True):
    """What a replay took up. `at` is the database's time of it."""

    replay_id: str
    ids: list[int]
    at: datetime


async def load(db: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """The failed deliveries, oldest first."""
    return [dict(row.items()) for row in await db.fetch(LOAD, list(ids))]


def event_of_row(row: Mapping[str, Any], replay_id: str) -> Event:
    """The event as the worker would get it again. Raises Rejected where the message was none of ours."""
    headers: dict[str, Any] = msgspec.json.decode(row["headers"])
    return from_message({**headers, "replay-id": replay_id}, row["type"], row["body"])


async def mark(db: Connection, ids: Sequence[int], rate: float, actor: str, note: str) -> Marked:
    """Hand `ids` to the relay, `rate` a second, and write down who did it; those settled meanwhile are left out."""
    replay_id = uuid4().hex
    async with db.transaction():
        rows = await db.fetch(MARK, list(ids), list(REPLAYABLE), replay_id, rate, actor, note)
        at: datetime = rows[0]["at"] if rows else await db.fetchval("SELECT now()")
    return Marked(replay_id, [row["id"] for row in rows], at)


async def watch(db: Connection, marked: Marked, patience: float, told: Callable[[int], None]) -> None:
    """Return once each delivery has come to an end, or once none has for `patience` seconds.

    `told` gets how many have.
    """
    left = len(marked.ids)
    last_end = time.monotonic()
    while left and time.monotonic() - last_end <= patience:
        now_left: int = await db.fetchval(UNDER_WAY, marked.ids, marked.replay_id)
        if now_left != left:
            left, last_end = now_left, time.monotonic()
            told(len(marked.ids) - left)
        if left:
            await asyncio.sleep(POLL)


async def ends(db: Connection, marked: Marked) -> list[dict[str, Any]]:
    """What has become of each delivery by now, oldest first."""
    return [dict(row.items()) for row in await db.fetch(PROGRESS, marked.ids, marked.replay_id)]


async def stop(db: Connection, marked: Marked, actor: str) -> int:
    """Take back what the relay has not sent yet; how many those were."""
    return len(await db.fetch(STOP, marked.ids, marked.replay_id, actor))
