"""A worker for tests, with a handler that does what the event's body says: `python -m tests.runtime.breakable`.

Each event adds a row to `effects` (in the handler's transaction) and a number to `runs` (a file, so that what was rolled
back shows too).
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg
import uvloop

from quittance import logs
from quittance.broker import STRIPE_EVENTS, Queue
from quittance.database import Connection
from quittance.errors import Rejected
from quittance.event import Event, data_of, own_event
from quittance.settings import read_or_exit
from workers.runtime.process import Process
from workers.runtime.settings import WorkerSettings

# The quotes queue of the declared topology, so that no test needs a topology of its own.
QUEUE: Final = Queue("quotes", {STRIPE_EVENTS: ("charge.succeeded",)})

CREATE: Final = "CREATE TABLE IF NOT EXISTS effects (id bigserial, event_id text NOT NULL, replay_id text)"
ADD: Final = "INSERT INTO effects (event_id, replay_id) VALUES ($1, $2)"

# What `mend` lists is no longer broken.
mended: set[str] = set()


async def handle(events: Sequence[Event], db: Connection) -> list[Event]:
    """Do what each body's `data.object.order` says."""
    emitted: list[Event] = []
    for event in events:
        subject, _ = data_of(event)
        _note(event, len(events))
        await _obey(subject, event, db)
        await db.execute(ADD, event.id, event.replay_id)
        if subject.get("emit"):
            told = {"quote_id": "Q-1", "from": event.id}
            emitted.append(own_event(f"told:{event.id}", "customer.changed", told, because=event, stream="Q-1"))
    return emitted


async def _obey(subject: dict[str, Any], event: Event, db: Connection) -> None:
    if event.id in mended or Path(os.environ.get("MENDED", "/nonexistent")).exists():
        return
    match subject.get("order"):
        case "reject":
            raise Rejected("unreadable_payload", "told to reject")
        case "raise":
            raise ValueError("told to raise \x00\ud800")
        case "exit":
            os._exit(17)
        case "deadlock":
            raise asyncpg.DeadlockDetectedError("told to deadlock")
        case "sleep":
            await asyncio.sleep(float(subject["seconds"]))
        case "sql":
            await db.execute(subject["sql"])


def _note(event: Event, size: int) -> None:
    if runs := os.environ.get("RUNS"):
        with Path(runs).open("a") as file:
            file.write(f"{event.id} {size}\n")


def main() -> int:
    """The worker's process, as `python -m workers` makes it; with the relay where `relay` is given."""
    settings = read_or_exit(WorkerSettings.read, "breakable")
    logs.configure(settings.logs.level, settings.logs.format)
    names = ["quotes", *sys.argv[1:]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Process({"quotes": sys.modules[__name__]}, names, settings).run())


if __name__ == "__main__":
    sys.exit(main())
