"""Failed deliveries: one row per queue and event that was not handled at the first try, and its history.

    (none), resolved, discarded ──failed──▶ retrying ──last attempt──▶ dead ──replayed──▶ replaying
                                              ▲   │                      ▲                   │
                                              └───┘ (next_at)            └──────failed───────┘
    handled, from whatever state ──▶ resolved

`next_at` is when the relay sends it to its own queue again; null while it is under way. A replay that fails is dead
at once: the SRE who asked for it looks at the answer.
"""

import re
import traceback
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from quittance.database import Connection
from quittance.errors import Reason, Rejected
from quittance.event import Event
from workers.runtime.backoff import delay
from workers.runtime.inbox import Key, key

LOAD: Final = """
SELECT id, state, attempts, error FROM failed_deliveries
WHERE queue = $1 AND account = $2 AND livemode = $3 AND event_id = $4 FOR UPDATE
"""
SAVE: Final = """
INSERT INTO failed_deliveries (queue, account, livemode, event_id, type, quote_id, state, reason, error, traceback,
                               fingerprint, attempts, next_at, replay_id, body, headers)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, now() + make_interval(secs => $13), $14, $15, $16)
ON CONFLICT (queue, account, livemode, event_id) DO UPDATE SET
    quote_id = coalesce(excluded.quote_id, failed_deliveries.quote_id),
    state = excluded.state, reason = excluded.reason, error = excluded.error, traceback = excluded.traceback,
    fingerprint = excluded.fingerprint, attempts = excluded.attempts, next_at = excluded.next_at,
    replay_id = excluded.replay_id, last_failed_at = now()
RETURNING id
"""
# Before a message that may kill the process is tried: `attempts` is untouched, and so is a replay under way.
MARK: Final = """
INSERT INTO failed_deliveries (queue, account, livemode, event_id, type, quote_id, state, reason, error, body, headers)
VALUES ($1, $2, $3, $4, $5, $6, 'retrying', 'crashed_worker', $7, $8, $9)
ON CONFLICT (queue, account, livemode, event_id) DO UPDATE SET
    state = CASE failed_deliveries.state WHEN 'replaying' THEN 'replaying' ELSE 'retrying' END,
    reason = excluded.reason, error = excluded.error, traceback = '', fingerprint = '', next_at = NULL,
    last_failed_at = now()
RETURNING id
"""
RESOLVE: Final = """
WITH resolved AS (
    UPDATE failed_deliveries SET state = 'resolved', next_at = NULL
    WHERE id = ANY($1::bigint[]) AND state IN ('retrying', 'replaying', 'dead')
    RETURNING id
)
INSERT INTO failed_delivery_history (failed_delivery_id, actor, action, note)
SELECT id, $2, 'resolved', '' FROM resolved ORDER BY id
"""
REMEMBER: Final = """
INSERT INTO failed_delivery_history (failed_delivery_id, actor, action, note) VALUES ($1, $2, $3, $4)
"""
# Marked, and not heard of since: the messages that a process died on, or is busy with elsewhere.
MARKED: Final = """
SELECT account, livemode, event_id FROM failed_deliveries
WHERE queue = $1 AND reason = 'crashed_worker' AND state IN ('retrying', 'replaying') AND next_at IS NULL
  AND last_failed_at > now() - interval '10 minutes'
LIMIT 10
"""

ERROR_LENGTH: Final = 2_000
TRACEBACK_LENGTH: Final = 20_000
HEADER_LENGTH: Final = 8_000
# Headers of messages that the relay sends again: the row's id, the replay, and "the broker had given it up before".
FAILED_DELIVERY_ID: Final = "failed-delivery-id"
REPLAY_ID: Final = "replay-id"
LAST_TRY: Final = "last-try"
OF_ONE_SENDING: Final = frozenset({FAILED_DELIVERY_ID, REPLAY_ID, LAST_TRY})
SECRET: Final = frozenset({"authorization"})

# What is ours in a traceback, to group failures by the place where they arose. By package: a checkout may well have its
# virtual environment within it.
OUR_CODE: Final = tuple(f"{Path(__file__).resolve().parents[2] / package}/" for package in ("workers", "quittance"))

_quote_id = re.compile(rb'"(?:quote_id|client_reference_id)"\s*:\s*"([^"\\\x00-\x1f]{1,200})"')


class Recorded(NamedTuple):
    """What became of a failure; `retry_in` in seconds, None when it is dead."""

    id: int
    attempts: int
    retry_in: float | None


class _Row(NamedTuple):
    state: str
    attempts: int
    error: str


def actor(queue: str) -> str:
    """How a worker signs its entries in the history."""
    return f"worker {queue}"


async def record(  # noqa: PLR0917
    db: Connection,
    queue: str,
    event: Event,
    headers: Mapping[str, Any],
    error: BaseException,
    schedule: Sequence[float],
) -> Recorded:
    """File one failure of one event, in a transaction of its own; decides between retry and dead letter.

    `error` being Rejected, it is dead at once. `schedule`: the pauses between attempts, in seconds.
    """
    reason: Reason = error.reason if isinstance(error, Rejected) else "handler_failed"
    async with db.transaction():
        row = await _load(db, queue, key(event))
        attempts = row.attempts + 1 if row is not None and row.state not in ("resolved", "discarded") else 1
        given_up = isinstance(error, Rejected) or (row is not None and row.state in ("replaying", "dead"))
        retry_in = None if given_up else delay(schedule, attempts)
        state = "dead" if retry_in is None else "retrying"
        row_id: int = await db.fetchval(
            SAVE,
            *_identity(queue, event),
            state,
            reason,
            storable(str(error) or type(error).__name__, ERROR_LENGTH),
            storable("".join(traceback.format_exception(error)), TRACEBACK_LENGTH),
            fingerprint(reason, error),
            attempts,
            retry_in,
            event.replay_id,
            event.body,
            encode(headers),
        )
        note = f"attempt {attempts}, next in {retry_in:.0f} s" if retry_in is not None else reason
        await db.execute(REMEMBER, row_id, actor(queue), "dead_lettered" if retry_in is None else "failed", note)
    return Recorded(row_id, attempts, retry_in)


async def mark(db: Connection, queue: str, event: Event, headers: Mapping[str, Any], message_id: str) -> bool:
    """Enter, and commit, that this message is about to be tried alone. True: this very message was tried before.

    If the process dies on it, what is written here is what an SRE reads.
    """
    text = f"the process ended while it handled this alone (message {message_id})"
    async with db.transaction():
        row = await _load(db, queue, key(event))
        row_id: int = await db.fetchval(MARK, *_identity(queue, event), text, event.body, encode(headers))
        await db.execute(REMEMBER, row_id, actor(queue), "tried_alone", "")
    return row is not None and row.error == text


async def marked(db: Connection, queue: str) -> set[Key]:
    """The events of `queue` that are marked and not settled."""
    return {(row[0], row[1], row[2]) for row in await db.fetch(MARKED, queue)}


async def resolve(db: Connection, queue: str, ids: Sequence[int]) -> None:
    """Close these rows, whose events are handled now; in the caller's transaction."""
    if ids:
        await db.execute(RESOLVE, ids, actor(queue))


async def _load(db: Connection, queue: str, which: Key) -> _Row | None:
    row = await db.fetchrow(LOAD, queue, *which)
    return None if row is None else _Row(row["state"], row["attempts"], row["error"])


def _identity(queue: str, event: Event) -> tuple[str, str, bool, str, str, str | None]:
    return (queue, event.account, event.livemode, event.id, event.type, quote_id_in(event.body))


def quote_id_in(body: bytes) -> str | None:
    """The first quote id that stands in the body, found without parsing it: for people to search by, not to act on."""
    match = _quote_id.search(body)
    return storable(match[1].decode(errors="replace"), 200) if match else None


def fingerprint(reason: Reason, error: BaseException) -> str:
    """Groups failures of one cause: the reason, the exception's class, and the innermost place in our own code."""
    return blake2b(f"{reason}/{place(error)}".encode(), digest_size=6).hexdigest()


def place(error: BaseException) -> str:
    """An exception's class, and the innermost place in our own code that it came through: `ValueError quotes.py:_fold`."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(OUR_CODE)]
    where = f" {Path(ours[-1].filename).name}:{ours[-1].name}" if ours else ""
    return type(error).__name__ + where


def storable(text: str, limit: int) -> str:
    """`text` as Postgres takes it (no NUL, no lone surrogate), cut to `limit` characters."""
    return text[:limit].encode(errors="backslashreplace").decode().replace("\x00", "\\x00")


def encode(headers: Mapping[str, Any]) -> str:
    """AMQP headers as JSON for jsonb; without those, the broker's and ours, that tell of one sending only, and without a
    token, should one come to a queue that knows nothing of tokens.
    """
    ours = {
        name: value
        for name, value in headers.items()
        if not name.startswith("x-") and name not in OF_ONE_SENDING and name.lower() not in SECRET
    }
    return msgspec.json.encode(_plain(ours)).decode()


def _plain(value: object) -> object:
    if isinstance(value, str):
        return storable(value, HEADER_LENGTH)
    if isinstance(value, Mapping):
        return {storable(str(name), 255): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, bool | int | float | None) else storable(str(value), HEADER_LENGTH)
