"""What an event costs in a full database, to what it costs in an empty one.

Two instances on the same servers, one database filled (bench/fill.py), vacuumed and analysed; the same number of lives to one
and to the other in turn. Both are up all the time, so what an idle instance takes of Postgres is in both figures. Cost is the
CPU of ingest, workers, relay and Postgres for an event. "Empty" begins with nothing but the lives that warm it up.
"""

import shutil
from collections.abc import Callable
from itertools import count
from typing import Final

from msgspec import Struct

from bench.bodies import fresh_run
from bench.fill import FIRST_SEED, SEEDS, Filled, fill
from bench.instance import Place, Shape, Stage, instance
from bench.measure import Meter
from bench.options import Chosen
from bench.ratios import Compared, Side, compare
from bench.runs import Fast, counted, fast, load, warm
from bench.target import Target
from dev.places import CannotStart
from dev.venv import ROOT

# As measured with a million rows, indexes included: of a row of the archive, and of a quote with all that belongs to it.
ARCHIVE_BYTES: Final = 3_200
QUOTE_BYTES: Final = 26_000
SPARE_BYTES: Final = 3 << 30  # write-ahead log, what else is stored meanwhile

WARM_UP_LIVES: Final = 100


class Growth(Struct, kw_only=True):
    """What was there, what it took to fill it, and the rounds: usual is the empty one, other the full one."""

    filled: Filled
    filling_cpu: dict[str, float]  # seconds
    rounds: Compared


async def measure(stage: Stage, shape: Shape, chosen: Chosen, tell: Callable[[str], None]) -> Growth:
    """Fill one, then both in turn, with lives whose ids lie among those that are there."""
    run = fresh_run()
    check_room(chosen.growth_archive, chosen.growth_quotes)
    first = count(10**8, 2 * chosen.round_lives)

    async def into(target: Target) -> Fast:
        return await fast(target, target.job(run, chosen.round_lives, chosen.senders, first=next(first)))

    async with stage.place("bench_empty") as small, stage.place("bench_full") as large:
        await _seed(stage, large, shape, run)
        cpu: dict[str, float] = {}
        with counted(Meter.of(stage.pids), cpu):
            filled = await fill(large.database_url, chosen.growth_archive, chosen.growth_quotes, tell)
        async with instance(stage, small, shape) as empty, instance(stage, large, shape) as full:
            for target in (empty, full):
                await warm(target, fresh_run(), WARM_UP_LIVES)
            sides = Side("empty", lambda: into(empty)), Side("full", lambda: into(full))
            return Growth(filled=filled, filling_cpu=cpu, rounds=await compare("growth", *sides, chosen.rounds, tell))


def check_room(archive: int, quotes: int) -> None:
    """Raises CannotStart where the disk has no room for it: a full disk would stop the servers after half an hour."""
    needed = archive * ARCHIVE_BYTES + quotes * QUOTE_BYTES + SPARE_BYTES
    free = shutil.disk_usage(ROOT).free
    if needed > free:
        raise CannotStart(f"growth: the full database takes some {needed >> 30} GB, and {free >> 30} GB are free")


async def _seed(stage: Stage, place: Place, shape: Shape, run: str) -> None:
    async with instance(stage, place, shape) as target:
        await load(target.job(run, SEEDS, 1, first=FIRST_SEED), target)
        await target.settled()
