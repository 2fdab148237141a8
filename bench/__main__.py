"""`make bench`: see bench/options.py, or `python -m bench --help`. One module a section; this one calls them in turn."""

import asyncio
import os
import platform
import sys
import time
from collections.abc import Callable

from rich.console import Console

from bench import backlog, flush, growth, ingress, limits, one_sender, results, twice
from bench.bodies import events_per_life, fresh_run
from bench.instance import Addresses, Shape, Stage, connected, instance, private_servers
from bench.measure import Meter
from bench.options import Chosen, arguments
from bench.report import show
from bench.results import Measured, Results
from bench.runs import fast, steady, warm
from bench.target import Target
from dev.demo_report import console
from dev.places import CannotStart
from dev.system import ChildDied

Tell = Callable[[str], None]

WARM_UP_LIVES = 200
# One life comes after the other on a connection; at a steady rate, more wait for their answer at a time.
STEADY_SENDERS = 64


async def on_one_instance(target: Target, chosen: Chosen, found: Measured, tell: Tell) -> None:
    """The sections that need nothing but addresses, each with events of its own."""
    tell("warming up")
    await warm(target, fresh_run(), min(WARM_UP_LIVES, chosen.lives))
    if "fast" in chosen.only:
        tell(f"fast: {chosen.lives:,} lives")
        job = target.job(fresh_run(), chosen.lives, chosen.senders, deadline=chosen.deadline)
        found.fast = await fast(target, job, memory=True)
    if "latency" in chosen.only:
        tell(f"latency: {chosen.duration} s at {chosen.rate} events/s")
        run = fresh_run()
        lives = max(2, round(chosen.rate * chosen.duration / events_per_life(run)))
        limit = 4.0 * chosen.duration + 60
        job = target.job(run, lives, STEADY_SENDERS, rate=float(chosen.rate), record=True, deadline=limit)
        found.latency = await steady(target, job)
        await target.settled()
    if "one-sender" in chosen.only:
        tell(f"one-sender: {chosen.posts:,} events")
        found.one_sender = await one_sender.measure(target, chosen.posts)


async def of_ours(stage: Stage, shape: Shape, chosen: Chosen, found: Measured, tell: Tell) -> None:
    """All sections that were asked for, of one way to run the workers."""
    if {"fast", "latency", "one-sender"} & set(chosen.only):
        async with stage.place("bench_fast") as place, instance(stage, place, shape) as target:
            await on_one_instance(target, chosen, found, tell)
    if "backlog" in chosen.only:
        found.backlog = await backlog.measure(stage, shape, chosen, tell)
    if "twice" in chosen.only:
        found.twice = await twice.measure(stage, shape, chosen, tell)
    if "flush" in chosen.only and stage.servers.managed:
        found.flush = await flush.measure(stage, shape, chosen, tell)
    if "growth" in chosen.only and stage.servers.managed:
        found.growth = await growth.measure(stage, shape, chosen, tell)


async def ours(stage: Stage, chosen: Chosen, into: Results, tell: Tell) -> None:
    """Our own instances, on servers of our own."""
    if "ingress" in chosen.only:
        into.ingress = await ingress.measure(stage, chosen, tell)
    for shape in chosen.shapes:
        tell(f"the workers {shape}")
        into.measured.append(Measured(shape=shape))
        await of_ours(stage, shape, chosen, into.measured[-1], tell)


async def other(to: Addresses, chosen: Chosen, into: Results, tell: Tell) -> None:
    """An instance that somebody else runs: nothing of it is started, stopped, emptied or set."""
    async with connected(to, Meter({}), lambda: None) as target:
        into.measured.append(Measured(shape=""))
        await on_one_instance(target, chosen, into.measured[-1], tell)


def bench(chosen: Chosen, into: Results, tell: Tell) -> None:
    """Measure into `into`."""
    if (to := chosen.addresses) is not None:
        take_limits(chosen, into, to.database_url, to.amqp_url, tell)
        asyncio.run(other(to, chosen, into, tell))
        return
    with private_servers("bench") as given:
        take_limits(chosen, into, given.database_url, given.amqp_url, tell)
        asyncio.run(ours(Stage(given), chosen, into, tell))


def take_limits(chosen: Chosen, into: Results, database_url: str, amqp_url: str, tell: Tell) -> None:
    """Before the system runs: each part has the machine to itself."""
    if "limits" in chosen.only:
        tell("the limits of the parts")
        into.limits = limits.measure(database_url, amqp_url, fresh_run())


def new_results(chosen: Chosen) -> Results:
    """What is known before anything is measured."""
    return Results(
        at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        machine={
            "cores": f"{os.cpu_count()} cores",
            "system": f"{platform.system()} {platform.release()}",
            "python": f"Python {platform.python_version()}",
        },
        arguments={name: str(value) for name, value in vars(chosen).items() if name != "secret" and "_url" not in name},
        load_before=list(os.getloadavg()),
    )


def telling(to: Console) -> Tell:
    """A line for each step, with the time since the start."""
    began = time.monotonic()

    def tell(text: str) -> None:
        passed = int(time.monotonic() - began)
        to.print(f"{passed // 60:3}:{passed % 60:02}  {text}", style="dim", highlight=False, markup=False)

    return tell


def main() -> int:
    """Run the benchmark; the exit code. What was measured before a fault is shown, and written down."""
    chosen, to = arguments(), console()
    into, code = new_results(chosen), 0
    try:
        bench(chosen, into, telling(to))
    except (CannotStart, ChildDied, TimeoutError, RuntimeError) as problem:
        to.print(f"{problem}\nWhat was measured before:", style="red", markup=False)
        code = 1
    except KeyboardInterrupt:
        code = 130
    finally:
        show(into, to)
        to.print(f"Raw figures: {results.write(into)}", markup=False, highlight=False)
    return code


if __name__ == "__main__":
    sys.exit(main())
