"""What is told when a quote changes (RULES S5): the CRM event, and which documents are the quote's."""

import time
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from quittance.domain.quote import Publication
from quittance.domain.status import QuoteState, state_of
from quittance.event import Event, own_event
from quittance.outbox import STATUS_CHANGED
from quittance.wording import label
from workers.quote_book import Book, QuoteRecord

# What differs in every event, and so is no change in itself.
NOT_COMPARED: Final = ("sequence", "previous", "cause")


class MailsAskedFor(NamedTuple):
    """The mail "paid" of a revision, and one for each anomaly; to the owner, where one is known."""

    owner: str | None
    paid_revision: int | None
    anomalies: tuple[str, ...]


NO_MAIL: Final = MailsAskedFor(None, None, ())
NO_PUBLICATION: Final = Publication(key=(0, ""))


def changes_of(book: Book, quote_id: str, *, because: Event) -> list[Event]:
    """The events to emit where the quote's state now differs from what was last told; updates the quote's record."""
    record = book.quotes[quote_id]
    objects = {object_id: book.objects[object_id] for object_id in book.members.get(quote_id, ())}
    state = state_of(quote_id, record.facts, objects)
    emitted: list[Event] = []
    if state.document_names != record.document_names:
        emitted.append(_documents_named(record, quote_id, state, because))
    data = _data(book, quote_id, state)
    if record.data is None or data != _comparable(record.data):
        emitted.append(_status_changed(record, quote_id, data, because))
    record.changed = record.changed or bool(emitted)
    return emitted


def _documents_named(record: QuoteRecord, quote_id: str, state: QuoteState, because: Event) -> Event:
    record.document_names = state.document_names
    record.documents_version += 1
    subject = {"quote_id": quote_id, "version": record.documents_version, "documents": state.document_names}
    event_id = f"quote.documents_named:{quote_id}:{record.documents_version}"
    return own_event(event_id, "quote.documents_named", subject, because=because, stream=quote_id)


def _status_changed(record: QuoteRecord, quote_id: str, data: dict[str, Any], because: Event) -> Event:
    previous = record.data["status"] if record.data is not None else None
    asked_before = mails_asked_for(record.data)
    record.sequence += 1
    record.data = data | {
        "sequence": record.sequence,
        "previous": previous,
        "cause": msgspec.to_builtins(because.cause),
    }
    record.told.append(record.data)
    now = time.time()
    mode = "live" if because.livemode else "test"
    event_id = f"{quote_id}:{record.sequence}"
    cloud_event = {
        "specversion": "1.0",
        "id": event_id,
        "source": f"/accounts/{because.account}/{mode}/quotes",
        "type": STATUS_CHANGED,
        "subject": quote_id,
        "time": rfc3339(now),
        "datacontenttype": "application/json",
        "sequence": f"{record.sequence:020d}",
        "data": record.data,
    }
    return Event(
        id=event_id,
        type=STATUS_CHANGED,
        account=because.account,
        livemode=because.livemode,
        created=int(now),
        received_at=because.received_at,
        body=msgspec.json.encode(cloud_event),
        cause=because.cause,
        traceparent=because.traceparent,
        stream=quote_id,
        routing_key=f"quote.payment_status.{data['status']}",
        mail_due=mails_asked_for(data) not in (NO_MAIL, asked_before),
    )


def mails_asked_for(data: dict[str, Any] | None) -> MailsAskedFor:
    """Which mails a quote's state asks for, and to whom (S5): a change in which that stays the same brings none."""
    if data is None or not (data["paid_at"] or data["anomalies"]):
        return NO_MAIL
    paid_revision = (data["paid_revision"] or data["revision"]) if data["paid_at"] else None
    return MailsAskedFor(data["owner"]["email"], paid_revision, tuple(data["anomalies"]))


def _data(book: Book, quote_id: str, state: QuoteState) -> dict[str, Any]:
    """The CRM event's data but for what is not compared; amounts in minor units, null while unknown."""
    publication = state.publication or NO_PUBLICATION
    sums, known = state.sums, state.sums.currency is not None
    account, livemode = book.scope
    return {
        "quote_id": quote_id,
        "number": publication.number,
        "deal_id": publication.deal_id,
        "owner": state.owner,
        "account": account,
        "livemode": livemode,
        "revision": state.revision,
        "status": state.status,
        "label": label(
            state.status,
            locale=publication.locale or "en",
            paid_at=state.paid_at,
            time_zone=publication.time_zone or "UTC",
        ),
        "paid_at": None if state.paid_at is None else rfc3339(state.paid_at),
        "paid_revision": state.paid_revision,
        "currency": sums.currency,
        "exponent": state.exponent,
        "amount_due": sums.due,
        "amount_captured": sums.captured if known else None,
        "amount_refunded": sums.refunded if known else None,
        "amount_lost": sums.lost if known else None,
        "dispute_status": state.dispute_status,
        "subscription_status": state.subscription_status,
        "customer": state.customer,
        "documents": state.documents,
        "anomalies": state.anomalies,
    }


def _comparable(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in NOT_COMPARED}


def rfc3339(seconds: float) -> str:
    """A time in UTC as CloudEvents and JSON Schema's date-time have it."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds" if seconds % 1 else "seconds").replace("+00:00", "Z")
