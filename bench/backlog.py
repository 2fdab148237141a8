"""A backlog: complete lives stored with the workers stopped, then drained, with fresh lives coming meanwhile.

The database is not new: a few lives went through it before the workers were stopped. The drained rate counts from the first commit of any worker to the last commit of the slowest, with ingest, relay and the
fresh lives on the same cores; mails go on afterwards and are not waited for. Queues are first in, first out: a fresh event
waits for all that lies before it, so from POST to CRM it takes what the rest of the drain takes, with what the backlog's events
caused (customer.changed, document.changed), which lies in the same queues. Not starved means that it waits no longer: what was
posted before the last event of the backlog was handled was told to the CRM by the time that nothing waited, give or take LATE.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from bench.bodies import events_per_life, fresh_run, numbered_lives
from bench.client import Door, lines
from bench.instance import Shape, Stage, ingest, workers
from bench.measure import percentile, watching
from bench.options import Chosen
from bench.runs import all_arrived, handled, load, quotes, warm
from bench.sender import Job, Row, Sending, Sent, steady
from bench.target import PATIENCE, Target

LATE: Final = 5.0  # seconds
CONNECTIONS: Final = 16  # of the fresh lives
WARM_UP_LIVES: Final = 100
NEARLY: Final = 200  # messages; with fresh events coming there are always some
LOOK_EVERY: Final = 0.25  # seconds
MOST_LOOKS: Final = 500  # at memory


class Memory(Struct):
    """MB of one process."""

    start: float
    half: float
    end: float


class Backlog(Struct, kw_only=True):
    """Times in seconds; rates in events a second."""

    events: int
    stored_rate: float
    drained_rate: float
    drain_seconds: float
    memory: dict[str, Memory]
    mails_left: int
    fresh_lives: int
    fresh_events: int  # posted before the end of the drain
    fresh_answer_p50: float
    fresh_answer_p99: float
    fresh_changes: int
    fresh_p50: float
    fresh_p99: float
    fresh_max: float
    latest: float  # the last change that these caused, from the end of the drain; negative: before it
    emptied: float  # when nothing waited, in queues and outbox, from the end of the drain

    @property
    def starved(self) -> bool:
        """Whether a fresh event waited for more than what lay before it."""
        return self.latest > self.emptied + LATE


@dataclass
class Fresh:
    """The lives that came during the drain."""

    run: str
    lives: int = 0
    rows: list[Row] = field(default_factory=list)
    took: list[float] = field(default_factory=list)


async def measure(stage: Stage, shape: Shape, chosen: Chosen, tell: Callable[[str], None]) -> Backlog:
    """Store it, then start the workers."""
    run = fresh_run()
    async with stage.place("bench_backlog") as place, ingest(stage, place) as target:
        async with workers(target, place, shape) as before:
            await warm(before, fresh_run(), WARM_UP_LIVES)
        tell(f"backlog: storing {chosen.backlog:,} events, the workers are stopped")
        sent, job = await stored(target, run, chosen)
        tell(f"backlog: draining {sent.events:,} events")
        target.crm.keeping = True
        every = max(0.5, sent.events / 2_000 / MOST_LOOKS)
        async with workers(target, place, shape) as full:
            async with watching(full.meter, every), coming(full, chosen.fresh_rate) as fresh:
                await drained(full)
                emptied = time.time()
            await full.idle()
            await quotes(full, run, job.lives, sent.began)
            await all_arrived(full, fresh.run, fresh.lives, fresh.rows)
            return await figures(full, run, sent, fresh, emptied)


async def stored(target: Target, run: str, chosen: Chosen) -> tuple[Sent, Job]:
    """The backlog. Raises where less is stored than was answered with 200."""
    lives = max(2, round(chosen.backlog / events_per_life(run)))
    job = target.job(run, lives, chosen.senders, deadline=max(900.0, chosen.backlog / 100))
    sent = await load(job, target)
    if (there := await target.waiting("archive")) != sent.events:
        raise RuntimeError(f"the archive's queue holds {there} events of {sent.events} that were answered with 200")
    return sent, job


async def figures(target: Target, run: str, sent: Sent, fresh: Fresh, emptied: float) -> Backlog:
    """What it came to; `emptied` in Unix seconds. Raises where a worker did not handle all of it."""
    spans = await handled(target.db, run, sent.events, sent.began)
    began, ended = min(each.first for each in spans.values()), max(each.last for each in spans.values())
    due = {event_id: at for event_id, at, _ in fresh.rows if at < ended}
    came = [(at, at - due[cause]) for cause, at in target.crm.arrivals if cause in due]
    took, answers = sorted(took for _, took in came), sorted(fresh.took)
    return Backlog(
        events=sent.events,
        stored_rate=sent.events / (sent.ended - sent.began),
        drained_rate=sent.events / (ended - began),
        drain_seconds=ended - began,
        memory={name: _memory(looks) for name, looks in target.meter.memory.items()},
        mails_left=await target.mails(),
        fresh_lives=fresh.lives,
        fresh_events=len(due),
        fresh_answer_p50=percentile(answers, 0.5),
        fresh_answer_p99=percentile(answers, 0.99),
        fresh_changes=len(took),
        fresh_p50=percentile(took, 0.5),
        fresh_p99=percentile(took, 0.99),
        fresh_max=took[-1] if took else 0.0,
        latest=max((at for at, _ in came), default=ended) - ended,
        emptied=emptied - ended,
    )


def _memory(looks: list[tuple[float, float]]) -> Memory:
    return Memory(looks[0][1], looks[len(looks) // 2][1], looks[-1][1])


@asynccontextmanager
async def coming(target: Target, rate: float) -> AsyncIterator[Fresh]:
    """Fresh lives, two at a time, until the block ends; those that have begun are told to their end."""
    fresh = Fresh(fresh_run())
    ending = asyncio.Event()
    telling = asyncio.create_task(_tell(target, rate, fresh, ending))
    try:
        yield fresh
        ending.set()
        await telling
    finally:
        telling.cancel()
        await asyncio.wait([telling])


async def _tell(target: Target, rate: float, fresh: Fresh, ending: asyncio.Event) -> None:
    door = Door.at(target.url, target.secret)
    sending = Sending(door.request, record=True)

    def lives() -> Iterator[list[tuple[str, bytes]]]:
        for told in numbered_lives(fresh.run, 0, 10**6):
            # Kinds come in turn, and as many of each.
            if ending.is_set() and fresh.lives % 2 == 0:
                return
            fresh.lives += 1
            yield told

    all_lines = await lines(door, CONNECTIONS)
    try:
        await steady(sending, all_lines, lives(), rate, at_a_time=2)
    finally:
        for line in all_lines:
            line.close()
    fresh.rows, fresh.took = sending.rows, sending.took


async def drained(target: Target) -> None:
    """Wait until hardly more waits than what is just coming. Raises TimeoutError where it does not become less."""
    least, since = await target.left(), time.monotonic()
    while (left := await target.left()) > NEARLY:
        target.check()
        if left < least:
            least, since = left, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            raise TimeoutError(f"{left} messages and rows wait, and {PATIENCE:.0f} s ago there were no more")
        await asyncio.sleep(LOOK_EVERY)
