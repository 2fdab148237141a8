"""The CRM away for so long that its queue is full."""

import asyncio
import time
from typing import Final

from fire.row import Broken, Row
from fire.system import System

WAITING: Final = "SELECT count(*) FROM outbox WHERE destination = 'crm'"
MANY: Final = 100  # changes that wait in the outbox
PATIENCE: Final = 60.0
LOOK_EVERY: Final = 0.2
MORE: Final = 120  # events, and the mails that come of them, while it is full


async def _away(system: System) -> None:
    """The CRM takes nothing until its queue is full, and the outbox has what comes then; everybody else goes on."""
    system.crm.leave()
    try:
        await _until_many_wait(system)
        stream, mailed = system.stream, len(system.mails.mails)
        refused = stream.answered(503, 0, time.monotonic())
        await stream.reached(len(stream.accepted) + MORE)
        waiting = await _waiting(system)
        if len(system.mails.mails) == mailed:
            raise Broken("no mail was sent while the CRM's queue was full")
        if stream.answered(503, 0, time.monotonic()) > refused:
            raise Broken("ingest refused what it could have taken")
        if waiting < MANY:
            raise Broken(f"only {waiting} changes waited: the queue of the CRM was not full")
        system.notes.append(f"{waiting} changes waited in the outbox")
    finally:
        system.crm.come_back()


async def _until_many_wait(system: System) -> None:
    deadline = time.monotonic() + PATIENCE
    while await _waiting(system) < MANY:
        if time.monotonic() > deadline:
            raise Broken("the queue of the CRM never filled")
        await asyncio.sleep(LOOK_EVERY)


async def _waiting(system: System) -> int:
    db = await system.database()
    try:
        return int(await db.fetchval(WAITING))
    finally:
        await db.close()


ROWS: Final = (
    Row(
        "crm-away",
        "its queue fills, then the outbox holds what is for it; mails and ingest go on; then it gets every change in order",
        45.0,
        _away,
        place="small-crm-queue",
    ),
)
