"""What would happen: real handlers in a transaction that is rolled back, and everything that would come of it.

The very code of a worker's batch runs (workers.runtime.batch.within: inbox, handler, outbox), and then, as the relay and
the broker would have it, the workers that the emitted events go to, until nothing comes any more. Nothing is published,
no mail goes out, Stripe is not called; what would be asked of them is read from the rows that they would be asked from.

While it runs, the quotes that it touches are locked, as by any worker: so a preview is kept small (LIMIT), and workers
that meet it try again at once.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import asyncpg
import msgspec

from quittance.broker import QUITTANCE_EVENTS, STRIPE_EVENTS
from quittance.cli.changes import with_difference
from quittance.cli.running import CouldNot
from quittance.cli.workers_registry import handlers, queues
from quittance.errors import Rejected
from quittance.event import Event
from quittance.locks import Connection
from quittance.outbox import ANSWERS, NOTIFICATIONS_QUEUE, STATUS_CHANGED
from workers.runtime import batch

LIMIT: Final = 200

# A handler that answers its own answer for ever would be a bug; a preview ends all the same.
MOST_STEPS: Final = 10_000

# With workers that are at the same quotes: no answer about the event.
RACES: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)

MAILS: Final = """
SELECT id, account, livemode, quote_id, revision, kind, recipient, subject, state
FROM emails WHERE event_id = ANY ($1::text[]) ORDER BY id
"""
CUSTOMER_REQUESTS: Final = """
SELECT id, account, livemode, email, name, quote_id, state
FROM customer_requests WHERE event_id = ANY ($1::text[]) ORDER BY id
"""
# Of the quotes whose end was handled; what was refused counts as news once it would be asked for again.
STRIPE_ENDINGS: Final = """
WITH named AS (
    SELECT unnest($1::text[]) AS event_id
), rows AS (
    SELECT 'session' AS kind, id, account, livemode, quote_id, revision, session_id AS stripe_id, due_at
    FROM checkout_sessions WHERE state = 'closing'
    UNION ALL
    SELECT 'coupon', id, account, livemode, quote_id, revision, coupon_id, due_at
    FROM quote_coupons WHERE state = 'archiving'
)
SELECT kind || id AS id, kind, account, livemode, quote_id, revision, stripe_id,
       CASE due_at WHEN 'infinity' THEN 'refused' ELSE 'due' END AS state
FROM rows
WHERE 'quote.recalled:' || quote_id || ':' || revision IN (SELECT event_id FROM named)
   OR 'quote.expired:' || quote_id || ':' || revision IN (SELECT event_id FROM named)
ORDER BY kind DESC, rows.id
"""
STORED: Final = """
SELECT account, livemode, quote_id, data::text AS data FROM quotes
JOIN unnest($1::text[], $2::boolean[], $3::text[]) AS key (account, livemode, quote_id)
    USING (account, livemode, quote_id)
"""
# Counted by Postgres for the transaction under way: what the handlers wrote, whatever tables that was in.
ROWS: Final = """
SELECT coalesce(parent.relname, stat.relname) AS name,
       sum(n_tup_ins)::bigint AS inserted, sum(n_tup_upd)::bigint AS updated, sum(n_tup_del)::bigint AS deleted
FROM pg_stat_xact_user_tables AS stat
LEFT JOIN pg_inherits ON inhrelid = stat.relid
LEFT JOIN pg_class AS parent ON parent.oid = inhparent
WHERE n_tup_ins + n_tup_upd + n_tup_del > 0
GROUP BY 1
"""
# For the transaction: an operator who may preview has the workers' rights for that alone (schema.sql, "Rights").
AS_WORKERS: Final = """
SELECT set_config('role', 'quittance_workers', true)
WHERE NOT has_table_privilege('inbox', 'INSERT') AND pg_has_role(to_regrole('quittance_workers'), 'MEMBER')
"""
MAY_WRITE: Final = "SELECT has_table_privilege('inbox', 'INSERT')"
MAY_NOT: Final = (
    "a preview runs the workers' own code and rolls it back, and the role in DATABASE_URL may not write what they write: "
    "it must be a member of quittance_previewers (docs/security.md)"
)
BOOKKEEPING: Final = frozenset({"inbox", "outbox", "failed_deliveries", "failed_delivery_history"})


class Delivery(msgspec.Struct, frozen=True):
    """An event on its way to a queue."""

    queue: str
    event: Event


class Step(msgspec.Struct, kw_only=True):
    """What handling one delivery would come to. `after`: the event that it would follow from, None where it was asked for.

    `outcome`: handled, duplicate (it was handled before: nothing happens), fails (a dead letter or a retry).
    """

    queue: str
    event_id: str
    type: str
    account: str
    livemode: bool
    outcome: str = "handled"
    reason: str | None = None
    error: str | None = None
    after: str | None = None


class Preview(msgspec.Struct):
    """All that would happen, in order. `status_changes` say what differs (quittance.cli.changes.with_difference);
    `crm_events` are the bodies that the CRM would get for them.
    """

    steps: list[Step] = []
    status_changes: list[dict[str, Any]] = []
    crm_events: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []  # our own events, between workers
    mails: list[dict[str, Any]] = []
    stripe_requests: list[dict[str, Any]] = []
    stripe_endings: list[dict[str, Any]] = []  # sessions to expire, coupons to delete
    rows: dict[str, dict[str, int]] = {}

    @property
    def fails(self) -> int:
        """How many deliveries would fail, follow-ons included."""
        return sum(step.outcome == "fails" for step in self.steps)


class _Undo(Exception):
    """Ends the transaction without a trace."""


async def what_would_happen(db: Connection, deliveries: Sequence[Delivery]) -> Preview:
    """Run `deliveries` in order, and all that follows from them, and roll everything back.

    Raises CouldNot where a worker holds what it needs for too long, and where the role may not do what workers do.
    """
    preview = Preview()
    mails: list[asyncpg.Record] = []
    requests: list[asyncpg.Record] = []
    endings: list[asyncpg.Record] = []
    ids: list[str] = []
    try:
        async with db.transaction():
            await db.execute(AS_WORKERS)
            if not await db.fetchval(MAY_WRITE):
                raise CouldNot(MAY_NOT)
            ids = await _run(db, deliveries, preview)
            mails = await db.fetch(MAILS, ids)
            requests = await db.fetch(CUSTOMER_REQUESTS, ids)
            endings = await db.fetch(STRIPE_ENDINGS, ids)
            raise _Undo
    except _Undo:
        pass
    except RACES as error:
        raise CouldNot("workers hold the same quotes just now: try again in a moment") from error
    # Compared with what is there without it: a row that is there in the same state would not be new.
    preview.mails = _news(mails, await db.fetch(MAILS, ids))
    preview.stripe_requests = _news(requests, await db.fetch(CUSTOMER_REQUESTS, ids))
    preview.stripe_endings = _news(endings, await db.fetch(STRIPE_ENDINGS, ids))
    preview.status_changes = await _differences(db, [event["data"] for event in preview.crm_events])
    return preview


async def _differences(db: Connection, changes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The changes, each compared with the one before it, the first of a quote with what the quote's row has."""
    keys = {(data["account"], data["livemode"], data["quote_id"]) for data in changes}
    rows = await db.fetch(STORED, *([key[place] for key in keys] for place in range(3)))
    before = {(row["account"], row["livemode"], row["quote_id"]): msgspec.json.decode(row["data"]) for row in rows}
    compared = []
    for data in changes:
        key = (data["account"], data["livemode"], data["quote_id"])
        compared.append(with_difference(data, before.get(key)))
        before[key] = data
    return compared


async def _run(db: Connection, deliveries: Sequence[Delivery], preview: Preview) -> list[str]:
    """Handle the deliveries, then all that follows, in order; the ids of the events that were handled.

    What follows comes last, as it does where they are replayed together: the relay sends a hundred at once.
    """
    todo: deque[tuple[Delivery, str | None]] = deque((delivery, None) for delivery in deliveries)
    ids: list[str] = []
    while todo and len(ids) < MOST_STEPS:
        current, after = todo.popleft()
        event = current.event
        ids.append(event.id)
        step = Step(
            queue=current.queue,
            event_id=event.id,
            type=event.type,
            account=event.account,
            livemode=event.livemode,
            after=after,
        )
        preview.steps.append(step)
        for emitted in await _handle(db, current, step, preview):
            _keep(preview, emitted)
            todo.extend((Delivery(queue, emitted), event.id) for queue in _takers(emitted))
    return ids


async def _handle(db: Connection, delivery: Delivery, step: Step, preview: Preview) -> list[Event]:
    before = await db.fetch(ROWS)
    try:
        async with db.transaction():  # a savepoint: what fails takes back its own effects only
            handled = await batch.within(db, delivery.queue, handlers()[delivery.queue], [delivery.event])
    except RACES:
        raise
    except Rejected as error:
        step.outcome, step.reason, step.error = "fails", error.reason, error.detail
        return []
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is the answer of a preview
        step.outcome, step.reason, step.error = "fails", "handler_failed", f"{type(error).__name__}: {error}"
        return []
    if not handled.fresh:
        step.outcome = "duplicate"
    _count(preview.rows, before, await db.fetch(ROWS))
    return handled.emitted


def _keep(preview: Preview, emitted: Event) -> None:
    body = msgspec.json.decode(emitted.body)
    if emitted.type == STATUS_CHANGED:
        preview.crm_events.append(body)
    elif emitted.type in ANSWERS:
        preview.events.append({"id": emitted.id, "type": emitted.type, "object": body})
    else:
        preview.events.append({"id": emitted.id, "type": emitted.type, "object": body["data"]["object"]})


def _takers(event: Event) -> list[str]:
    """The queues that one of our own events goes to (quittance.outbox.routes, and the bindings)."""
    if event.type == STATUS_CHANGED:
        return [NOTIFICATIONS_QUEUE]
    if event.type in ANSWERS:
        return []
    return taking(QUITTANCE_EVENTS, event.routing_key or event.type)


def taking(exchange: str, routing_key: str) -> list[str]:
    """The queues that a message published to `exchange` would go to."""
    return [name for name, queue in queues().items() if {routing_key, "#"} & set(queue.bindings.get(exchange, ()))]


def fed_by_stripe() -> list[str]:
    """The queues that take any of Stripe's events."""
    return [name for name, queue in queues().items() if queue.bindings.get(STRIPE_EVENTS)]


def taking_stripe(event_type: str) -> list[str]:
    """The queues that use a Stripe event of that type, the archive not counted: it takes all, and has it already."""
    return [name for name in taking(STRIPE_EVENTS, event_type) if name != "archive"]


def _count(rows: dict[str, dict[str, int]], before: Iterable[asyncpg.Record], after: Iterable[asyncpg.Record]) -> None:
    earlier: Mapping[str, asyncpg.Record] = {row["name"]: row for row in before}
    for row in after:
        if row["name"] in BOOKKEEPING:
            continue
        for what in ("inserted", "updated", "deleted"):
            new = row[what] - (earlier[row["name"]][what] if row["name"] in earlier else 0)
            if new:
                counts = rows.setdefault(row["name"], {})
                counts[what] = counts.get(what, 0) + new


def _news(inside: Iterable[asyncpg.Record], outside: Iterable[asyncpg.Record]) -> list[dict[str, Any]]:
    """The rows of the preview that are not there, or in another state, without it; their ids mean nothing."""
    known = {(row["id"], row["state"]) for row in outside}
    return [
        {key: value for key, value in row.items() if key != "id"}
        for row in inside
        if (row["id"], row["state"]) not in known
    ]
