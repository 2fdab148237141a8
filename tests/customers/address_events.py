"""Events of the address book and of checkouts, as short as they can be; and what the tables hold afterwards."""

from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

from asyncpg.pool import Pool

from quittance.domain.customers import typed
from quittance.event import Event, data_of
from tests.support.handling import accepted

BEGINS = 1_790_000_000

_numbers = count(1)


def event(
    event_type: str,
    subject: dict[str, Any],
    *,
    at: int = 0,
    previous: dict[str, Any] | None = None,
    account: str | None = None,
    livemode: bool = False,
    event_id: str | None = None,
) -> Event:
    """An event `at` seconds after the beginning."""
    body: dict[str, Any] = {
        "id": event_id or f"evt_{next(_numbers):09d}",
        "object": "event",
        "type": event_type,
        "created": BEGINS + at,
        "livemode": livemode,
        "data": {"object": subject},
    }
    if account is not None:
        body["account"] = account
    if previous is not None:
        body["data"]["previous_attributes"] = previous
    return accepted(body)


def created(customer: str, email: str | None, **about: Any) -> Event:
    """`customer.created`"""
    return event("customer.created", {"id": customer, "object": "customer", "email": email}, **about)


def moved(customer: str, former: str | None, email: str | None, **about: Any) -> Event:
    """`customer.updated`: the address changes"""
    subject = {"id": customer, "object": "customer", "email": email}
    return event("customer.updated", subject, previous={"email": former}, **about)


def updated(customer: str, email: str | None, **about: Any) -> Event:
    """`customer.updated`: something else changes"""
    subject = {"id": customer, "object": "customer", "email": email}
    return event("customer.updated", subject, previous={"balance": 0}, **about)


def deleted(customer: str, email: str | None = None, **about: Any) -> Event:
    """`customer.deleted`"""
    return event("customer.deleted", {"id": customer, "object": "customer", "email": email}, **about)


def session(
    session_id: str,
    quote: str | None,
    email: str | None,
    customer: str | None = None,
    *,
    payment_status: str = "paid",
    event_type: str = "checkout.session.completed",
    details: dict[str, Any] | None = None,
    fields: dict[str, Any] | None = None,
    **about: Any,
) -> Event:
    """`checkout.session.completed` of a session that carries a quote id in its metadata."""
    subject = {
        "id": session_id,
        "object": "checkout.session",
        "mode": "payment",
        "status": "complete",
        "payment_status": payment_status,
        "customer": customer,
        "customer_details": {"email": email, "name": None, **(details or {})},
        "metadata": {} if quote is None else {"quote_id": quote},
        **(fields or {}),
    }
    return event(event_type, subject, **about)


class Book(NamedTuple):
    """What the tables say, by normalised address, Stripe customer and session."""

    customers: dict[str, tuple[str, str | None]]
    aliases: dict[str, tuple[str | None, bool]]
    checkouts: dict[str, tuple[str | None, str | None]]


async def book_of(database: Pool, account: str = "self", livemode: bool = False) -> Book:
    """Per address its spelling and canonical customer; per customer its address and whether it is deleted; per session
    what its quote knows of its customer: what it was told, else what the session says itself.
    """
    where = "WHERE account = $1 AND livemode = $2"
    customers = await database.fetch(f"SELECT * FROM customers {where}", account, livemode)
    aliases = await database.fetch(f"SELECT * FROM customer_aliases {where}", account, livemode)
    checkouts = await database.fetch(f"SELECT * FROM quote_customers {where}", account, livemode)
    return Book(
        {row["email_normalised"]: (row["email"], row["stripe_customer_id"]) for row in customers},
        {row["stripe_customer_id"]: (row["email_normalised"], row["deleted"]) for row in aliases},
        {
            row["session_id"]: (typed(row["email"]), row["stripe_customer_id"])
            if row["told_version"] is None
            else (row["told_email"], row["told_customer_id"])
            for row in checkouts
        },
    )


def told(emitted: Sequence[Event]) -> list[tuple[str, str | None, str | None]]:
    """Of `customer.changed` events: session, e-mail, Stripe customer."""
    objects = [data_of(one)[0] for one in emitted if one.type == "customer.changed"]
    return [(one["session_id"], one["email"], one["stripe_customer_id"]) for one in objects]
