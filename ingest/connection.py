"""The connection to the broker: kept by one loop that connects, watches, and begins again when it is lost.

It is used for nothing but publishing: the broker blocks a connection as a whole.
"""

import asyncio
import random
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

import structlog
from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelNotFoundEntity

from ingest.metrics import BROKER_UP
from quittance import broker
from quittance.broker import STRIPE_EVENTS

Absence = Literal["broker_away", "broker_blocked", "exchange_missing"]

CONNECT_BUDGET: Final = 6.0  # seconds; with the longest pause before it, ready again within 10 s
PROBE_EVERY: Final = 1.0
PROBE_BUDGET: Final = 4.0
SHORTEST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True, eq=False)
class Link:
    """A connection in use: `wire` publishes, `probe` asks now and then whether the broker still answers."""

    connection: AbstractConnection
    wire: AbstractChannel
    probe: AbstractChannel
    lost: asyncio.Future[Any]

    @property
    def is_open(self) -> bool:
        return not self.wire.is_closed

    @property
    def is_blocked(self) -> bool:
        """Whether the broker has told us to stop publishing (a memory or disk alarm)."""
        transport = self.connection.transport
        if transport is None:
            return True
        # One step of a coroutine that ends at once unless the connection is blocked: no task, no timer, no private name.
        waiting = transport.connection.ready()
        try:
            waiting.send(None)
        except StopIteration:
            return False
        waiting.close()
        return True


class Connection:
    """`start` it, and it stays connected until `close`; `link` is what can be used now."""

    def __init__(self, amqp_url: str) -> None:
        self.begun = asyncio.Event()  # set when it was connected for the first time
        self._url = amqp_url
        self._absence: Absence = "broker_away"
        self._told: Absence | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.link: Link | None = None
        BROKER_UP.set_function(lambda: self.hindrance is None)

    @property
    def hindrance(self) -> Absence | None:
        """Why nothing can be published now; None when all is well."""
        if self.link is None:
            return self._absence
        if not self.link.is_open:
            return "broker_away"
        return "broker_blocked" if self.link.is_blocked else None

    def start(self) -> asyncio.Task[NoReturn]:
        """Returns at once, whether the broker is there or not. The task never ends by itself."""
        return self._spawn(self._stay_connected())

    async def close(self) -> None:
        """Let go of the broker, within seconds."""
        for task in self._tasks:
            task.cancel()
        link, self.link = self.link, None
        if link is not None:
            await broker.close(link.connection)

    async def _stay_connected(self) -> NoReturn:
        pause = SHORTEST_PAUSE
        while True:
            try:
                async with asyncio.timeout(CONNECT_BUDGET):
                    link = await self._connect()
            except Exception as error:  # noqa: BLE001 - whatever it is, there is nothing to do but to try again
                self._tell_absence(error)
            else:
                connected_at = time.monotonic()
                await self._use(link)
                if time.monotonic() - connected_at > LONGEST_PAUSE:
                    pause = SHORTEST_PAUSE
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _connect(self) -> Link:
        """A new connection, on which the exchange can be published to. Raises whatever is in the way."""
        connection = await broker.connect(self._url, "ingest")
        try:
            wire = await broker.open_channel(connection, confirms=True)
            probe = await broker.open_channel(connection, confirms=False)
            await _ask(probe)
        except BaseException:
            self._spawn(broker.close(connection))
            raise
        return Link(connection, wire, probe, wire.closing)

    async def _use(self, link: Link) -> None:
        self.link, self._told = link, None
        self.begun.set()
        log.info("broker.connected")
        reason = await _watch(link)
        self.link, self._absence = None, "broker_away"
        log.warning("broker.lost", reason=reason)
        self._spawn(broker.close(link.connection))  # beside: one that hangs takes seconds to say goodbye

    def _tell_absence(self, error: Exception) -> None:
        """One line for an absence, not one for every attempt to end it."""
        self._absence = "exchange_missing" if isinstance(error, ChannelNotFoundEntity) else "broker_away"
        if self._told != self._absence:
            self._told = self._absence
            log.warning("broker.unusable", reason=self._absence, error=type(error).__name__)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _watch(link: Link) -> str:
    """Returns, with the reason, when `link` is of no use any more."""
    blocked = False
    while True:
        await asyncio.wait({link.lost}, timeout=PROBE_EVERY)
        if not link.is_open:
            return "closed"
        if blocked != link.is_blocked:
            blocked = not blocked
            log.warning("broker.blocked" if blocked else "broker.unblocked")
        if blocked:
            continue  # it reads nothing from us, so silence means nothing; heartbeats tell whether it lives
        try:
            await _ask(link.probe)
        except Exception as error:  # noqa: BLE001 - of whatever a probe fails, it says: begin again
            return str(error)


async def _ask(channel: AbstractChannel) -> None:
    """Return when the broker says that the exchange is there. Asked of it, not of a cache in the client."""
    async with broker.calling(PROBE_BUDGET):
        await channel.exchange_declare(STRIPE_EVENTS, passive=True)
