"""What the tables say of the work under way: what waits too long, what failed, what never came to a queue."""

from datetime import datetime
from typing import Final

from quittance.broker import STRIPE_EVENTS
from quittance.cli.doctor_checkouts import check_checkouts
from quittance.cli.doctor_checks import Area, Check
from quittance.cli.output import count, length
from quittance.cli.workers_registry import queues
from quittance.locks import Connection

OUTBOX: Final = """
SELECT destination, count(*) AS changes, extract(epoch FROM now() - min(queued_at))::float8 AS age
FROM outbox GROUP BY destination ORDER BY destination
"""
FAILED: Final = """
SELECT queue, state, count(*) AS deliveries, max(last_failed_at) AS newest,
       count(*) FILTER (WHERE next_at < now() - interval '1 minute') AS overdue,
       count(*) FILTER (WHERE state = 'replaying' AND next_at IS NULL AND last_failed_at < now() - interval '1 hour')
           AS adrift
FROM failed_deliveries WHERE state IN ('dead', 'retrying', 'replaying')
GROUP BY queue, state ORDER BY queue, state
"""
MAILS: Final = """
SELECT count(*) FILTER (WHERE state = 'due' AND due_at < now() - interval '1 minute') AS late,
       extract(epoch FROM now() - min(created_at) FILTER (WHERE state = 'due'))::float8 AS oldest,
       max(error) FILTER (WHERE state = 'due' AND error <> '') AS error,
       count(*) FILTER (WHERE state = 'due') AS due,
       count(*) FILTER (WHERE state = 'skipped' AND created_at > now() - interval '7 days') AS skipped
FROM emails WHERE state IN ('due', 'skipped')
"""
CUSTOMERS: Final = """
SELECT count(*) AS due, count(*) FILTER (WHERE due_at < now() - interval '1 minute') AS late,
       max(error) FILTER (WHERE error <> '') AS error
FROM customer_requests WHERE state = 'due'
"""
# Of the newest events: those that a queue takes by its bindings, and that it has neither handled nor failed at. The
# newest by Stripe's time, as the archive is indexed; those of the last minutes may be under way.
UNHANDLED: Final = """
WITH newest AS (
    SELECT created, account, livemode, event_id, type FROM events
    WHERE created > now() - interval '3 days' AND archived_at < now() - interval '2 minutes'
    ORDER BY created DESC LIMIT 2000
)
SELECT queue, newest.type, count(*) AS events, min(newest.created) AS since
FROM newest
JOIN unnest($1::text[], $2::text[]) AS bound (queue, type) USING (type)
WHERE NOT EXISTS (SELECT FROM inbox WHERE inbox.created = newest.created AND inbox.queue = bound.queue
                  AND inbox.account = newest.account AND inbox.livemode = newest.livemode
                  AND inbox.event_id = newest.event_id)
  AND NOT EXISTS (SELECT FROM failed_deliveries AS failed WHERE failed.queue = bound.queue
                  AND failed.account = newest.account AND failed.livemode = newest.livemode
                  AND failed.event_id = newest.event_id)
GROUP BY queue, newest.type ORDER BY queue, newest.type
"""

# A relay needs milliseconds; a minute is an outage. Seconds.
OUTBOX_FAULT: Final = 60.0
OUTBOX_WARNING: Final = 5.0
MAIL_WARNING: Final = 300.0

DESTINATIONS: Final = {
    "crm": "start `python -m workers relay`; where it runs, the queue `crm` is full, or lost its binding to crm.events "
    "(`quittance init`): the CRM must take what waits there",
    "notifications": "start `python -m workers relay`; where it runs, see the queue `notifications`",
    "replies": "start `python -m workers relay`; where it runs, a queue that the CRM named in `reply_to` is full or does not "
    "answer (its log says which: `reply.not_taken`): the CRM must take what waits there, or delete it",
    "quittance": "start `python -m workers relay`; where it runs, see the queues `quotes`, `documents` and `checkouts`",
}


async def check_work(db: Connection, quiet_queues: set[str]) -> list[Check]:
    """What waits, what failed, what was missed. `quiet_queues` hold no message: what they lack never came."""
    return [
        *await _outbox(db),
        *await _failed(db),
        *await _mails(db),
        *await _customers(db),
        *await check_checkouts(db),
        *await _unhandled(db, quiet_queues),
    ]


async def _outbox(db: Connection) -> list[Check]:
    area = Area("outbox")
    for row in await db.fetch(OUTBOX):
        says = f"{count(row['changes'], 'change')} for {row['destination']} not published yet, the oldest for {length(row['age'])}"
        cure = DESTINATIONS.get(row["destination"], "start `python -m workers relay`")
        if row["age"] >= OUTBOX_FAULT:
            area.fault(says, cure)
        elif row["age"] >= OUTBOX_WARNING:
            area.warning(says, cure)
    if not area.checks:
        area.ok("no change waits to be published")
    return area.checks


async def _failed(db: Connection) -> list[Check]:
    area = Area("failed deliveries")
    for row in await db.fetch(FAILED):
        number, queue = count(row["deliveries"], "delivery", "deliveries"), row["queue"]
        if row["state"] == "dead":
            area.warning(
                f"{count(row['deliveries'], 'dead letter')} of queue {queue}",
                f"see why: `quittance dead-letters list --queue {queue} --group-by fingerprint`; then replay or discard",
            )
        elif row["overdue"]:
            area.fault(
                f"{row['overdue']} of {number} of {queue} ({row['state']}) are overdue",
                "start `python -m workers relay`, which sends them",
            )
        elif row["adrift"]:
            area.warning(
                f"{row['adrift']} of {queue} have been replaying for more than an hour",
                f"start `python -m workers {queue}`; where it runs: "
                f"`quittance dead-letters replay --queue {queue} --state replaying`",
            )
        else:
            area.note(f"{number} of {queue}: {row['state']}")
    if not area.checks:
        area.ok("none waits for a retry or for a person")
    return area.checks


async def _mails(db: Connection) -> list[Check]:
    area = Area("mails")
    row = await db.fetchrow(MAILS)
    if row is None:
        return []
    if row["late"]:
        why = f", the last error: {row['error']}" if row["error"] else ""
        area.fault(
            f"{count(row['late'], 'mail')} should have gone out, the oldest {length(row['oldest'])} ago{why}",
            "start `python -m workers notifications`; where it runs, its logs say what the mail server answers",
        )
    elif (row["oldest"] or 0) > MAIL_WARNING:
        area.warning(
            f"{count(row['due'], 'mail')} not sent yet, the oldest {length(row['oldest'])} old: {row['error'] or ''}",
            "each is tried again by itself; its error is the mail server's answer",
        )
    else:
        area.ok(f"{row['due'] or 'none'} under way")
    if row["skipped"]:
        area.note(f"{count(row['skipped'], 'mail')} of the last 7 days skipped: no owner is known, and no MAIL_TO")
    return area.checks


async def _customers(db: Connection) -> list[Check]:
    area = Area("customers at Stripe")
    row = await db.fetchrow(CUSTOMERS)
    if row is None:
        return []
    if row["late"]:
        why = f", the last error: {row['error']}" if row["error"] else ""
        area.fault(
            f"{count(row['late'], 'customer')} should have been looked up at Stripe by now{why}",
            "start `python -m workers customers`; where it runs, its logs say what Stripe answers",
        )
    else:
        area.ok(f"{row['due'] or 'none'} to be looked up{': ' + row['error'] if row['error'] else ''}")
    return area.checks


async def _unhandled(db: Connection, quiet_queues: set[str]) -> list[Check]:
    """Events that the archive has and a queue that takes their type never handled: a binding was missing then."""
    area = Area("deliveries")
    bound = [
        (queue, key)
        for queue, worker in queues().items()
        for key in worker.bindings.get(STRIPE_EVENTS, ())
        if key != "#" and queue in quiet_queues
    ]
    rows = await db.fetch(UNHANDLED, [queue for queue, _ in bound], [key for _, key in bound])
    for row in rows:
        since: datetime = row["since"]
        area.fault(
            f"queue {row['queue']} never got {count(row['events'], 'event')} {row['type']} that the archive has",
            "its binding was missing when they came (`quittance init` mends that), or this version was the first to take "
            "them; to hand them in: `quittance events replay "
            f"--queue {row['queue']} --type {row['type']} --since {since.isoformat(timespec='seconds')}`",
        )
    if not rows:
        area.ok("the newest archived events have come to every queue that takes them")
    return area.checks
