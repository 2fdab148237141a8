"""One row, tried once: a stream, a fault in the middle of it, and then every promise looked at until it holds."""

import asyncio
import time
from contextlib import suppress
from typing import Final

import asyncpg
import msgspec

from fire import checker
from fire.row import Broken, Row
from fire.stream import Stream
from fire.system import OWN, SECRET, System

RUN_UP: Final = 60  # events before the fault
RUN_OUT: Final = 60  # after it
LOOK_EVERY: Final = 0.3
# Beyond the bound the row has failed; it is waited for nevertheless, to tell late from never.
PATIENCE: Final = 60.0


class Verdict(msgspec.Struct, kw_only=True):
    """What a trial came to. Times in seconds from the fault's end; None: not within PATIENCE."""

    row: str
    claim: str
    bound: float
    accepted: int
    lives: int
    refused: int  # answered 503, or not at all; sent again
    first_answer: float | None
    recovered: float | None
    broken: str  # the promises that did not hold; empty: all did
    notes: list[str]  # what the row measured besides

    @property
    def good(self) -> bool:
        """Whether everything was kept, in time."""
        return not self.broken and self.recovered is not None and self.recovered <= self.bound


async def tried(row: Row, system: System, run: str, rate: float) -> Verdict:
    """Try one row. Raises what the injection raises."""
    stream = system.stream = Stream(system.stream.url, SECRET, run, rate, guests=row.guests)
    system.mails.mails.clear()
    system.mails.dropped = 0
    system.notes.clear()
    seen = ""
    telling = asyncio.create_task(stream.run())
    try:
        await stream.reached(RUN_UP)
        try:
            await row.inject(system)
        except Broken as promise:
            seen = f"{promise}; "
        over = time.monotonic()
        await stream.reached(len(stream.accepted) + RUN_OUT)
        stream.end()
        await telling
    finally:
        telling.cancel()
    broken = await _until_right(row, system, over)
    recovered = None if broken else time.monotonic() - over
    if row.after is not None:
        await row.after(system)
    if unexpected := stream.unexpected(row.statuses):
        seen += f"answered {', '.join(map(str, sorted(unexpected)))}; "
    return Verdict(
        row=row.name,
        claim=row.claim,
        bound=row.bound + stream_took(stream, over),
        accepted=len(stream.accepted),
        lives=len(stream.quotes),
        refused=sum(status != 200 for _, status in stream.answers),
        first_answer=stream.first_answer(over),
        recovered=recovered,
        broken=(seen + broken).strip("; "),
        notes=list(system.notes),
    )


def failed(row: Row, error: Exception) -> Verdict:
    """Of a row that came to no end."""
    return Verdict(
        row=row.name,
        claim=row.claim,
        bound=row.bound,
        accepted=0,
        lives=0,
        refused=0,
        first_answer=None,
        recovered=None,
        broken=f"it came to no end: {type(error).__name__}: {error}",
        notes=[],
    )


def stream_took(stream: Stream, over: float) -> float:
    """Seconds that the stream itself went on after the fault: nothing can be done before it is sent."""
    return max(0.0, stream.answers[-1][0] - over)


async def _until_right(row: Row, system: System, over: float) -> str:
    """Look until every promise holds; what does not, when patience ends."""
    deadline = over + row.bound + PATIENCE
    broken = "the database was never to be had"
    while time.monotonic() < deadline:
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            broken = await _looked_at(row, system)
            if not broken:
                return ""
        await asyncio.sleep(LOOK_EVERY)
    return broken


async def _looked_at(row: Row, system: System) -> str:
    db = await system.database()
    try:
        stream = system.stream
        found = await checker.faults(
            db,
            stream.accepted,
            stream.quotes,
            system.crm,
            system.mails.mails,
            repeats=row.repeats_mail + system.mails.dropped,
            poison=system.poison,
        )
        if stream.guests:
            at_stripe = [str(one["email"]).lower() for one in system.stripe.customers_at(OWN).values()]
            found |= await checker.customer_faults(db, stream.buyers, at_stripe)
    finally:
        await db.close()
    return checker.told(found)
