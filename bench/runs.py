"""The runs of the benchmark against a system that is up: as fast as it goes, then steadily at half of that."""

import asyncio
import importlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aio_pika
import asyncpg
import msgspec

from bench.bodies import quotes_like, templates
from bench.listener import Listener
from bench.measure import Meter, percentile, watching
from bench.scrape import Batches, batches
from bench.sender import Job, Sent
from dev.settled import CONSUMERS, wanted
from dev.venv import ROOT

QUEUES: Final = ("archive", *CONSUMERS, "notifications")
PATIENCE: Final = 300.0  # seconds without end of the work; far more than any run should need

LAST_HANDLED: Final = """
SELECT count(*), extract(epoch FROM max(handled_at))::float8 FROM inbox WHERE queue = $1 AND event_id LIKE ANY($2::text[])
"""
LAST_ARCHIVED: Final = """
SELECT count(*), extract(epoch FROM max(archived_at))::float8 FROM events WHERE event_id LIKE ANY($1::text[])
"""
QUOTES: Final = "SELECT status, count(*) FROM quotes WHERE quote_id LIKE $1 GROUP BY status"
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
    cpu: dict[str, float]  # seconds of each process
    others: float  # cores that were busy with something else meanwhile, which our processes did not get
    memory: dict[str, list[tuple[float, float]]]  # Unix seconds, MB
    batches: dict[str, Batches]
    quotes: dict[str, int]  # by status
    failed: int


class Steady(msgspec.Struct, kw_only=True):
    """At a steady rate. Times in seconds, from when an event was due to be posted."""

    rate: float
    events: int
    seconds: float
    answer_p50: float
    answer_p99: float
    changes: int
    change_p50: float
    change_p99: float
    change_max: float
    cpu: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Target:
    """The system under test, and how it is watched. `check` raises where a process of it has ended."""

    url: str
    secret: str
    db: asyncpg.Connection
    channel: aio_pika.abc.AbstractChannel
    crm: Listener
    meter: Meter
    check: Callable[[], None]
    metrics: Mapping[str, str]  # the address of each worker's /metrics

    async def left(self) -> int:
        """Messages that wait in the queues, and rows in the outbox."""
        waiting = 0
        for name in QUEUES:
            queue = await self.channel.declare_queue(name, passive=True, timeout=10)
            waiting += queue.declaration_result.message_count or 0
        return waiting + int(await self.db.fetchval("SELECT count(*) FROM outbox"))

    async def idle(self) -> None:
        """Wait until nothing waits; looked at seldom enough not to be felt."""
        deadline = time.monotonic() + PATIENCE
        quiet = 0
        while quiet < 3:
            self.check()
            quiet = quiet + 1 if await self.left() == 0 else 0
            if time.monotonic() > deadline:
                raise TimeoutError(f"the queues are not empty after {PATIENCE:.0f} s")
            await asyncio.sleep(0.5)


def ids_like(run: str) -> list[str]:
    """LIKE patterns for the event ids of a run."""
    return [each.id_prefix.replace("_", r"\_") + "%" for told in templates(run) for each in told]


async def load(job: Job, target: Target) -> Sent:
    """Run the sender in its own process."""
    arguments = [sys.executable, "-m", "bench.sender", msgspec.json.encode(job).decode()]
    process = await asyncio.create_subprocess_exec(*arguments, cwd=ROOT)
    try:
        ended = asyncio.ensure_future(process.wait())
        while not ended.done():
            target.check()
            await asyncio.wait([ended], timeout=1.0)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"the sender ended with exit code {process.returncode}")
    return msgspec.json.decode(await asyncio.to_thread(Path(job.result).read_bytes), type=Sent)


@contextmanager
def counted(meter: Meter, into: dict[str, float]) -> Iterator[None]:
    """CPU seconds of each process from here to the end of the block."""
    before = meter.cpu()
    yield
    after = meter.cpu()
    into.update({name: after[name] - before[name] for name in after})


async def fast(target: Target, job: Job) -> Fast:
    """Complete lives as fast as ingest takes them, until every worker has handled all of it."""
    cpu: dict[str, float] = {}
    target.meter.memory.clear()
    every = max(2.0, job.deadline / 600)
    before = await batches(target.metrics)
    began, busy = time.monotonic(), target.meter.busy()
    with counted(target.meter, cpu):
        async with watching(target.meter, every):
            sent = await load(job, target)
            await target.idle()
    cpu["(sender)"] = sent.cpu
    others = (target.meter.busy() - busy - sum(cpu.values())) / (time.monotonic() - began)
    after = await batches(target.metrics)
    handled = await handled_until(target.db, job.run, sent)
    return Fast(
        lives=job.lives,
        events=sent.events,
        bytes_per_event=sent.bytes / sent.events,
        accepted_rate=sent.events / (sent.ended - sent.began),
        handled_rate=min(handled.values()),
        handled=handled,
        answer_p50=percentile(sent.answer_times, 0.5),
        answer_p99=percentile(sent.answer_times, 0.99),
        refused=sum(number for status, number in sent.statuses.items() if status != "200"),
        cpu=cpu,
        others=max(0.0, others),
        memory=dict(target.meter.memory),
        batches={name: after[name].since(before[name]) for name in after},
        quotes={str(row[0]): int(row[1]) for row in await target.db.fetch(QUOTES, quotes_like(job.run))},
        failed=await target.db.fetchval(FAILED, ids_like(job.run)),
    )


async def handled_until(db: asyncpg.Connection, run: str, sent: Sent) -> dict[str, float]:
    """Events a second by worker. Raises where a worker did not handle all that was sent to it."""
    patterns = ids_like(run)
    rates = {}
    for name in ("archive", *CONSUMERS):
        if name == "archive":
            found = await db.fetchrow(LAST_ARCHIVED, patterns)
        else:
            found = await db.fetchrow(LAST_HANDLED, name, patterns)
        assert found is not None
        count, last = found
        must = _share(run, name, sent.events)
        if count != must:
            raise RuntimeError(f"{name} handled {count} events of {must}")
        rates[name] = sent.events / (last - sent.began)
    return rates


def _share(run: str, worker: str, events: int) -> int:
    """How many of a run's events go to a worker; lives of all kinds are sent equally often."""
    queue = importlib.import_module(f"workers.{worker}").QUEUE
    types = [each.type for told in templates(run) for each in told]
    return events * sum(wanted(queue, each) for each in types) // len(types)


async def steady(target: Target, job: Job) -> Steady:
    """At the job's rate; from POST to CRM event, by the event that each change names as its cause."""
    cpu: dict[str, float] = {}
    target.crm.arrivals.clear()
    target.crm.keeping = True
    with counted(target.meter, cpu):
        sent = await load(job, target)
        await target.idle()
    target.crm.keeping = False
    due = {event_id: at for event_id, at, _ in sent.rows or ()}
    took = sorted(at - due[cause] for cause, at in target.crm.arrivals if cause in due)
    return Steady(
        rate=sent.events / (sent.ended - sent.began),
        events=sent.events,
        seconds=sent.ended - sent.began,
        answer_p50=percentile(sent.answer_times, 0.5),
        answer_p99=percentile(sent.answer_times, 0.99),
        changes=len(took),
        change_p50=percentile(took, 0.5),
        change_p99=percentile(took, 0.99),
        change_max=took[-1] if took else 0.0,
        cpu={**cpu, "(sender)": sent.cpu},
    )
