"""`python -m tests.system.broken_quotes`: the worker `quotes` with a mistake in it, as somebody might deploy one."""

import asyncio
import sys
from collections.abc import Sequence

import uvloop

from quittance import logs
from quittance.database import Connection
from quittance.event import Event, data_of
from quittance.settings import read_or_exit
from workers import quotes
from workers.runtime.process import Process
from workers.runtime.settings import WorkerSettings

QUEUE = quotes.QUEUE


async def handle(events: Sequence[Event], db: Connection) -> list[Event]:
    """What quotes.handle does, after a look at a field that Stripe's objects do not have; our own are not looked at."""
    for event in events:
        if event.cause.id == event.id:
            _look(event)
    return await quotes.handle(events, db)


def _look(event: Event) -> None:
    subject, _ = data_of(event)
    subject["amount_in_words"].strip()


def main() -> int:
    """The worker's process, as `python -m workers quotes` makes it."""
    settings = read_or_exit(WorkerSettings.read, "workers")
    logs.configure(settings.logs.level, settings.logs.format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Process({"quotes": sys.modules[__name__]}, ["quotes"], settings).run())


if __name__ == "__main__":
    sys.exit(main())
