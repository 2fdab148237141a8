"""The whole of Quittance as processes, with a mail server and Stripe's API beside it that are made up.

    async with system(database_url, amqp_url) as running:
        await running.start("ingest", "archive", "quotes-1", "quotes-2", "relay")
        await running.kill("quotes-1")        # and start("quotes-1") makes another
        await running.start("web")            # quotes and their pages under running.public_url

The name of a process is what it runs, with a number where there are several.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import asyncpg

from dev.places import free_ports
from quittance.database import connect
from tests.fakes.smtp import FakeSmtp, fake_smtp
from tests.fakes.stripe import StripeApi
from tests.support.polling import eventually
from tests.support.processes import Program, program
from workers import WORKERS

SECRET = "whsec_system"
API_KEY = "sk_test_quittance"
MAIL_TO = "sales@example.com"

RELAY = "relay"
ALL = ("ingest", *WORKERS, RELAY)

# What a process says when it is at work, and how often.
READY = {
    "ingest": ("ingest.listening", 1),
    "web": ("web.listening", 1),
    RELAY: ("workers.started", 1),
    "all": ("queue.consuming", len(WORKERS)),
}
CONSUMING = ("queue.consuming", 1)

# For a process to end, whose own grace is 10 s; on a machine that does other things besides.
PATIENCE = 40.0


@dataclass
class System:
    """What runs, by name; and what is outside: `mails` received, `stripe` asked."""

    database_url: str
    amqp_url: str
    mails: FakeSmtp
    stripe: StripeApi
    port: int
    web_port: int
    environment: dict[str, str]
    # What runs under a name instead of what the name says: arguments of `python`.
    instead: dict[str, tuple[str, ...]] = field(default_factory=dict)
    # Whom a process is to Postgres, by what it runs: an address instead of `database_url`.
    users: dict[str, str] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=dict)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def url(self) -> str:
        """Where Stripe posts."""
        return f"http://127.0.0.1:{self.port}/webhooks/stripe"

    @property
    def public_url(self) -> str:
        """Where buyers and the CRM reach web."""
        return f"http://127.0.0.1:{self.web_port}"

    async def start(self, *names: str) -> None:
        """Start processes, all at once, and wait until each is at work."""
        for name in names:
            assert name not in self.programs, f"{name} runs already"
            self.programs[name] = await self.stack.enter_async_context(self._program(name.partition("-")[0]))
        for name in names:
            line, times = READY.get(name.partition("-")[0], CONSUMING)
            await self.programs[name].logged(line, timeout=60, times=times)
        if any(name.startswith("ingest") for name in names):
            await eventually(self.is_ready, timeout=20)

    def _program(self, kind: str) -> Any:
        base = {"AMQP_URL": self.amqp_url, "LOG_LEVEL": "info"}
        if kind == "ingest":
            door = {"INGEST_HOST": "127.0.0.1", "INGEST_PORT": str(self.port), "STRIPE_WEBHOOK_SECRETS": SECRET}
            return program("-m", "ingest", **base, **door)
        if kind == "web":
            door = {"WEB_HOST": "127.0.0.1", "WEB_PORT": str(self.web_port), "PUBLIC_URL": self.public_url}
            return program("-m", "web", **base, **self._environment_of(kind), **door)
        arguments = self.instead.get(kind, ("-m", "workers", kind))
        return program(*arguments, **base, **self._environment_of(kind))

    def _environment_of(self, kind: str) -> dict[str, str]:
        return self.environment | {"DATABASE_URL": self.users.get(kind, self.database_url)}

    async def is_ready(self) -> bool:
        """Whether the ingress would take an event."""
        async with aiohttp.ClientSession() as session:
            try:
                async with session.get(f"http://127.0.0.1:{self.port}/readyz") as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                return False

    async def stop(self, name: str) -> None:
        """SIGTERM. Raises AssertionError, with its last lines, where it does not end or not well."""
        running = self.programs.pop(name)
        began = time.monotonic()
        try:
            code: int | None = await running.stop(PATIENCE)
        except TimeoutError:
            code = None
        last = "\n".join(running.lines[-30:])
        assert code == 0, f"{name} ended with {code} after {time.monotonic() - began:.1f} s:\n{last}"

    async def kill(self, name: str) -> None:
        """SIGKILL."""
        self.kills[name] = self.kills.get(name, 0) + 1
        await self.programs.pop(name).kill()

    async def stop_all(self) -> None:
        """SIGTERM to all of them at once."""
        await asyncio.gather(*(self.stop(name) for name in list(self.programs)))

    def alive(self) -> None:
        """Raise AssertionError where a process ended by itself."""
        for name, running in self.programs.items():
            assert running.code is None, f"{name} ended with {running.code}:\n" + "\n".join(running.lines[-30:])


@asynccontextmanager
async def system(database_url: str, amqp_url: str, **environment: str) -> AsyncIterator[System]:
    """Nothing runs yet; everything that was started ends with the block."""
    async with fake_smtp() as mails, StripeApi.running() as stripe, AsyncExitStack() as stack:
        settings = {
            "DATABASE_URL": database_url,
            "STRIPE_API_KEY": API_KEY,
            "STRIPE_API_BASE": stripe.url,
            "SMTP_URL": mails.url(),
            "MAIL_FROM": "quotes@example.com",
            "MAIL_TO": MAIL_TO,
            **environment,
        }
        port, web_port = free_ports(2)
        running = System(database_url, amqp_url, mails, stripe, port, web_port, settings, stack=stack)
        yield running
        running.alive()


# When everything is done ---------------------------------------------------------------------------------------------

NOT_ARCHIVED = "SELECT event_id FROM unnest($1::text[]) AS sent (event_id) EXCEPT SELECT event_id FROM events"
NOT_HANDLED = """
SELECT event_id FROM unnest($2::text[]) AS sent (event_id)
EXCEPT SELECT event_id FROM inbox WHERE queue = $1
EXCEPT SELECT event_id FROM failed_deliveries WHERE queue = $1 AND state = 'dead'
"""
# What has left one worker's transaction and not come to the other's yet: in the outbox, in a queue, in somebody's hands.
UNDER_WAY = {
    "in the outbox": "SELECT event_id FROM outbox",
    "to be sent again": "SELECT event_id FROM failed_deliveries WHERE state IN ('retrying', 'replaying')",
    "mails to send": "SELECT message_id FROM emails WHERE state = 'due'",
    "to ask Stripe for": "SELECT email FROM customer_requests WHERE state = 'due'",
    "sessions to expire": "SELECT session_id FROM checkout_sessions WHERE state = 'closing' AND due_at < 'infinity'",
    "coupons to delete": "SELECT coupon_id FROM quote_coupons WHERE state = 'archiving' AND due_at < 'infinity'",
    # Of all changes, also of those that were not told to notifications because they ask for nothing new.
    "mails to record": """
        SELECT format('%s paid %s', quote_id, coalesce(data ->> 'paid_revision', data ->> 'revision'))
        FROM quote_status_changes WHERE data ->> 'paid_at' IS NOT NULL
        UNION SELECT format('%s %s', quote_id, anomaly)
        FROM quote_status_changes, jsonb_array_elements_text(data -> 'anomalies') AS anomaly
        EXCEPT SELECT CASE kind WHEN 'paid' THEN format('%s paid %s', quote_id, revision)
                                ELSE format('%s %s', quote_id, kind) END FROM emails""",
    "namings for documents": """
        SELECT format('quote.documents_named:%s:%s', quote_id, documents_version) FROM quotes WHERE documents_version > 0
        EXCEPT SELECT event_id FROM inbox WHERE queue = 'documents'""",
    "documents for quotes": """
        SELECT format('document.changed:%s:%s', object_id, version) FROM documents
        EXCEPT SELECT event_id FROM inbox WHERE queue = 'quotes'""",
    "customers for quotes": """
        SELECT format('customer.changed:%s:%s', session_id, told_version) FROM quote_customers
        WHERE told_version IS NOT NULL
        EXCEPT SELECT event_id FROM inbox WHERE queue = 'quotes'""",
}


async def pending(db: asyncpg.Connection, accepted: dict[str, set[str]]) -> dict[str, list[str]]:
    """What is still to be done about the `accepted` (ids by queue), by kind: ids."""
    left = {"to archive": await db.fetch(NOT_ARCHIVED, sorted(accepted["archive"]))}
    for queue, ids in accepted.items():
        left[f"in {queue}"] = await db.fetch(NOT_HANDLED, queue, sorted(ids))
    for kind, statement in UNDER_WAY.items():
        left[kind] = await db.fetch(statement)
    return {kind: [row[0] for row in rows] for kind, rows in left.items() if rows}


def by_queue(events: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Ids of Stripe's events (id, type) by the queues that get them."""
    ids: dict[str, set[str]] = {name: set() for name in WORKERS if name != "notifications"}
    bound = {name: WORKERS[name].QUEUE.bindings.get("stripe.events", ()) for name in ids}
    for event_id, event_type in events:
        for queue, types in bound.items():
            if event_type in types or "#" in types:
                ids[queue].add(event_id)
    return ids


async def settled(running: System, events: Iterable[tuple[str, str]], patience: float = 60) -> None:
    """Wait until everything has been done that the accepted `events` (id, type) ask for.

    `patience`: seconds without any progress, after which AssertionError says what is left.
    """
    accepted = by_queue(events)
    db = await connect(running.database_url, "settled")
    seen: dict[str, list[str]] = {}
    since = time.monotonic()
    try:
        while left := await pending(db, accepted):
            running.alive()
            if left != seen:
                seen, since = left, time.monotonic()
            summary = {kind: (len(ids), ids[:3]) for kind, ids in left.items()}
            assert time.monotonic() - since < patience, f"for {patience:g} s nothing more has happened: {summary}"
            await asyncio.sleep(0.1)
    finally:
        await db.close()
