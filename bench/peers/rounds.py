"""Rounds of a peer, each with one of ours just before it: the same machine, the same servers, the same minutes."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from bench import runs
from bench.measure import Meter, percentile
from bench.peers import catalogue
from bench.peers.peer import SECRET, Peer, Place
from bench.peers.processes import Processes, processes_of
from bench.runs import Fast, counted
from bench.sender import Job
from bench.target import Target
from dev.places import free_ports
from dev.servers import Servers
from dev.stripe_events import token
from dev.venv import say

WARM_UP_LIVES: Final = 20
PATIENCE: Final = 120.0  # seconds for the work that is left when everything is accepted
SERVERS: Final = ("broker", "postgres")


class Figures(msgspec.Struct, kw_only=True):
    """One round, or the medians of several. Rates in events a second, times in seconds, CPU in microseconds an event."""

    accepted_rate: float
    processed_rate: float
    p50: float
    p99: float
    cpu: float  # of our own or the peer's processes
    servers_cpu: float  # of Postgres and the broker
    refused: int  # answered 5xx and sent again


class Comparison(msgspec.Struct, kw_only=True):
    """Both sides' rounds in the order in which they ran."""

    ours: list[Figures]
    theirs: list[Figures]


def median(of: Sequence[Figures]) -> Figures:
    """Of each figure by itself."""
    fields = Figures.__struct_fields__
    return Figures(**{name: statistics.median(getattr(each, name) for each in of) for name in fields})


@dataclass(frozen=True)
class Length:
    """How much is sent."""

    rounds: int
    share: float  # of the lives of a full round
    our_lives: int
    senders: int


@dataclass(frozen=True)
class Ours:
    """Our side, which is up all the time, and the servers that both sides use."""

    target: Target
    servers: Servers
    logs: Path


@dataclass(frozen=True)
class Running:
    """A peer that is up."""

    peer: Peer
    url: str
    db: asyncpg.Connection
    meter: Meter
    check: Callable[[], None]


async def compare(peer: Peer, programs: Path, to: Ours, length: Length) -> Comparison:
    """Set the peer up, and measure it and ours in turn."""
    names = [token(str(time.time_ns()), 4) + f"P{number}" for number in range(length.rounds + 1)]
    lives = max(2, round(peer.lives * length.share / 2) * 2)
    made = Comparison(ours=[], theirs=[])
    with processes_of(peer.name, to.logs) as started:

        def job(run: str, count: int, url: str) -> Job:
            return Job(url=url, secret=SECRET, run=run, lives=count, senders=length.senders, deadline=180)

        async with up(peer, programs, to.servers, started, names) as running:
            await measure(running, job(names[0], WARM_UP_LIVES, running.url))
            for number, name in enumerate(names[1:], 1):
                mine = to.target.job(name + "O", length.our_lives, length.senders)
                fast = await runs.fast(to.target, mine)
                made.ours.append(our_figures(fast))
                made.theirs.append(await measure(running, job(name, lives, running.url)))
                say(f"  round {number}: {peer.title} {_rates(made.theirs[-1])}; Quittance {_rates(made.ours[-1])}")
    return made


@asynccontextmanager
async def up(
    peer: Peer, programs: Path, given: Servers, started: Processes, names: Sequence[str]
) -> AsyncIterator[Running]:
    """The peer with a database and a virtual host of its own, until the block ends."""
    key = f"{peer.name.replace('-', '_')}_{names[0].lower()}"
    port, stub_port = free_ports(2)
    stub_url = f"http://127.0.0.1:{stub_port}"
    database_url = await asyncio.to_thread(given.add_database, key)
    amqp_url = await asyncio.to_thread(given.add_vhost, key)
    place = Place(programs, database_url, amqp_url, port, stub_url)
    if peer.stub:
        started.start(catalogue.stub(names, stub_port))
        await started.listening(stub_port)
    db = await asyncpg.connect(database_url)
    try:
        if peer.sql:
            await db.execute(peer.sql)
        for command in peer.prepare(place):
            await asyncio.to_thread(started.run, command)
        for command in peer.processes(place):
            started.start(command)
        await started.listening(port)
        servers = {name: pid for name, pid in ((each, _pid(given, each)) for each in SERVERS) if pid}
        meter = Meter.of({**started.pids(), **servers})
        yield Running(peer, f"http://127.0.0.1:{port}{peer.path}", db, meter, started.check)
    finally:
        await db.close()


def _pid(given: Servers, name: str) -> int:
    return int(getattr(given.broker if name == "broker" else given.postgres, "pid", 0))


async def measure(at: Running, job: Job) -> Figures:
    """One round of the peer. Raises RuntimeError where a row is missing."""
    before = await counts(at)
    cpu: dict[str, float] = {}
    with counted(at.meter, cpu):
        sent = await runs.run_sender(job, at.check, "bench.peers.sender")
        ended = await processed(at, before, job)
    await complete(at, before, job)
    servers = sum(cpu.pop(name, 0.0) for name in SERVERS)
    cpu.pop("stripe", None)  # the stub stands for somebody else's machine
    return Figures(
        accepted_rate=sent.events / (sent.ended - sent.began),
        processed_rate=sent.events / ((ended or sent.ended) - sent.began),
        p50=percentile(sent.answer_times, 0.5),
        p99=percentile(sent.answer_times, 0.99),
        cpu=1e6 * sum(cpu.values()) / sent.events,
        servers_cpu=1e6 * servers / sent.events,
        refused=sum(sent.statuses.values()) - sent.events,
    )


async def counts(at: Running) -> dict[str, int]:
    """How many rows each of the peer's tables has."""
    checks = [*at.peer.checks, *([at.peer.done] if at.peer.done else [])]
    return {check.what: await at.db.fetchval(check.count) for check in checks}


async def processed(at: Running, before: dict[str, int], job: Job) -> float | None:
    """Wait until the workers are through; when that was, in Unix seconds. None for a peer without workers."""
    done = at.peer.done
    if done is None:
        return None
    wanted = before[done.what] + done.expected(job.run, job.lives)
    deadline = time.monotonic() + PATIENCE
    while (count := await at.db.fetchval(done.count)) < wanted:
        at.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{at.peer.title}: {wanted - count} events of {job.run} are missing in {done.what}")
        await asyncio.sleep(0.1)
    return float(await at.db.fetchval(done.last))


async def complete(at: Running, before: dict[str, int], job: Job) -> None:
    """Every row that the events must have left is there, and no other."""
    after = await counts(at)
    for check in at.peer.checks:
        came, must = after[check.what] - before[check.what], check.expected(job.run, job.lives)
        if came != must:
            raise RuntimeError(f"{at.peer.title}: {came} new rows in {check.what} instead of {must}")


def our_figures(fast: Fast) -> Figures:
    """What bench.runs says, in the terms of the comparison."""
    outside = {*SERVERS, "(sender)", "(CRM, SMTP, watching)"}
    own = sum(seconds for name, seconds in fast.cpu.items() if name not in outside)
    return Figures(
        accepted_rate=fast.accepted_rate,
        processed_rate=fast.handled_rate,
        p50=fast.answer_p50,
        p99=fast.answer_p99,
        cpu=1e6 * own / fast.events,
        servers_cpu=1e6 * sum(fast.cpu.get(name, 0.0) for name in SERVERS) / fast.events,
        refused=fast.refused,
    )


def _rates(figures: Figures) -> str:
    return f"{figures.accepted_rate:,.0f} accepted/s, {figures.processed_rate:,.0f} processed/s"
