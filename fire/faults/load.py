"""More than usual: ten times the rate, and a backlog that nobody takes for a while."""

import asyncio
import signal
from typing import Final

from fire.row import Row
from fire.system import WORKERS, System

BURST: Final = 10
LASTS: Final = 6.0
AWAY: Final = 10.0


async def _burst(system: System) -> None:
    usual = system.stream.rate
    system.stream.rate = BURST * usual
    try:
        await asyncio.sleep(LASTS)
    finally:
        system.stream.rate = usual


async def _workers_away(system: System) -> None:
    for name in WORKERS:
        await system.end(name, signal.SIGTERM)
    await asyncio.sleep(AWAY)
    for name in WORKERS:
        system.start(name)
    await system.children.ready()


ROWS: Final = (
    Row("burst-of-ten", "what comes too fast waits, or is answered 503; nothing is lost", 30.0, _burst),
    Row("workers-away", "the queues hold it; ingest takes all the while", 30.0, _workers_away),
)
