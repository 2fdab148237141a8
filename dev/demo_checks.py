"""What became of the demo's events, read from the database, and whether it is what must be."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import msgspec

from dev.crm import Change, Crm
from dev.demo_scenario import OWNER, Scenario, paid_at
from dev.life import Life
from dev.mailbox import Mail
from dev.stripe_events import body
from quittance.event import OWN_ACCOUNT

QUOTES: Final = """
SELECT account, quote_id, sequence, status, label, currency, amount_due, amount_captured, amount_refunded, amount_lost,
       dispute_status, subscription_status, paid_at, anomalies, data
FROM quotes WHERE quote_id = ANY($1::text[]) AND NOT livemode
"""
DOCUMENTS: Final = """
SELECT quote_id, kind, status, number, amount, amount_paid, amount_refunded, url
FROM documents WHERE quote_id = ANY($1::text[]) AND NOT livemode
"""
FAILED: Final = """
SELECT queue, event_id, type, state, reason, error, attempts
FROM failed_deliveries WHERE event_id = ANY($1::text[]) ORDER BY queue
"""
ARCHIVED: Final = "SELECT event_id, body FROM events WHERE event_id = ANY($1::text[])"

Row = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What is in the database about the scenario."""

    quotes: dict[str, Row]
    documents: dict[str, list[Row]]
    failed: list[Row]
    archived: dict[str, bytes]


async def look(db: asyncpg.Connection, scenario: Scenario) -> Found:
    """Read everything about the scenario's quotes and events."""
    names = [told.purchase.quote_id for told in scenario.lives]
    unwanted = [f"Q-{scenario.run}-poison", f"Q-{scenario.run}-forged"]
    ids = [str(sent["id"]) for sent in (*scenario.genuine(), scenario.forged)]
    quotes = {str(row["quote_id"]): dict(row) for row in await db.fetch(QUOTES, [*names, *unwanted])}
    for quote in quotes.values():
        quote["data"] = msgspec.json.decode(quote["data"])
    documents: dict[str, list[Row]] = {name: [] for name in [*names, *unwanted]}
    for row in await db.fetch(DOCUMENTS, names):
        documents[row["quote_id"]].append(dict(row))
    failed = [dict(row) for row in await db.fetch(FAILED, ids)]
    archived = {str(row["event_id"]): bytes(row["body"]) for row in await db.fetch(ARCHIVED, ids)}
    return Found(quotes, documents, failed, archived)


def differences(scenario: Scenario, found: Found, crm: Crm, mails: Sequence[Mail]) -> list[str]:
    """Everything that is not as it must be, in words; nothing if all is right."""
    wrong = []
    for told in scenario.lives:
        quote_id = told.purchase.quote_id
        quote = found.quotes.get(quote_id)
        if quote is None:
            wrong.append(f"{quote_id}: there is no such quote")
            continue
        wrong += [f"{quote_id}: {text}" for text in _quote(told, quote, found.documents[quote_id])]
        wrong += [f"{quote_id}: {text}" for text in _changes(told, quote, crm.quotes.get(quote_id, []))]
        wrong += [f"{quote_id}: {text}" for text in _mails(told, mails)]
    for kind in ("poison", "forged"):
        name = f"Q-{scenario.run}-{kind}"
        if name in found.quotes or name in crm.quotes:
            wrong.append(f"{name}: a {kind} event made a quote")
    wrong += _failed(scenario, found)
    wrong += _archive(scenario, found)
    return wrong


def _differ(what: str, is_: object, must: object) -> list[str]:
    return [] if is_ == must else [f"{what} is {is_!r}, must be {must!r}"]


def _quote(told: Life, quote: Row, documents: Sequence[Row]) -> list[str]:
    must, p = told.expected, told.purchase
    first_paid = paid_at(told)
    when = None if first_paid is None else datetime.fromtimestamp(first_paid, UTC)
    wrong = [
        *_differ("account", quote["account"], p.account or OWN_ACCOUNT),
        *_differ("status", quote["status"], must.status),
        *_differ("currency", quote["currency"], p.currency),
        *_differ("amount_due", quote["amount_due"], must.amount_due),
        *_differ("amount_captured", quote["amount_captured"], must.captured),
        *_differ("amount_refunded", quote["amount_refunded"], must.refunded),
        *_differ("amount_lost", quote["amount_lost"], must.lost),
        *_differ("dispute_status", quote["dispute_status"], must.dispute_status),
        *_differ("subscription_status", quote["subscription_status"], must.subscription_status),
        *_differ("anomalies", tuple(quote["anomalies"]), must.anomalies),
        *_differ("paid_at", quote["paid_at"], when),
        *_differ("documents", tuple(sorted(row["kind"] for row in documents)), must.documents),
    ]
    if must.status == "paid" and when is not None:
        wrong += _differ("label", quote["label"], f"Paid: {when:%b} {when.day}, {when.year}")
    if not all(row["url"] for row in documents):
        wrong.append("a document has no link")
    customer = quote["data"].get("customer") or {}
    wrong += _differ("customer's address", customer.get("email"), p.email)
    if not any(str(value).startswith("cus_") for value in customer.values()):
        wrong.append("the customer has no Stripe id")
    return wrong


def _changes(told: Life, quote: Row, changes: Sequence[Change]) -> list[str]:
    """Every sequence number from 1 to the quote's, first arrivals in order, repetitions the same, the last one true."""
    if not changes:
        return ["the CRM received nothing"]
    first: dict[int, Change] = {}
    wrong = []
    for change in changes:
        same = first.setdefault(change.sequence, change)
        if same.event != change.event:
            wrong.append(f"sequence {change.sequence} came twice with different contents")
    wrong += _differ("the sequence at the CRM", list(first), list(range(1, quote["sequence"] + 1)))
    for change in first.values():
        data, event = change.data, change.event
        source = f"/accounts/{told.purchase.account or OWN_ACCOUNT}/test/quotes"
        wrong += _differ("a CRM event's source", event["source"], source)
        wrong += _differ("a CRM event's id", event["id"], f"{event['subject']}:{change.sequence}")
        wrong += _differ("a routing key", change.routing_key, f"quote.payment_status.{data['status']}")
        wrong += _differ("a content type", change.content_type, "application/cloudevents+json")
    last = list(first.values())[-1].data
    wrong += [
        text
        for name in ("status", "label", "amount_due", "amount_captured", "amount_refunded", "amount_lost")
        for text in _differ(f"{name} of the last CRM event", last[name], quote[name])
    ]
    return wrong


def _mails(told: Life, mails: Sequence[Mail]) -> list[str]:
    """One mail for a quote that was ever paid, to the owner; two deliveries of one Message-ID are one mail."""
    about = {mail.message_id: mail for mail in mails if told.purchase.quote_id in mail.subject + mail.text}
    wrong = _differ("the number of mails", len(about), int(told.expected.paid))
    for mail in about.values():
        wrong += _differ("the mail's recipient", mail.recipients, (OWNER,))
    return wrong


def _failed(scenario: Scenario, found: Found) -> list[str]:
    poison = str(scenario.poison["id"])
    wrong = [
        f"{row['type']} {row['event_id']} is left in failed_deliveries: queue {row['queue']}, {row['state']}, {row['error']}"
        for row in found.failed
        if row["event_id"] != poison
    ]
    dead = [row for row in found.failed if row["event_id"] == poison]
    if "quotes" not in [row["queue"] for row in dead]:
        wrong.append("the poison event is no dead letter of the queue quotes")
    for row in dead:
        wrong += _differ(f"state of the poison event in {row['queue']}", row["state"], "dead")
        wrong += _differ(f"reason of the poison event in {row['queue']}", row["reason"], "unreadable_payload")
    return wrong


def _archive(scenario: Scenario, found: Found) -> list[str]:
    wrong = []
    for sent in scenario.genuine():
        kept = found.archived.get(str(sent["id"]))
        if kept is None:
            wrong.append(f"{sent['id']} is not in the archive")
        elif kept != body(sent):
            wrong.append(f"{sent['id']} is in the archive with other bytes")
    if str(scenario.forged["id"]) in found.archived:
        wrong.append("the forged event is in the archive")
    return wrong
