"""The quotes' changes as the notifications worker reads them: what a change asks for, and the quote as it stands."""

from datetime import datetime
from typing import Any

import msgspec
from asyncpg import Record

from quittance.domain.payload import storable
from quittance.errors import Rejected
from quittance.event import Event
from workers.mail.letters import Mail


class _Owner(msgspec.Struct, frozen=True):
    """Whom a quote belongs to, as the CRM event names it."""

    name: str | None = None
    email: str | None = None


class Change(msgspec.Struct, frozen=True):
    """What of a CRM event's data decides about mails."""

    quote_id: str
    revision: int
    paid_at: datetime | None
    paid_revision: int | None
    anomalies: list[str]
    owner: _Owner = _Owner()


class _Customer(msgspec.Struct, frozen=True):
    email: str | None = None


class _Quote(msgspec.Struct, frozen=True):
    """The data of a quote's newest CRM event."""

    number: str | None
    owner: _Owner
    revision: int
    status: str
    label: str
    paid_at: datetime | None
    paid_revision: int | None
    currency: str | None
    exponent: int | None
    amount_due: int | None
    amount_captured: int | None
    amount_refunded: int | None
    amount_lost: int | None
    subscription_status: str | None
    customer: _Customer | None
    documents: list[dict[str, Any]]


class _CrmEvent(msgspec.Struct, frozen=True):
    """quote.payment_status_changed."""

    data: Change


_crm_event = msgspec.json.Decoder(_CrmEvent)


def change_of(event: Event) -> Change:
    """What a CRM event says. Raises Rejected where it is none of ours."""
    try:
        change = _crm_event.decode(event.body).data
    except (ValueError, RecursionError) as error:
        raise Rejected("unreadable_payload", f"{event.type}: {error}") from error
    if not all(map(storable, (change.quote_id, change.owner.email or "", *change.anomalies))):
        raise Rejected("unreadable_payload", f"{event.type}: text that cannot be stored")
    return change


def mail_of(claim: Record) -> Mail:
    """The mail that a claim is about, and its quote as it stands."""
    now = msgspec.json.decode(claim["data"], type=_Quote)
    # `paid_at` is of the newest revision that was paid; a mail about an older one keeps its own.
    paid_at = now.paid_at if now.paid_revision == claim["revision"] else claim["paid_at"]
    return Mail(
        kind=claim["kind"],
        revision=claim["revision"],
        account=claim["account"],
        livemode=claim["livemode"],
        quote_id=claim["quote_id"],
        number=now.number,
        title=claim["title"],
        locale=claim["locale"],
        time_zone=claim["time_zone"],
        owner_name=now.owner.name,
        current_revision=now.revision,
        status=now.status,
        label=now.label,
        paid_at=None if paid_at is None else int(paid_at.timestamp()),
        currency=now.currency,
        exponent=now.exponent,
        amount_due=now.amount_due,
        amount_captured=now.amount_captured,
        amount_refunded=now.amount_refunded,
        amount_lost=now.amount_lost,
        subscription_status=now.subscription_status,
        customer_email=None if now.customer is None else now.customer.email,
        documents=tuple(now.documents),
        recurs=claim["recurs"],
        to_owner=claim["to_owner"],
    )
