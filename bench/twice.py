"""Two of each worker to one, on one instance: a second set of all workers and the relay comes and goes, round after round.

Two cores have no room for twice the rate. What must not grow with the number of processes is the cost of an event: locks
that are waited for, queries that read what the other set holds, batches that become smaller.
"""

from collections.abc import Callable
from typing import Final

from bench.bodies import fresh_run
from bench.instance import Shape, Stage, instance, workers
from bench.options import Chosen
from bench.ratios import Compared, Side, compare
from bench.runs import Fast, fast, warm
from bench.target import Target

WARM_UP_LIVES: Final = 100


async def measure(stage: Stage, shape: Shape, chosen: Chosen, tell: Callable[[str], None]) -> Compared:
    """All rounds. What has just been started is warmed up first."""
    async with stage.place("bench_twice") as place, instance(stage, place, shape) as target:

        async def of(running: Target) -> Fast:
            return await fast(running, running.job(fresh_run(), chosen.round_lives, chosen.senders))

        async def both() -> Fast:
            async with workers(target, place, shape, purpose="bench-second", suffix="-2") as two:
                await warm(two, fresh_run(), WARM_UP_LIVES)
                return await of(two)

        await warm(target, fresh_run(), WARM_UP_LIVES)
        return await compare(
            "twice", Side("one of each", lambda: of(target)), Side("two of each", both), chosen.rounds, tell
        )
