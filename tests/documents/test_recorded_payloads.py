"""Recorded payloads, of 2011 to 2026, as documents: each is read, and nothing is guessed."""

import json
from pathlib import Path
from typing import Any

from quittance.domain.documents import document_of, facts_from
from quittance.domain.tracked import Seen
from workers.documents import STRIPE_TYPES


def events(folder: Path) -> list[dict[str, Any]]:
    """The recorded events that the documents worker consumes."""
    found = [json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
    return [event for event in found if event.get("type") in STRIPE_TYPES]


def responses(folder: Path) -> list[dict[str, Any]]:
    """Charges and invoices as the API of 2024 to 2026 answers them, wrapped as the events that would carry them."""
    found = [json.loads(path.read_bytes()) for path in sorted((folder / "api_responses").glob("*.json"))]
    kinds = {"charge": "charge.succeeded", "invoice": "invoice.updated", "refund": "refund.updated"}
    return [
        {"id": f"evt_{number}", "type": kinds[obj["object"]], "created": 1_790_000_000, "data": {"object": obj}}
        for number, obj in enumerate(found)
        if obj.get("object") in kinds
    ]


def test_every_recorded_event_and_response_is_read(payloads: Path) -> None:
    read = events(payloads) + responses(payloads)
    assert len(read) >= 30
    for event in read:
        obj = event["data"]["object"]
        facts = facts_from(Seen(event["created"], event["id"], event["type"]), obj)
        own = obj["charge"] if obj["object"] == "refund" else obj["id"]
        assert own in {fact.subject.id for fact in facts}
        documents = [document for fact in facts if (document := document_of(fact)) is not None]
        if obj["object"] == "refund":
            assert documents == []
            continue
        [document] = documents
        assert document.kind == {"charge": "receipt", "invoice": "invoice"}[obj["object"]]
        assert document.amount == obj["total" if obj["object"] == "invoice" else "amount"]
        assert document.currency == obj["currency"]
        if obj.get("status") and obj["object"] == "invoice":
            assert document.status == obj["status"]


def test_r14_a_paid_invoice_of_every_version_has_number_links_and_what_was_paid(payloads: Path) -> None:
    paid = [event for event in responses(payloads) if event["data"]["object"].get("status") == "paid"]
    assert len(paid) >= 5
    for event in paid:
        obj = event["data"]["object"]
        [fact] = facts_from(Seen(event["created"], event["id"], event["type"]), obj)
        document = document_of(fact)
        assert document is not None
        assert (document.number, document.amount_paid) == (obj["number"], obj["amount_paid"])
        assert (document.url, document.pdf_url) == (obj["hosted_invoice_url"], obj["invoice_pdf"])
        assert fact.issued_at is not None
