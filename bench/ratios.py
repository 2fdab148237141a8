"""Two things in turn, round after round: what one is to the other, on a machine whose speed changes by the minute."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

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
