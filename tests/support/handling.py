"""Handlers run as the runtime runs them: inbox, transaction, outbox, failed deliveries; without a broker in between."""

import json
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import asyncpg
from asyncpg.pool import Pool

from quittance.broker import QUITTANCE_EVENTS, STRIPE_EVENTS
from quittance.event import Event, decode_envelope, event_of, from_message
from workers.runtime import batch

RECEIVED_AT = 1_790_000_000.0

TAKE_OUTBOX = """
DELETE FROM outbox RETURNING id, destination, exchange, routing_key, type, headers, body
"""


def accepted(body: bytes | dict[str, Any], received_at: float = RECEIVED_AT) -> Event:
    """The event that the ingress would make of a webhook's body."""
    data = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
    return event_of(decode_envelope(data), data, received_at)


async def run_handler(worker: ModuleType, events: Sequence[Event], database: Pool) -> list[Event]:
    """Take `events` as one batch through a worker (a module with QUEUE and handle): what the runtime does between two
    acks. Commits; returns what the handler emitted, which also stands in the outbox. Duplicates are passed over.
    """
    handled = await batch.run(database, worker.QUEUE.name, worker.handle, events)
    return handled.emitted


def takes(worker: ModuleType, exchange: str, routing_key: str) -> bool:
    """Whether the worker's queue is bound for this key (our bindings are exact, or `#`)."""
    keys = worker.QUEUE.bindings.get(exchange, ())
    return routing_key in keys or "#" in keys


async def pump(workers: Sequence[ModuleType], events: Sequence[Event], database: Pool) -> list[Event]:
    """Deliver Stripe's `events`, one batch per worker, and then what comes of them through the outbox, until it is
    empty: one process's worth of broker and relay. Returns the CRM events, in order of the outbox.
    """
    for worker in workers:
        mine = [event for event in events if takes(worker, STRIPE_EVENTS, event.type)]
        if mine:
            await run_handler(worker, mine, database)
    told: list[Event] = []
    while rows := sorted(await database.fetch(TAKE_OUTBOX), key=lambda row: int(row["id"])):
        for worker in workers:
            mine = [_event(row) for row in rows if _goes_to(row, worker)]
            if mine:
                await run_handler(worker, mine, database)
        told += [_event(row) for row in rows if row["destination"] == "crm"]
    return told


def _goes_to(row: asyncpg.Record, worker: ModuleType) -> bool:
    if row["exchange"] == QUITTANCE_EVENTS:
        return takes(worker, QUITTANCE_EVENTS, row["routing_key"])
    return bool(row["exchange"] == "" and row["routing_key"] == worker.QUEUE.name)


def _event(row: asyncpg.Record) -> Event:
    return from_message(json.loads(row["headers"]), row["type"], row["body"])
