"""Two of each worker to one, on one instance: a second set of all workers and the relay comes and goes, round after round.

Two cores have no room for twice the rate. What must not grow with the number of processes is the cost of an event: locks
that are waited for, queries that read what the other set holds, batches that become smaller.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Struct, field

from bench.bodies import fresh_run
from bench.instance import Shape, Stage, instance, workers
from bench.options import Chosen
from bench.ratios import cost_with_postgres, in_turn, ratio
from bench.runs import Fast, fast, warm

ONE, TWO = "one of each", "two of each"
WARM_UP_LIVES: Final = 100


class Twice(Struct, kw_only=True):
    """The rounds of both."""

    one: list[Fast] = field(default_factory=list)
    two: list[Fast] = field(default_factory=list)

    @property
    def rate_share(self) -> float:
        """The rate of two to that of one."""
        return ratio([each.handled_rate for each in self.two], [each.handled_rate for each in self.one])

    @property
    def cost_share(self) -> float:
        """CPU of an event, Postgres included, with two to that with one."""
        return ratio(list(map(cost_with_postgres, self.two)), list(map(cost_with_postgres, self.one)))


async def measure(stage: Stage, shape: Shape, chosen: Chosen, tell: Callable[[str], None]) -> Twice:
    """All rounds. What has just been started is warmed up first."""
    found = Twice()
    async with stage.place("bench_twice") as place, instance(stage, place, shape) as target:
        await warm(target, fresh_run(), WARM_UP_LIVES)
        for number, name in enumerate(in_turn(ONE, TWO, chosen.rounds)):
            tell(f"twice: round {number // 2 + 1} of {chosen.rounds}, {name}")
            if name == ONE:
                found.one.append(await fast(target, target.job(fresh_run(), chosen.round_lives, chosen.senders)))
                continue
            async with workers(target, place, shape, purpose="bench-second", suffix="-2") as both:
                await warm(both, fresh_run(), WARM_UP_LIVES)
                found.two.append(await fast(both, both.job(fresh_run(), chosen.round_lives, chosen.senders)))
    return found
