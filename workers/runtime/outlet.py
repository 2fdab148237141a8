"""Where the relay publishes to: one connection, and what is asked of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import asyncpg
import msgspec

from quittance import wire
from quittance.broker import BrokerAway, NotTaken
from quittance.outbox import STATUS_CHANGED
from quittance.wire import Wire
from workers.runtime import metrics

PUBLISH_TIMEOUT: Final = 5.0
JSON: Final = "application/json"
CLOUD_EVENTS: Final = "application/cloudevents+json"

Trouble = BrokerAway | NotTaken


class Outlet(Protocol):
    """What the relay publishes rows of the outbox through."""

    async def publish(self, rows: Sequence[asyncpg.Record]) -> Sequence[Trouble | None]:
        """Publish rows together; for each None once it is confirmed (or given up), else why it was not."""

    def passed_over(self) -> list[str]:
        """The routing keys whose rows are to be left alone now."""

    @property
    def lost(self) -> str:
        """Why it is of no more use; empty while it is."""


class EventsOutlet:
    """For events, to exchanges and queues of ours."""

    def __init__(self, channel: Wire) -> None:
        self._channel = channel

    async def publish(self, rows: Sequence[asyncpg.Record]) -> Sequence[Trouble | None]:
        """As Outlet says."""
        return await _published(self._channel, rows)

    def passed_over(self) -> list[str]:
        """None: a destination that does not take its rows is left alone as a whole."""
        return []

    @property
    def lost(self) -> str:
        """As Outlet says."""
        return self._channel.lost.result() if self._channel.lost.done() else ""


@asynccontextmanager
async def events_outlet(url: str, name: str) -> AsyncIterator[EventsOutlet]:
    """One on a connection of its own. Raises BrokerAway."""
    async with wire.connected(url, name, confirms=True) as channel:
        yield EventsOutlet(channel)


async def _published(channel: Wire, rows: Sequence[asyncpg.Record]) -> list[Trouble | None]:
    """Publish rows together; for each None once it is confirmed, else why it was not."""
    sent = []
    for row in rows:
        headers: dict[str, Any] = msgspec.json.decode(row["headers"])
        content_type = JSON
        if row["type"] == STATUS_CHANGED:
            headers, content_type = headers | cloud_event_headers(row["body"]), CLOUD_EVENTS
        where = row["exchange"], row["routing_key"]
        confirm = channel.send(*where, row["body"], headers, row["type"], PUBLISH_TIMEOUT, content_type)
        sent.append((row, headers, confirm))
    answers: list[Trouble | None] = []
    await asyncio.wait([confirm for _, _, confirm in sent])
    for row, headers, confirm in sent:
        trouble = confirm.exception()
        if trouble is None:
            _measure(headers, row["exchange"] or row["routing_key"])
        elif not isinstance(trouble, BrokerAway | NotTaken):
            raise trouble
        answers.append(trouble)
    return answers


_attributes = msgspec.json.Decoder(dict[str, msgspec.Raw])


def cloud_event_headers(body: bytes) -> dict[str, str]:
    """The text attributes of a CloudEvent in structured JSON, as `ce-…` headers."""
    texts = {name: bytes(raw) for name, raw in _attributes.decode(body).items()}
    return {f"ce-{name}": msgspec.json.decode(raw, type=str) for name, raw in texts.items() if raw.startswith(b'"')}


def _measure(headers: dict[str, Any], to: str) -> None:
    now = time.time()
    if received := headers.get("received-at"):
        metrics.ACCEPTED_LAG.labels(to).observe(max(0.0, now - float(received)))
    if created := headers.get("created"):
        metrics.CREATED_LAG.labels(to).observe(max(0.0, now - float(created)))
