"""Our own processes: killed at named points, frozen, told to stop one after the other."""

import asyncio
import signal
from typing import Final

from fire.row import Inject, Row
from fire.system import EVERY, INGEST, RELAY, System

HANDLING: Final = ("archive", "customers", "documents", "quotes", "notifications")
SHORT: Final = ("quotes-killed-after-commit", "ingest-killed-after-publish", "relay-killed-after-publish")
SAME: Final = "nothing is lost, and nothing has an effect twice: the inbox knows what was committed"
BOUND: Final = 15.0
# What a dead process had claimed to do outside is done by another one when the lease of 30 s has run out.
LEASED: Final = 45.0


def _killed(name: str, point: str, nth: int) -> Inject:
    return lambda system: system.killed_at(name, point, nth)


def _kill_row(name: str, point: str, nth: int, claim: str) -> Row:
    row = f"{name}-killed-{point}"
    mails = name == "notifications"
    bound = LEASED if mails else BOUND
    return Row(row, claim, bound, _killed(name, point, nth), repeats_mail=20 * mails, short=row in SHORT)


async def _killed_at_once(system: System) -> None:
    await system.restart_all(EVERY, signal.SIGKILL)


async def _rolling_restart(system: System) -> None:
    for name in EVERY:
        await system.restart(name, signal.SIGTERM)


async def _frozen(system: System) -> None:
    with system.frozen("quotes"):
        await asyncio.sleep(5)


ROWS: Final = (
    *(
        _kill_row(name, point, 5, SAME)
        for name in HANDLING
        for point in ("before-effect", "before-commit", "after-commit")
    ),
    _kill_row(RELAY, "after-publish", 5, "a change may come twice, with the same id and bytes, and none is missing"),
    _kill_row(
        INGEST, "after-publish", 20, "no answer was given, so the event comes again; its second copy has no effect"
    ),
    # A mail that was handed over and not recorded goes out again: at most as many as are on their way at a time.
    Row("every-process-killed", SAME, LEASED, _killed_at_once, repeats_mail=20),
    # Each is away for as long as it takes to start, which on a busy machine is many seconds: mails have to be caught up with.
    Row("rolling-restart", "nobody notices but by a 503", LEASED, _rolling_restart),
    Row("worker-frozen", "what it holds waits; the others go on", BOUND, _frozen),
)
