"""The pure half of the quotes worker: events folded into a book, without broker or database."""

from collections.abc import Iterable
from typing import Any

from quittance.event import Event
from workers.quote_book import Book, QuoteRecord
from workers.quote_changes import NOT_COMPARED, changes_of
from workers.quote_ledger import adopts
from workers.quotes import read


def fold(events: Iterable[Event]) -> tuple[Book, list[Event]]:
    """The book after `events` of one account and mode, and what was emitted on the way."""
    book, emitted = None, []
    for event in events:
        reading = read(event)
        book = book or Book(reading.scope, adopts)
        for quote_id in sorted(book.take(reading)):
            emitted += changes_of(book, quote_id, because=event)
    assert book is not None, "no events"
    return book, emitted


def final(book: Book) -> dict[str, Any]:
    """What must be the same in every order, per quote: all that the CRM is told but the numbering, and the documents."""
    return {quote_id: _final(record) for quote_id, record in book.quotes.items()}


def _final(record: QuoteRecord) -> dict[str, Any]:
    assert record.data is not None
    told = {name: value for name, value in record.data.items() if name not in NOT_COMPARED}
    return told | {"document_names": record.document_names}
