"""The runs that the sections are made of: as fast as it goes, and at a steady rate. An event that is missing ends them."""

import asyncio
import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from bench.bodies import quotes_like, templates
from bench.measure import Meter, percentile, watching
from bench.scrape import Batches, batches
from bench.sender import Job, Row, Sent
from bench.target import Target
from dev.settled import CONSUMERS, wanted
from dev.venv import ROOT

# Bodies begin an hour before they are told. With `created`, the inbox's key finds the rows of a run in a full table too;
# with the time of handling, those of a run that shares its ids' letters with others.
SINCE: Final = 7_200.0  # seconds
ARRIVING: Final = 10.0  # seconds that a change may take from the broker to the CRM's list

LAST_HANDLED: Final = """
SELECT count(*), extract(epoch FROM min(handled_at))::float8, extract(epoch FROM max(handled_at))::float8 FROM inbox
WHERE queue = $1 AND event_id LIKE ANY($2::text[]) AND created >= to_timestamp($3) AND handled_at >= to_timestamp($4)
"""
LAST_ARCHIVED: Final = """
SELECT count(*), extract(epoch FROM min(archived_at))::float8, extract(epoch FROM max(archived_at))::float8 FROM events
WHERE event_id LIKE ANY($1::text[]) AND created >= to_timestamp($2) AND archived_at >= to_timestamp($3)
"""
QUOTES: Final = """
SELECT status, count(*) FROM quotes WHERE quote_id LIKE $1 AND first_seen_at >= to_timestamp($2) GROUP BY status
"""
CHANGES: Final = """
SELECT count(*) FROM quote_status_changes WHERE quote_id LIKE $1 AND changed_at >= to_timestamp($2)
"""
FAILED: Final = "SELECT count(*) FROM failed_deliveries WHERE event_id LIKE ANY($1::text[])"


class Fast(msgspec.Struct, kw_only=True):
    """As fast as it goes. Rates in events a second; times in seconds."""

    lives: int
    events: int
    bytes_per_event: float
    accepted_rate: float
    handled_rate: float  # by the slowest worker, from the first POST to its last commit
    handled: dict[str, float]  # of each worker, all of Stripe's events over the time it took for its own
    answer_p50: float
    answer_p99: float
    refused: int  # answered 503 and sent again
    cpu: dict[str, float]  # seconds of each process, until the last mail was sent
    others: float  # cores that were busy with something else meanwhile, which our processes did not get
    memory: dict[str, list[tuple[float, float]]]  # Unix seconds, MB
    batches: dict[str, Batches]
    quotes: dict[str, int]  # by status
    failed: int


class Steady(msgspec.Struct, kw_only=True):
    """At a steady rate. Times in seconds, from when an event was due to be posted."""

    rate: float
    events: int
    lives: int
    seconds: float
    refused: int
    answer_p50: float
    answer_p99: float
    changes: int
    change_p50: float
    change_p99: float
    change_max: float
    cpu: dict[str, float]


class Span(msgspec.Struct):
    """When one worker began and ended with the events of a run: Unix seconds."""

    first: float
    last: float


def ids_like(run: str) -> list[str]:
    """LIKE patterns for the event ids of a run."""
    return [each.id_prefix.replace("_", r"\_") + "%" for told in templates(run) for each in told]


async def load(job: Job, target: Target) -> Sent:
    """Run the sender in its own process."""
    return await run_sender(job, target.check)


async def run_sender(job: Job, check: Callable[[], None], module: str = "bench.sender") -> Sent:
    """Run a sender in its own process; `check` raises where it sends to nobody. Raises RuntimeError where it failed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sent")
        job = msgspec.structs.replace(job, result=str(file))
        arguments = [sys.executable, "-m", module, msgspec.json.encode(job).decode()]
        process = await asyncio.create_subprocess_exec(*arguments, cwd=ROOT)
        try:
            ended = asyncio.ensure_future(process.wait())
            while not ended.done():
                check()
                await asyncio.wait([ended], timeout=1.0)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise RuntimeError(f"the sender ended with exit code {process.returncode}")
        return msgspec.json.decode(await asyncio.to_thread(file.read_bytes), type=Sent)


def refused(sent: Sent) -> int:
    """Answers that were not 200."""
    return sum(number for status, number in sent.statuses.items() if status != "200")


@contextmanager
def counted(meter: Meter, into: dict[str, float]) -> Iterator[None]:
    """CPU seconds of each process from here to the end of the block."""
    before = meter.cpu()
    yield
    after = meter.cpu()
    into.update({name: after[name] - before[name] for name in after})


async def warm(target: Target, run: str, lives: int) -> None:
    """A few lives that nobody counts: plans, caches, connections."""
    await load(target.job(run, lives, 16), target)
    await target.settled()


async def fast(target: Target, job: Job, *, memory: bool = False) -> Fast:
    """Complete lives as fast as ingest takes them, until every worker has handled all of it and every mail is sent.

    With `memory`, that is looked at meanwhile: a look goes through every page of every process, and in a round of a few seconds
    takes a third of what the events take.
    """
    cpu: dict[str, float] = {}
    target.meter.memory.clear()
    every = max(2.0, job.deadline / 600)
    before = await batches(target.metrics)
    began, busy = time.monotonic(), target.meter.busy()
    with counted(target.meter, cpu):
        async with watching(target.meter, every) if memory else nullcontext():
            sent = await load(job, target)
            await target.settled()
    cpu["(sender)"] = sent.cpu
    others = (target.meter.busy() - busy - sum(cpu.values())) / (time.monotonic() - began)
    after = await batches(target.metrics)
    spans = await handled(target.db, job.run, sent.events, sent.began)
    rates = {name: sent.events / (span.last - sent.began) for name, span in spans.items()}
    return Fast(
        lives=job.lives,
        events=sent.events,
        bytes_per_event=sent.bytes / sent.events,
        accepted_rate=sent.events / (sent.ended - sent.began),
        handled_rate=min(rates.values()),
        handled=rates,
        answer_p50=percentile(sent.answer_times, 0.5),
        answer_p99=percentile(sent.answer_times, 0.99),
        refused=refused(sent),
        cpu=cpu,
        others=max(0.0, others),
        memory=dict(target.meter.memory),
        batches={name: after[name].since(before[name]) for name in after},
        quotes=await quotes(target, job.run, job.lives, sent.began),
        failed=await target.db.fetchval(FAILED, ids_like(job.run)),
    )


async def handled(db: asyncpg.Connection, run: str, events: int, began: float) -> dict[str, Span]:
    """When each worker began and ended. Raises where one did not handle all that was sent to it since `began`."""
    patterns, created, since = ids_like(run), began - SINCE, began - 1
    spans = {}
    for name in ("archive", *CONSUMERS):
        if name == "archive":
            found = await db.fetchrow(LAST_ARCHIVED, patterns, created, since)
        else:
            found = await db.fetchrow(LAST_HANDLED, name, patterns, created, since)
        assert found is not None
        count, first, last = found
        must = _share(run, name, events)
        if count != must:
            raise RuntimeError(f"{name} handled {count} events of {must}")
        spans[name] = Span(first, last)
    return spans


def _share(run: str, worker: str, events: int) -> int:
    """How many of a run's events go to a worker; lives of all kinds are sent equally often."""
    queue = importlib.import_module(f"workers.{worker}").QUEUE
    types = [each.type for told in templates(run) for each in told]
    return events * sum(wanted(queue, each) for each in types) // len(types)


async def quotes(target: Target, run: str, lives: int, began: float) -> dict[str, int]:
    """The run's quotes by status. Raises where one of ours is not paid; another instance may have rules of its own."""
    found = await target.db.fetch(QUOTES, quotes_like(run), began - 1)
    by_status = {str(status): int(count) for status, count in found}
    if target.own and by_status != {"paid": lives}:
        raise RuntimeError(f"of {lives} quotes, which should be paid: {by_status}")
    return by_status


async def steady(target: Target, job: Job, *, whole: bool = True) -> Steady:
    """At the job's rate; from POST to CRM event, by the event that each change names as its cause.

    `whole`: until all is handled, and nothing is missing. Else a piece of a longer stream: the changes that have come by its
    end are counted, and the CRM goes on listening.
    """
    cpu: dict[str, float] = {}
    target.crm.arrivals.clear()
    target.crm.keeping = True
    with counted(target.meter, cpu):
        sent = await load(job, target)
        if whole:
            await target.idle()
    if whole:
        await all_arrived(target, job.run, job.lives, sent.rows or ())
    target.crm.keeping = not whole
    took = times_to_crm(target, sent.rows or ())
    return Steady(
        rate=sent.events / (sent.ended - sent.began),
        events=sent.events,
        lives=job.lives,
        seconds=sent.ended - sent.began,
        refused=refused(sent),
        answer_p50=percentile(sent.answer_times, 0.5),
        answer_p99=percentile(sent.answer_times, 0.99),
        changes=len(took),
        change_p50=percentile(took, 0.5),
        change_p99=percentile(took, 0.99),
        change_max=took[-1] if took else 0.0,
        cpu={**cpu, "(sender)": sent.cpu},
    )


def times_to_crm(target: Target, rows: Sequence[Row]) -> list[float]:
    """Seconds from when an event was due to each change that it caused, in order."""
    due = {event_id: at for event_id, at, _ in rows}
    return sorted(at - due[cause] for cause, at in target.crm.arrivals if cause in due)


async def all_arrived(target: Target, run: str, lives: int, rows: Sequence[Row]) -> None:
    """Raises where a worker did not handle all that was sent, or a change has not come to the CRM."""
    began = min(due for _, due, _ in rows)
    await handled(target.db, run, len(rows), began)
    await quotes(target, run, lives, began)
    must = await target.db.fetchval(CHANGES, quotes_like(run), began - 1)
    deadline = time.monotonic() + ARRIVING
    while (there := len(times_to_crm(target, rows))) < must:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{there} changes came to the CRM of {must}")
        await asyncio.sleep(0.1)
