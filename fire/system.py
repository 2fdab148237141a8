"""The system under fire: every worker, the relay and ingest as a process of its own, against private servers."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from dev import system
from dev.places import free_ports
from dev.servers import Servers
from fire.crm import Crm, crm
from fire.mail import MailServer, mail_server
from fire.parked import parked
from fire.places import SETTINGS, Place, servers_of
from fire.stream import Stream
from tests.fakes.stripe import KEY, StripeApi
from tests.fakes.stripe import Place as Account

SECRET: Final = "whsec_under_fire"
OWN: Final = Account("self", livemode=False)  # where everything is at Stripe
WORKERS: Final = ("archive", "checkouts", "customers", "documents", "quotes", "notifications")
INGEST: Final = "ingest"
RELAY: Final = "relay"
EVERY: Final = (INGEST, *WORKERS, RELAY)
# A queue whose node is killed sooner after its declaration can come back unusable.
TOPOLOGY_SETTLES: Final = 3.0
DEATH: Final = 45.0  # seconds that a process is given to come to the point at which it dies

# Seconds: the broker's limit of deliveries, once over, each with a start of the process, which may take long.
PARKED_WITHIN: Final = 600.0
BACKLOG: Final = 5_000


class DidNotDie(Exception):
    """A process that was to be killed at a named point never came there."""


@dataclass
class System:
    """Everything that a fault can get hold of."""

    servers: Servers
    mails: MailServer
    crm: Crm
    stripe: StripeApi
    stream: Stream
    children: system.System
    environment: dict[str, str]
    poison: set[str]  # what has to be parked: "queue event (reason)"
    wires: AsyncExitStack  # the proxies that faults have put in between; they stay until all of it ends
    backlog: int = BACKLOG  # events that are to wait when workers come back
    notes: list[str] = field(default_factory=list)  # what a row measured, for the report

    def pid(self, name: str) -> int:
        """Of a process of ours."""
        return self._child(name).process.pid

    def _child(self, name: str) -> system.Child:
        return next(child for child in self.children.children if child.name == name)

    def start(self, name: str, *under: str, **instead: str) -> None:
        """Start a process; `under`: the module that runs it, and its arguments; `instead`: what its environment has else."""
        program = [INGEST] if name == INGEST else ["workers", name]
        port = "INGEST_PORT" if name == INGEST else "METRICS_PORT"
        self.children.start(name, [*under, *program], port, self.environment | instead)

    async def end(self, name: str, number: signal.Signals) -> None:
        """Send a process the signal that ends it, and wait until it has."""
        child = self._child(name)
        child.process.send_signal(number)
        await asyncio.to_thread(child.process.wait, 30)
        self.children.children.remove(child)

    async def restart(self, name: str, number: signal.Signals, **instead: str) -> None:
        """End a process by a signal, and start it again; `instead` as in `start`."""
        await self.restart_all((name,), number, **instead)

    async def restart_all(self, names: Sequence[str], number: signal.Signals, **instead: str) -> None:
        """The same of several, side by side."""
        await asyncio.gather(*(self.end(name, number) for name in names))
        for name in names:
            self.start(name, **instead)
        await self.children.ready()

    async def killed_at(self, name: str, point: str, nth: int) -> None:
        """Let a process die by its own hand at a named point (fire/kills.py), and start it again."""
        await self.end(name, signal.SIGTERM)
        self.start(name, "fire.kills", "--at", point, "--nth", str(nth))
        child = self._child(name)
        deadline = time.monotonic() + DEATH
        while child.process.poll() is None:
            if time.monotonic() > deadline:
                raise DidNotDie(f"{name} did not come to {point} within {DEATH:.0f} s")
            await asyncio.sleep(0.02)
        if child.process.returncode != -signal.SIGKILL:
            raise DidNotDie(f"{name} ended with {child.process.returncode}:\n{child.tail()}")
        self.children.children.remove(child)
        self.start(name)
        await self.children.ready()

    async def dying_of(self, name: str, event_id: str, wanted: str) -> int:
        """Let a process die of an event each time that it handles it, as often as it is started; how often that was.

        Returns when `wanted` ("queue event (reason)") is parked, with the process as it should be.
        """
        await self.end(name, signal.SIGTERM)
        deaths, deadline = 0, time.monotonic() + PARKED_WITHIN
        db = await self.database()
        try:
            while wanted not in await parked(db, [event_id], retrying=False):
                if time.monotonic() > deadline:
                    raise DidNotDie(f"{name} died {deaths} times, and {wanted} is not there")
                if all(child.name != name for child in self.children.children):
                    self.start(name, "fire.kills", "--on", event_id)
                child = self._child(name)
                if child.process.poll() is not None:
                    deaths += 1
                    self.children.children.remove(child)
                await asyncio.sleep(0.1)
        finally:
            await db.close()
        await self.restart(name, signal.SIGTERM)
        return deaths

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """A process of ours that is there, and does nothing."""
        os.kill(self.pid(name), signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid(name), signal.SIGCONT)

    async def database(self) -> asyncpg.Connection:
        """A connection for looking. Raises asyncpg's errors, OSError."""
        return await asyncpg.connect(self.servers.database_url, timeout=5, command_timeout=20)


@asynccontextmanager
async def running(given: Servers, children: system.System, rate: float, place: Place) -> AsyncIterator[System]:
    """The system, ready; its stream has not begun."""
    system.initialise(given.database_url, given.amqp_url, children.logs, **SETTINGS.get(place, {}))
    await asyncio.sleep(TOPOLOGY_SETTLES)
    port = str(free_ports(1)[0])
    async with (
        mail_server() as mails,
        crm(given.amqp_url) as listener,
        StripeApi.running() as stripe,
        AsyncExitStack() as wires,
    ):
        environment = {
            "AMQP_URL": given.amqp_url,
            "DATABASE_URL": given.database_url,
            "INGEST_HOST": "127.0.0.1",
            "INGEST_PORT": port,
            "LOG_LEVEL": "info",
            "MAIL_FROM": "quittance@example.com",
            "MAIL_TO": "seller@example.com",
            "SMTP_URL": mails.url,
            "STRIPE_API_BASE": stripe.url,
            "STRIPE_API_KEY": KEY,
            "STRIPE_WEBHOOK_SECRETS": SECRET,
        }
        url = f"http://127.0.0.1:{port}/webhooks/stripe"
        stream = Stream(url, SECRET, "none", rate)
        one = System(given, mails, listener, stripe, stream, children, environment, set(), wires)
        for name in EVERY:
            one.start(name)
        await children.ready()
        yield one


@contextmanager
def private(place: Place) -> Iterator[tuple[Servers, system.System]]:
    """Servers and room for processes; all of it ends with the block."""
    with servers_of(place) as given, system.system(f"fire-{place}") as children:
        yield given, children
