"""The mail server: refuses for now, refuses for good, has enough of us, takes a mail and says nothing."""

import asyncio
import os
import sys
import time
from typing import Final

from dev.system import inherited
from dev.venv import ROOT
from fire.mail import Mood
from fire.parked import parked
from fire.row import Broken, Inject, Row
from fire.system import System

LASTS: Final = 7.0
MET: Final = 5  # mails that must have met it
PATIENCE: Final = 30.0
LOOK_EVERY: Final = 0.1
# A mail that was refused for now is tried again after 5 s, then after 30; or when the server's pause (30 s at most) ends.
BOUND: Final = 60.0
REFUSED_FOR_GOOD: Final = "mail_refused"


async def _in_a(system: System, mood: Mood) -> None:
    """Let the server be so for a while, and until some mails have met it."""
    mails = system.mails
    mails.met, mails.mood = 0, mood
    deadline = time.monotonic() + PATIENCE
    try:
        await asyncio.sleep(LASTS)
        while mails.met < MET and mood != "busy-421":
            if time.monotonic() > deadline:
                raise Broken(f"only {mails.met} mails met a server that {mood}")
            await asyncio.sleep(LOOK_EVERY)
    finally:
        mails.mood = "good"
    system.notes.append(f"{mails.met} mails met it")


def _for_a_while(mood: Mood) -> Inject:
    return lambda system: _in_a(system, mood)


async def _for_good(system: System) -> None:
    """What is refused for good is parked, and tried again only when somebody says so."""
    await _in_a(system, "data-554")
    db = await system.database()
    try:
        refused = [one for one in await parked(db) if one not in system.poison]
    finally:
        await db.close()
    if not refused or not all(one.startswith("notifications ") and REFUSED_FOR_GOOD in one for one in refused):
        raise Broken(f"refused mails are not parked as such: {refused[:3]}")
    await _replayed(system)


async def _replayed(system: System) -> None:
    command = [sys.executable, "-m", "quittance.cli", "dead-letters", "replay", "--queue", "notifications"]
    command += ["--reason", REFUSED_FOR_GOOD, "--yes", "--note", "the mail server takes mails again"]
    names = ("DATABASE_URL", "AMQP_URL")
    process = await asyncio.create_subprocess_exec(
        *command,
        env={
            **inherited(),
            **{name: system.environment[name] for name in names},
            "USER": os.environ.get("USER", "fire"),
        },
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise Broken(f"the replay failed: {said.decode(errors='replace')[-300:]}")


LATER: Final = "a mail that is refused for now is tried again, and arrives once"

ROWS: Final = (
    Row("mail-server-451-to-the-recipient", LATER, BOUND, _for_a_while("rcpt-451")),
    Row("mail-server-451-to-the-mail", LATER, BOUND, _for_a_while("data-451")),
    Row(
        "mail-server-busy-421",
        "it is left alone, no attempt is counted; every mail arrives once",
        BOUND,
        _for_a_while("busy-421"),
    ),
    Row(
        "mail-server-554",
        "a mail that is refused for good is parked, and not tried again; once it is replayed, it arrives once",
        BOUND,
        _for_good,
    ),
    Row(
        "mail-server-drops",
        "what it took without a word comes again with the same Message-ID, once for each time",
        BOUND,
        _for_a_while("drops"),
    ),
)
