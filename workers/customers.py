"""Customers: one per account, mode and e-mail address (R18), and who of them checked out which quote.

Consumes  stripe.events     customer.created, .updated, .deleted: the account's address book;
                            checkout.session.*, invoice.*: only those that carry a quote of ours
Writes    customers, customer_aliases, quote_customers, customer_requests
Emits     customer.changed  to quotes: the customer of a session is another one than the session says, or than was told
Asks      Stripe, only for a paid session of ours that has an address and no customer, where we know none
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from asyncpg import Record
from msgspec.structs import replace

from quittance.broker import STRIPE_EVENTS, Queue
from quittance.domain.address_book import Id
from quittance.domain.claims import Claim, adopted, claim_of
from quittance.domain.customers import Link, customer_fact, name_of_buyer, sighting
from quittance.domain.facts import facts_of
from quittance.domain.payload import StripeObject, reference, text
from quittance.domain.tracked import Seen
from quittance.event import Cause, Event, data_of, own_event
from quittance.locks import Connection
from quittance.settings import Reader, adoption
from quittance.stripe_client import StripeSettings, stripe_settings
from workers.customer_changes import Change, Guest, Told, record
from workers.runtime.intake import AFTERWARDS
from workers.runtime.outcomes import Done, Failed, Outcome, Refused, Unavailable
from workers.stripe_customers import Answer, Skipped, StripeAccounts, ask, connected, facts_in

QUEUE: Final = Queue(
    "customers",
    {
        STRIPE_EVENTS: (
            "customer.created",
            "customer.updated",
            "customer.deleted",
            "checkout.session.completed",
            "checkout.session.async_payment_succeeded",
            "checkout.session.async_payment_failed",
            "checkout.session.expired",
            # An account sends one of the last two for a paid invoice; all show the same address.
            "invoice.finalized",
            "invoice.paid",
            "invoice.payment_succeeded",
        )
    },
)
INTAKE: Final = AFTERWARDS

# By the table that publishing writes, and not by what the quotes worker has heard alone: a session can come before it.
PUBLISHED_HERE: Final = """
SELECT DISTINCT account, livemode, quote_id
FROM unnest($1::text[], $2::boolean[], $3::text[]) AS k (account, livemode, quote_id)
LEFT JOIN published_quotes USING (account, livemode, quote_id)
LEFT JOIN quotes USING (account, livemode, quote_id)
WHERE published_quotes.revision IS NOT NULL OR quotes.facts -> 'published' IS NOT NULL
"""

# Locked: the outcome of an attempt may be on its way.
LOAD_REQUESTS: Final = """
SELECT r.account, r.livemode, r.email_normalised, r.state, r.round
FROM unnest($1::text[], $2::boolean[], $3::text[]) AS k (account, livemode, email_normalised)
JOIN customer_requests r USING (account, livemode, email_normalised)
ORDER BY r.account, r.livemode, r.email_normalised
FOR UPDATE OF r
"""

SAVE_REQUESTS: Final = """
INSERT INTO customer_requests (account, livemode, email_normalised, email, name, quote_id, event_id, event_type,
                               event_created, received_at, event_headers, event_body, state, round, error)
SELECT account, livemode, email_normalised, email, name, quote_id, event_id, event_type, event_created, received_at,
       event_headers, event_body, state, round, error
FROM unnest($1::text[], $2::boolean[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::bigint[], $10::double precision[], $11::jsonb[], $12::bytea[], $13::text[], $14::integer[],
            $15::text[])
     AS k (account, livemode, email_normalised, email, name, quote_id, event_id, event_type, event_created,
           received_at, event_headers, event_body, state, round, error)
ON CONFLICT (account, livemode, email_normalised) DO UPDATE
SET email = excluded.email, name = excluded.name, quote_id = excluded.quote_id, event_id = excluded.event_id,
    event_type = excluded.event_type, event_created = excluded.event_created, received_at = excluded.received_at,
    event_headers = excluded.event_headers, event_body = excluded.event_body,
    state = excluded.state, round = excluded.round, error = excluded.error, due_at = now(), attempts = 0,
    claim = NULL, claimed_until = NULL
"""
WAKE_PERFORMERS: Final = "SELECT pg_notify('performers', '')"

CLAIM: Final = """
UPDATE customer_requests
SET claim = $1, claimed_until = now() + interval '30 seconds'
WHERE id IN (
    SELECT id FROM customer_requests
    WHERE state = 'due' AND due_at <= now() AND (claimed_until IS NULL OR claimed_until < now())
    ORDER BY due_at
    FOR UPDATE SKIP LOCKED
    LIMIT $2
)
RETURNING id, account, livemode, email_normalised, email, name, quote_id, event_id, event_type, event_created,
          received_at, event_headers, event_body, round, attempts
"""
STILL_CLAIMED: Final = "SELECT 1 FROM customer_requests WHERE id = $1 AND claim = $2"
SETTLE: Final = """
UPDATE customer_requests
SET state = $3, error = $4, attempts = attempts + $5, due_at = now() + $6::double precision * interval '1 second',
    claim = NULL, claimed_until = NULL,
    event_body = CASE WHEN $3 = 'due' THEN event_body END, event_headers = CASE WHEN $3 = 'due' THEN event_headers END
WHERE id = $1 AND claim = $2
"""


async def handle(events: Sequence[Event], db: Connection) -> list[Event]:
    """Take in what the events say of addresses and checkouts; note whom Stripe must be asked for."""
    readings = [reading for event in events if (reading := _read(event)) is not None]
    recorded = await record([reading.change for reading in await _ours(readings, db)], db)
    await _ask_for(recorded.guests, db)
    return [_customer_changed(told, because=told.event) for told in recorded.told]


def outside_settings(reader: Reader) -> StripeSettings:
    """What `outside` needs of the environment."""
    return StripeSettings.read(reader)


@asynccontextmanager
async def outside() -> AsyncIterator[StripeAccounts]:
    """What `perform` is given: a client of Stripe's, for the life of the process."""
    async with connected(stripe_settings()) as accounts:
        yield accounts


def destination(claim: Record) -> tuple[str, str]:
    """One account's limits and troubles are not another's."""
    return ("stripe", claim["account"])


async def perform(claim: Record, outside: StripeAccounts) -> Outcome:
    """Look the address up at Stripe, else make a customer. Done holds an Answer, or Skipped."""
    return await ask(claim, outside)


async def settle(claim: Record, outcome: Outcome, token: UUID, db: Connection) -> list[Event]:
    """Record what came of `perform`, and tell the quotes that wait for it."""
    if await db.fetchval(STILL_CLAIMED, claim["id"], token) is None:
        return []
    events: list[Event] = []
    match outcome:
        case Done(Answer() as answer):
            # Before the request's row: handlers hold the address's lock when they come to that row.
            scope = Id(claim["account"], claim["livemode"], "")
            because = _event(claim["event_id"], claim["event_type"], claim["event_created"], scope, claim)
            recorded = await record([Change(because, scope, facts_in(answer))], db)
            events = [_customer_changed(told, because=_event_of_session(told, claim)) for told in recorded.told]
            settled: tuple[Any, ...] = ("done", "", 1, 0.0)
        case Done(Skipped(why)):
            settled = ("skipped", why, 0, 0.0)
        case Refused(reason, detail):
            settled = ("refused", f"{reason}: {detail}", 1, 0.0)
        case Unavailable(detail, retry_after):
            settled = ("due", detail, 0, retry_after or 0.0)
        case Failed(detail, retry_in):
            settled = ("due", detail, 1, retry_in)
        case _:
            raise TypeError(f"perform never returns {outcome!r}")
    await db.execute(SETTLE, claim["id"], token, *settled)
    return events


class _Reading(NamedTuple):
    change: Change
    claim: Claim | None = None  # the quote that it must be ours by; None for the address book


def _read(event: Event) -> _Reading | None:
    """What an event says; None where that is nothing. Raises Rejected where it cannot be read."""
    obj, previous = data_of(event)
    scope = Id(event.account, event.livemode, "")
    if event.type.startswith("customer."):
        fact = customer_fact(event.type.removeprefix("customer."), event.created, event.id, obj, previous)
        return None if fact is None else _Reading(Change(event, scope, (fact,)))
    claim = claim_of(obj)
    if claim is None:
        return None
    if event.type.startswith("invoice."):
        seen = sighting(reference(obj, "customer"), text(obj, "customer_email"), event.created, event.id)
        return None if seen is None else _Reading(Change(event, scope, (seen,)), claim)
    return _session(event, scope, obj, claim)


def _session(event: Event, scope: Id, obj: StripeObject, claim: Claim) -> _Reading | None:
    sessions = facts_of(Seen(event.created, event.id, event.type), obj, {})
    if not sessions or (session := sessions[0]).key is None:  # one that only saves a means of payment
        return None
    link = Link(
        key=session.key,
        quote_id=claim.quote_id,
        customer_id=session.customer,
        email=session.email,
        event_type=event.type,
        paid=session.status in ("paid", "no_payment_required"),
    )
    seen = sighting(session.customer, session.email, event.created, event.id)
    return _Reading(Change(event, scope, () if seen is None else (seen,), scope.named(session.id), link), claim)


async def _ours(readings: Sequence[_Reading], db: Connection) -> list[_Reading]:
    """Less the sessions and invoices whose quote is neither adopted nor published here (S1)."""
    rule = adoption()
    doubtful = {
        reading.change.scope.named(reading.claim.quote_id)
        for reading in readings
        if reading.claim is not None and not adopted(reading.claim, enabled=rule.enabled, pattern=rule.pattern)
    }
    if doubtful:
        doubtful -= {Id(*row) for row in await db.fetch(PUBLISHED_HERE, *map(list, zip(*doubtful, strict=True)))}
    return [one for one in readings if one.claim is None or one.change.scope.named(one.claim.quote_id) not in doubtful]


async def _ask_for(guests: Sequence[Guest], db: Connection) -> None:
    """Note that Stripe must be asked; an address that is asked for already, or was for the same session, is not again."""
    wishes: dict[Id, Guest] = {}
    for guest in guests:
        if guest.link.address is not None and (guest.new or guest.event.replay_id is not None):
            wishes.setdefault(guest.session_id.named(guest.link.address), guest)
    if not wishes:
        return
    columns = map(list, zip(*sorted(wishes), strict=True))
    known = {Id(*row[:3]): (row["state"], row["round"]) for row in await db.fetch(LOAD_REQUESTS, *columns)}
    rows = []
    for address, guest in sorted(wishes.items()):
        state, last_round = known.get(address, (None, 0))
        # A customer that is gone again is made again for a new purchase, never because somebody replays an old one.
        if state == "due" or (state == "done" and not guest.new):
            continue
        rows.append(_request(address, guest, last_round + 1))
    if rows:
        await db.execute(SAVE_REQUESTS, *map(list, zip(*rows, strict=True)))
        await db.execute(WAKE_PERFORMERS)


def _request(address: Id, guest: Guest, round_number: int) -> tuple[Any, ...]:
    event, link = guest.event, guest.link
    why = stripe_settings().silent(address.livemode)
    # For the dead letter, should Stripe refuse: the archive may be behind.
    kept = (msgspec.json.encode(replace(event, replay_id=None).headers()).decode(), event.body)
    return (
        *address,
        (link.email or "").strip(),
        name_of_buyer(data_of(event)[0]),
        link.quote_id,
        event.id,
        event.type,
        event.created,
        event.received_at,
        *(kept if why is None else (None, None)),
        "due" if why is None else "skipped",
        round_number,
        why or "",
    )


def _event_of_session(told: Told, claim: Record) -> Event:
    """The event of the session that is told of: of several that waited, each has its own cause."""
    key = told.link.key
    return _event(key.event_id, told.link.event_type, key.second, told.session_id, claim)


def _event(event_id: str, event_type: str, created: int, scope: Id, claim: Record) -> Event:
    return Event(
        id=event_id,
        type=event_type,
        account=scope.account,
        livemode=scope.livemode,
        created=created,
        received_at=claim["received_at"],
        body=b"",
        cause=Cause(event_id, event_type),
    )


def _customer_changed(told: Told, *, because: Event) -> Event:
    session_id = told.session_id.name
    subject = {
        "quote_id": told.link.quote_id,
        "session_id": session_id,
        "email": told.known.email,
        "stripe_customer_id": told.known.stripe_customer_id,
        "version": told.version,
    }
    event_id = f"customer.changed:{session_id}:{told.version}"
    return own_event(event_id, "customer.changed", subject, because=because, stream=told.link.quote_id)
