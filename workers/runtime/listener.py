"""LISTEN: wakes loops in this process when another one has committed something for them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from quittance.database import DATABASE_ERRORS, close, connect, on_notify
from workers.runtime.backoff import Backoff, pause_unless

log = structlog.get_logger(__name__)

# A connection that was cut off without a word would never notify again.
PROBE: Final = "SELECT 1"
PROBE_EVERY: Final = 10.0


EVERYTHING: Final = ""  # what a wake is told that means: look everywhere


async def listen(url: str, wakes: Mapping[str, Sequence[Callable[[str], None]]], stopping: asyncio.Event) -> None:
    """Call `wakes[channel]` with what each notification says, until `stopping` is set; and once, with EVERYTHING, whenever
    listening begins, for what was missed. Without it, loops fall back to their polls.
    """
    pause = Backoff()
    while not stopping.is_set():
        try:
            db = await connect(url, "listener")
        except DATABASE_ERRORS as error:
            log.info("listener.away", error=f"{type(error).__name__}: {error}")
            await pause.wait(stopping)
            continue
        try:
            for channel, actions in wakes.items():
                for action in actions:
                    await db.add_listener(channel, on_notify(action))
                    action(EVERYTHING)
            pause.reset()
            while not stopping.is_set():
                await db.execute(PROBE)
                await pause_unless(stopping, PROBE_EVERY)
        except DATABASE_ERRORS as error:
            log.info("listener.away", error=f"{type(error).__name__}: {error}")
            await pause.wait(stopping)
        finally:
            await close(db)
