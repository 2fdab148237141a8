"""Ingest alone to a bare aiohttp handler that reads the same body.

The queues are there and no worker runs, so each 200 is a confirm by every queue that the event goes to, and nothing else is
done. The same sender posts the same number of events on the same number of connections to one and to the other, in turn,
with the requests built and signed before the clock starts: the client takes as little as it can of the cores that all
share, and equally much. After each round the messages in the archive's queue are counted, and the queues emptied.
"""

from collections.abc import Callable
from dataclasses import replace

import psutil
from msgspec import Struct, field

from bench.bodies import events_per_life, fresh_run
from bench.instance import Stage, ingest
from bench.limits import bare_server
from bench.measure import Meter, percentile
from bench.options import Chosen
from bench.ratios import in_turn, ratio
from bench.runs import counted, load, refused
from bench.target import Target
from workers import WORKERS

OURS, BARE = "ingest", "bare aiohttp"
WARM_UP: int = 300  # events


class Posted(Struct, kw_only=True):
    """One round of one of them. Times and CPU in seconds."""

    rate: float
    events: int
    answer_p50: float
    answer_p99: float
    refused: int
    cpu: dict[str, float]


class Ingress(Struct, kw_only=True):
    """The rounds of both."""

    connections: int
    ours: list[Posted] = field(default_factory=list)
    bare: list[Posted] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Our rate to the bare handler's."""
        return ratio([each.rate for each in self.ours], [each.rate for each in self.bare])


async def measure(stage: Stage, chosen: Chosen, tell: Callable[[str], None]) -> Ingress:
    """All rounds, after a short one of each that warms up."""
    found = Ingress(connections=chosen.senders)
    async with stage.place("bench_ingress") as place, ingest(stage, place) as target, bare_server() as bare:
        meter = Meter({**target.meter.processes, BARE: psutil.Process(bare.pid)})
        sides = {OURS: replace(target, meter=meter), BARE: replace(target, meter=meter, url=bare.url)}
        for name, side in sides.items():
            await posted(side, WARM_UP, chosen.senders, stored=name == OURS)
        for number, name in enumerate(in_turn(OURS, BARE, chosen.rounds)):
            tell(f"ingress: round {number // 2 + 1} of {chosen.rounds}, {name}")
            one = await posted(sides[name], chosen.ingress_posts, chosen.senders, stored=name == OURS)
            (found.ours if name == OURS else found.bare).append(one)
    return found


async def posted(target: Target, events: int, connections: int, *, stored: bool) -> Posted:
    """One round. Raises where less is stored than was answered with 200."""
    run = fresh_run()
    cpu: dict[str, float] = {}
    job = target.job(run, max(2, round(events / events_per_life(run))), connections, signed_before=True)
    with counted(target.meter, cpu):
        sent = await load(job, target)
    if stored:
        if (there := await target.waiting("archive")) < sent.events:
            raise RuntimeError(f"the archive's queue holds {there} events of {sent.events} that were answered with 200")
        await emptied(target)
    return Posted(
        rate=sent.events / (sent.ended - sent.began),
        events=sent.events,
        answer_p50=percentile(sent.answer_times, 0.5),
        answer_p99=percentile(sent.answer_times, 0.99),
        refused=refused(sent),
        cpu={**cpu, "(sender)": sent.cpu},
    )


async def emptied(target: Target) -> None:
    """Nothing waits in any worker's queue: the next round begins as this one did."""
    for worker in WORKERS.values():
        queue = await target.channel.declare_queue(worker.QUEUE.name, passive=True, timeout=10)
        await queue.purge(timeout=60)
