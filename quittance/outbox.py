"""The outbox: events committed together with the change that they tell of; the relay publishes them afterwards."""

from collections.abc import Sequence
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from quittance.broker import CRM_EVENTS, QUITTANCE_EVENTS
from quittance.event import Event
from quittance.locks import Connection

STATUS_CHANGED: Final = "quote.payment_status_changed"
NOTIFICATIONS_QUEUE: Final = "notifications"
# What the CRM is answered to a command, in the queue that it named.
ACCEPTED: Final = "quote.accepted"
REFUSED: Final = "quote.refused"
ANSWERS: Final = frozenset({ACCEPTED, REFUSED})

# What a relay claims: streams fall into this many buckets, so that relays can share them.
BUCKETS: Final = 64


# A channel for each destination: a loop is woken, when this commits, only by what it can publish, and told where to look.
WRITE: Final = """
WITH written AS (
    INSERT INTO outbox (destination, bucket, stream, exchange, routing_key, event_id, type, headers, body)
    SELECT * FROM unnest($1::text[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                         $8::jsonb[], $9::bytea[])
    RETURNING destination, bucket
)
SELECT pg_notify('outbox_' || destination, string_agg(DISTINCT bucket::text, ' ')) FROM written GROUP BY destination
"""


class Route(NamedTuple):
    """Where an event goes. The relay keeps a pace of its own for each destination."""

    destination: str
    exchange: str
    routing_key: str


def routes(event: Event) -> tuple[Route, ...]:
    """A status change goes to the CRM and, apart from it and where one is due, to the mails; an answer to the queue that
    asked; our other events stay within Quittance.
    """
    if event.type == STATUS_CHANGED:
        crm = Route("crm", CRM_EVENTS, event.routing_key)
        return (crm, Route("notifications", "", NOTIFICATIONS_QUEUE)) if event.mail_due else (crm,)
    if event.type in ANSWERS:
        return (Route("replies", "", event.routing_key),)
    return (Route("quittance", QUITTANCE_EVENTS, event.routing_key or event.type),)


async def write(db: Connection, events: Sequence[Event]) -> None:
    """Store `events` to be published, in the caller's transaction, and wake the relay when it commits."""
    rows = [(event, route) for event in events for route in routes(event)]
    if not rows:
        return
    await db.execute(
        WRITE,
        [route.destination for _, route in rows],
        [bucket(event) for event, _ in rows],
        [event.stream for event, _ in rows],
        [route.exchange for _, route in rows],
        [route.routing_key for _, route in rows],
        [event.id for event, _ in rows],
        [event.type for event, _ in rows],
        [msgspec.json.encode(event.headers()).decode() for event, _ in rows],
        [event.body for event, _ in rows],
    )


def wake_channel(destination: str) -> str:
    """The channel of NOTIFY that says: something was committed for this destination, in these buckets."""
    return f"outbox_{destination}"


def bucket(event: Event) -> int:
    """The bucket of the event's stream; streams of two accounts or modes are never one."""
    return crc32(f"{event.account}/{event.livemode}/{event.stream}".encode()) % BUCKETS
