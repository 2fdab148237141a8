"""The connection to the broker: kept by one loop that connects, watches, and begins again when it is lost.

It is used for nothing but publishing: the broker blocks a connection as a whole.

A channel that first publishes to a quorum queue while that has no leader goes on refusing, on RabbitMQ 3.10, for as long as
the node of the former leader is away: also when two of three nodes have long chosen another. So where a queue refuses, the
next events go over a new connection; the old one stays for the answers that are on their way.
"""

import asyncio
import random
import time
from collections.abc import Coroutine
from typing import Any, Final, Literal, NoReturn

import structlog
from pamqp.commands import Exchange

from ingest.metrics import BROKER_UP
from quittance import wire
from quittance.broker import STRIPE_EVENTS, BrokerAway, ClosedByBroker
from quittance.wire import Wire

Absence = Literal["broker_away", "broker_blocked", "exchange_missing"]

CONNECT_BUDGET: Final = 6.0  # seconds; with the longest pause before it, ready again within 10 s
PROBE_EVERY: Final = 1.0
PROBE_BUDGET: Final = 4.0
SHORTEST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0
# From one new connection for a refusal to the next, and until the old one is closed: more than any answer may take.
RENEW_EVERY: Final = 0.5
RETIRE_AFTER: Final = 6.0
NOT_FOUND: Final = 404  # AMQP's

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Connection:
    """`start` it, and it stays connected until `close`; `link` is what can be used now."""

    def __init__(self, amqp_url: str) -> None:
        self.begun = asyncio.Event()  # set when it was connected for the first time
        self._url = amqp_url
        self._absence: Absence = "broker_away"
        self._told: Absence | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.link: Wire | None = None
        self._refusal = asyncio.Event()
        self._renewed_at = 0.0
        BROKER_UP.set_function(lambda: self.hindrance is None)

    @property
    def hindrance(self) -> Absence | None:
        """Why nothing can be published now; None when all is well."""
        if self.link is None:
            return self._absence
        if self.link.lost.done():
            return "broker_away"
        return "broker_blocked" if self.link.blocked else None

    def start(self) -> asyncio.Task[NoReturn]:
        """Returns at once, whether the broker is there or not. The task never ends by itself."""
        return self._spawn(self._stay_connected())

    def refused(self, link: Wire) -> None:
        """A queue did not take an event that went over `link`."""
        if link is self.link and time.monotonic() - self._renewed_at >= RENEW_EVERY:
            self._refusal.set()

    async def close(self) -> None:
        """Let go of the broker, within seconds."""
        for task in self._tasks:
            task.cancel()
        link, self.link = self.link, None
        if link is not None:
            await link.close()

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

    async def _connect(self) -> Wire:
        """A new connection, on which the exchange can be published to. Raises whatever is in the way."""
        link = await wire.connect(self._url, "ingest", confirms=True)
        try:
            await _ask(link)
        except BaseException:
            self._spawn(link.close())
            raise
        return link

    async def _use(self, link: Wire) -> None:
        self.link, self._told = link, None
        self.begun.set()
        log.info("broker.connected")
        while (reason := await _watch(link, self._refusal)) is None:
            link = await self._renewed(link)
        self.link, self._absence = None, "broker_away"
        log.warning("broker.lost", reason=reason)
        self._spawn(link.close())  # beside: one that hangs takes seconds to say goodbye

    async def _renewed(self, link: Wire) -> Wire:
        """Another connection in the place of `link`; or that, where there is none to be had."""
        self._refusal.clear()
        self._renewed_at = time.monotonic()
        try:
            async with asyncio.timeout(CONNECT_BUDGET):
                fresh = await self._connect()
        except Exception as error:  # noqa: BLE001 - whatever it is, what there was is as good as before
            log.warning("broker.not_renewed", error=type(error).__name__)
            return link
        self.link = fresh
        log.info("broker.renewed", reason="a queue refused")
        self._spawn(_retire(link))
        return fresh

    def _tell_absence(self, error: Exception) -> None:
        """One line for an absence, not one for every attempt to end it."""
        self._absence = (
            "exchange_missing" if isinstance(error, ClosedByBroker) and error.code == NOT_FOUND else "broker_away"
        )
        if self._told != self._absence:
            self._told = self._absence
            log.warning("broker.unusable", reason=self._absence, error=type(error).__name__)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _retire(link: Wire) -> None:
    """Close a connection when whatever waits for an answer on it has it, or has given up."""
    await asyncio.wait({link.lost}, timeout=RETIRE_AFTER)
    await link.close()


async def _watch(link: Wire, refusal: asyncio.Event) -> str | None:
    """Returns, with the reason, when `link` is of no use any more; None when a queue has refused."""
    blocked = False
    while True:
        refused = asyncio.ensure_future(refusal.wait())
        try:
            events: set[asyncio.Future[Any]] = {link.lost, refused}
            await asyncio.wait(events, timeout=PROBE_EVERY, return_when=asyncio.FIRST_COMPLETED)
        finally:
            refused.cancel()
        if link.lost.done():
            return link.lost.result()
        if refusal.is_set():
            return None
        if blocked != link.blocked:
            blocked = not blocked
            log.warning("broker.blocked" if blocked else "broker.unblocked")
        if blocked:
            continue  # it reads nothing from us, so silence means nothing; heartbeats tell whether it lives
        try:
            await _ask(link)
        except Exception as error:  # noqa: BLE001 - of whatever a probe fails, it says: begin again
            return str(error)


async def _ask(link: Wire) -> None:
    """Return when the broker says that the exchange is there."""
    try:
        async with asyncio.timeout(PROBE_BUDGET):
            await link.call(Exchange.Declare(exchange=STRIPE_EVENTS, passive=True), Exchange.DeclareOk)
    except TimeoutError:
        raise BrokerAway(f"no answer within {PROBE_BUDGET:g} s") from None
