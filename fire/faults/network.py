"""The wires between processes and servers: slow, silent, reset, refused. Each process stays behind its wire when it is mended."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Final

from fire.proxy import Proxy, proxy
from fire.row import Inject, Row
from fire.system import INGEST, RELAY, WORKERS, System

SLOW: Final = 0.1  # seconds, each way
SLOW_FOR: Final = 8.0
# Longer than what waits for a confirm or an answer: everybody must have noticed, and given up, at least once.
SILENT_FOR: Final = 20.0
RESETS: Final = 4
BETWEEN: Final = 1.0
# A wire that was silent can leave a server with a transaction that nobody ends; its own timeouts have to.
BOUND: Final = 45.0

Fault = Callable[[Proxy], Awaitable[None]]


async def slow(wire: Proxy) -> None:
    """Each piece a tenth of a second late."""
    wire.latency(SLOW)
    await asyncio.sleep(SLOW_FOR)


async def silent(wire: Proxy) -> None:
    """Connections are there, and nothing comes through."""
    wire.black_hole()
    await asyncio.sleep(SILENT_FOR)


async def reset(wire: Proxy) -> None:
    """All connections reset, again and again, wherever they stand."""
    for _ in range(RESETS):
        wire.reset()
        await asyncio.sleep(BETWEEN)


async def refused(wire: Proxy) -> None:
    """Nobody gets through for a while."""
    wire.refuse()
    await asyncio.sleep(SLOW_FOR)


def behind(fault: Fault, names: tuple[str, ...], variable: str) -> Inject:
    """Put processes behind a wire, let the stream flow through it, and break it."""

    async def inject(system: System) -> None:
        url = system.environment[variable]
        wire = await system.wires.enter_async_context(proxy(url))
        await system.restart_all(names, signal.SIGTERM, **{variable: wire.through(url)})
        await system.stream.reached(len(system.stream.accepted) + RUN_UP)
        deadline = time.monotonic() + USED_WITHIN
        while not wire.accepted:  # a mail comes late in a life
            if time.monotonic() > deadline:
                raise RuntimeError(f"{names} went past the wire")
            await asyncio.sleep(0.1)
        try:
            await fault(wire)
        finally:
            wire.heal()

    return inject


USED_WITHIN: Final = 30.0  # seconds
RUN_UP: Final = 30  # events through the wire before it breaks

FAULTS: Final[dict[str, Fault]] = {"slow": slow, "silent": silent, "reset": reset, "refused": refused}
PLACES: Final[tuple[tuple[str, tuple[str, ...], str], ...]] = (
    ("ingest-broker", (INGEST,), "AMQP_URL"),
    ("relay-broker", (RELAY,), "AMQP_URL"),
    ("workers-broker", WORKERS, "AMQP_URL"),
    ("relay-database", (RELAY,), "DATABASE_URL"),
    ("workers-database", WORKERS, "DATABASE_URL"),
    ("mail-server", ("notifications",), "SMTP_URL"),
    ("customers-stripe", ("customers",), "STRIPE_API_BASE"),
)
PROMISES: Final = {
    "AMQP_URL": "what is not confirmed is sent again, what is not acked comes again; each effect is there once",
    "DATABASE_URL": "what did not commit is done again; nothing is dead-lettered for it",
    "SMTP_URL": "every mail arrives; one whose end nobody heard may come twice, with the same Message-ID",
    "STRIPE_API_BASE": "what was not answered is asked again: each address has one customer, nothing is dead-lettered",
}

ROWS: Final = tuple(
    Row(
        f"{place}-{name}",
        PROMISES[variable],
        BOUND,
        behind(fault, names, variable),
        repeats_mail=40,
        guests=variable == "STRIPE_API_BASE",
    )
    for place, names, variable in PLACES
    for name, fault in FAULTS.items()
)
