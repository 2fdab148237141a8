"""More than usual: ten times the rate, workers that are away, and a backlog that they find when they come back."""

import asyncio
import signal
import time
from typing import Final

from fire.row import Broken, Row
from fire.system import WORKERS, System

BURST: Final = 10
LASTS: Final = 6.0
AWAY: Final = 10.0
FLOOD: Final = 100_000.0  # events/s: as fast as ingest takes them
# What a slow machine handles of a backlog, in events a second; what comes meanwhile stands behind it.
DRAINED: Final = 150
FRESH_BOUND: Final = 30.0  # seconds, beyond what the backlog takes
ALL_BOUND: Final = 60.0  # likewise, to the last mail
LOOK_EVERY: Final = 0.02
PAID: Final = "SELECT status = 'paid' FROM quotes WHERE quote_id = $1"


async def _burst(system: System) -> None:
    usual = system.stream.rate
    system.stream.rate = BURST * usual
    try:
        await asyncio.sleep(LASTS)
    finally:
        system.stream.rate = usual


async def _workers_away(system: System) -> None:
    await asyncio.gather(*(system.end(name, signal.SIGTERM) for name in WORKERS))
    await asyncio.sleep(AWAY)
    for name in WORKERS:
        system.start(name)
    await system.children.ready()


async def _backlog(system: System) -> None:
    """Events stored while nobody takes any; then workers, and in the midst of it a buyer who has just paid."""
    stream, usual = system.stream, system.stream.rate
    await asyncio.gather(*(system.end(name, signal.SIGTERM) for name in WORKERS))
    waiting, stream.rate = system.backlog, FLOOD
    try:
        await stream.reached(len(stream.accepted) + waiting)
    finally:
        stream.rate = usual
    for name in WORKERS:
        system.start(name)
    await system.children.ready()
    began = time.monotonic()
    quote = await stream.life()
    told, paid = await _told(system, quote, FRESH_BOUND + waiting / DRAINED)
    system.notes.append(
        f"a life told when workers came back to {waiting:,} events was paid at the CRM {told - began:.1f} s later, "
        f"{told - paid:.2f} s after its commit"
    )


async def _told(system: System, quote: str, within: float) -> tuple[float, float]:
    """When the CRM had every change of a quote that is paid, and when it was paid (monotonic). Raises Broken."""
    deadline = time.monotonic() + within
    paid = 0.0
    db = await system.database()
    try:
        while time.monotonic() < deadline:
            if not paid and await db.fetchval(PAID, quote):
                paid = time.monotonic()
            last = await db.fetchval("SELECT sequence FROM quotes WHERE quote_id = $1", quote) if paid else None
            if last and last in system.crm.sequences.get(quote, ()):
                return time.monotonic(), paid
            await asyncio.sleep(LOOK_EVERY)
    finally:
        await db.close()
    raise Broken(f"a fresh life was not paid at the CRM within {within:.0f} s")


def rows(backlog: int) -> tuple[Row, ...]:
    """The rows; `backlog`: events that wait."""
    return (
        Row("burst-of-ten", "what comes too fast waits, or is answered 503; nothing is lost", 30.0, _burst),
        Row("workers-away", "the queues hold it; ingest takes all the while", 30.0, _workers_away),
        Row(
            "backlog",
            "all of it is handled; what is new gets its turn, with no more before it than was there",
            ALL_BOUND + backlog / DRAINED,
            _backlog,
        ),
    )
