"""Two things in turn, round after round: what one is to the other, on a machine whose speed changes by the minute."""

import statistics
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct, field

from bench.runs import Fast

SERVERS: Final = ("broker", "postgres")


def in_turn(first: str, second: str, rounds: int) -> Iterator[str]:
    """Both in each round, and each of them as often the first of its round as the last."""
    for number in range(rounds):
        yield from (first, second) if number % 2 == 0 else (second, first)


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def own(cpu: Mapping[str, float]) -> float:
    """Seconds of ingest, workers and relay; without the servers, and what stands for the world outside."""
    return sum(seconds for name, seconds in cpu.items() if name not in SERVERS and not name.startswith("("))


def cost(run: Fast) -> float:
    """CPU of ingest, workers and relay for an event, in microseconds."""
    return own(run.cpu) / run.events * 1e6


def cost_with_postgres(run: Fast) -> float:
    """The same, and Postgres' CPU."""
    return cost(run) + run.cpu.get("postgres", 0.0) / run.events * 1e6


class Compared(Struct, kw_only=True):
    """The rounds of what is usual, and of something else, in turn."""

    usual: list[Fast] = field(default_factory=list)
    other: list[Fast] = field(default_factory=list)

    @property
    def rate_share(self) -> float:
        """The other's rate to the usual one."""
        return ratio([each.handled_rate for each in self.other], [each.handled_rate for each in self.usual])

    @property
    def cost_share(self) -> float:
        """CPU of an event, Postgres included, likewise."""
        return ratio(list(map(cost_with_postgres, self.other)), list(map(cost_with_postgres, self.usual)))


class Side(Struct):
    """One of two, and how a round of it is run."""

    name: str
    run: Callable[[], Awaitable[Fast]]


async def compare(section: str, usual: Side, other: Side, rounds: int, tell: Callable[[str], None]) -> Compared:
    """So many rounds of both."""
    found = Compared()
    into = {usual.name: (usual, found.usual), other.name: (other, found.other)}
    for number, name in enumerate(in_turn(usual.name, other.name, rounds)):
        tell(f"{section}: round {number // 2 + 1} of {rounds}, {name}")
        side, measured = into[name]
        measured.append(await side.run())
    return found
