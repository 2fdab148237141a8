"""The CRM's side: what stands in the queue `crm`, and whether it is what RULES S5 promises."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
from aiormq.abc import DeliveredMessage
from asyncpg.pool import Pool
from jsonschema import Draft202012Validator, FormatChecker

from quittance import broker
from quittance.broker import CRM_QUEUE

SCHEMA_FILE = Path(__file__).resolve().parents[2] / "docs" / "crm-event.schema.json"

QuoteKey = tuple[str, bool, str]  # account, livemode, quote id

QUOTES = "SELECT * FROM quotes"
COLUMNS = ("status", "label", "currency", "amount_due", "amount_captured", "amount_refunded", "amount_lost")
MORE_COLUMNS = ("dispute_status", "subscription_status", "revision", "paid_revision", "number", "anomalies")


@dataclass(frozen=True)
class Change:
    """A CRM event as it came."""

    body: bytes
    event: dict[str, Any]
    routing_key: str
    headers: dict[str, Any]
    content_type: str | None

    @property
    def data(self) -> dict[str, Any]:
        """What it says of the quote."""
        held: dict[str, Any] = self.event["data"]
        return held


async def everything_told(amqp_url: str) -> list[Change]:
    """Take, and settle, all that the queue `crm` holds, in order."""
    changes: list[Change] = []
    async with broker.connected(amqp_url, "crm") as connection:
        channel = await broker.open_channel(connection, confirms=False)
        held = (await channel.queue_declare(CRM_QUEUE, passive=True)).message_count or 0
        complete = asyncio.Event()

        async def take(message: DeliveredMessage) -> None:
            about = message.header.properties
            changes.append(
                Change(
                    message.body,
                    json.loads(message.body),
                    message.routing_key or "",
                    dict(about.headers or {}),
                    about.content_type,
                )
            )
            if len(changes) >= held:
                complete.set()

        if held:
            await channel.basic_consume(CRM_QUEUE, take, no_ack=True)
            async with asyncio.timeout(30):
                await complete.wait()
    return changes


async def quotes_in(database: Pool) -> dict[QuoteKey, asyncpg.Record]:
    """The rows of the table `quotes`."""
    return {(row["account"], row["livemode"], row["quote_id"]): row for row in await database.fetch(QUOTES)}


def by_quote(changes: Sequence[Change]) -> dict[QuoteKey, list[Change]]:
    """The changes of each quote, in order of arrival."""
    found: dict[QuoteKey, list[Change]] = defaultdict(list)
    for change in changes:
        found[change.data["account"], change.data["livemode"], change.data["quote_id"]].append(change)
    return dict(found)


def assert_told_in_order(changes: Sequence[Change], rows: Mapping[QuoteKey, asyncpg.Record]) -> int:
    """INVARIANT (S5): of each quote 1, 2, 3, … in order of first arrival; a number that comes twice has the same id and
    bytes; the last one says what the table says. Returns how many came twice.
    """
    found, repeated = by_quote(changes), 0
    assert set(found) == set(rows)
    for key, told in found.items():
        first: dict[int, Change] = {}
        for change in told:
            same = first.setdefault(int(change.data["sequence"]), change)
            assert same.body == change.body, f"{key}: {same.event['id']} came twice with different bytes"
            repeated += same is not change
        assert list(first) == list(range(1, rows[key]["sequence"] + 1)), f"{key}: {list(first)}"
        previous = None
        for change in first.values():
            assert change.data["previous"] == previous, f"{key}: {change.event['id']}"
            previous = change.data["status"]
        _assert_last(list(first.values())[-1], rows[key])
    return repeated


def _assert_last(change: Change, row: asyncpg.Record) -> None:
    data = change.data
    assert data == json.loads(row["data"])
    for column in (*COLUMNS, *MORE_COLUMNS):
        assert data[column] == row[column], f"{change.event['id']}: {column}"
    paid_at = None if row["paid_at"] is None else row["paid_at"].isoformat().replace("+00:00", "Z")
    assert data["paid_at"] == paid_at
    assert data["owner"]["email"] == row["owner_email"]


@cache
def validator() -> Draft202012Validator:
    """Of the published schema."""
    schema = json.loads(SCHEMA_FILE.read_bytes())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


def assert_valid(changes: Sequence[Change]) -> None:
    """INVARIANT: every change is what the JSON Schema says, and its envelope what CloudEvents asks for."""
    for change in changes:
        wrong = [f"{error.json_path}: {error.message}" for error in validator().iter_errors(change.event)]
        assert not wrong, (change.event["id"], wrong)
        data, mode = change.data, "live" if change.data["livemode"] else "test"
        assert change.event["id"] == f"{data['quote_id']}:{data['sequence']}"
        assert change.event["source"] == f"/accounts/{data['account']}/{mode}/quotes"
        assert change.routing_key == f"quote.payment_status.{data['status']}"
        assert change.content_type == "application/cloudevents+json"
        attributes = ("id", "source", "type", "subject", "time", "specversion", "sequence")
        assert {name: change.headers[f"ce-{name}"] for name in attributes} == {
            name: change.event[name] for name in attributes
        }
