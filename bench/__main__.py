"""`make bench`: private servers, ingest and every worker in a process of its own, load from another; figures at the end.

    make bench ARGS="--lives 20000 --senders 64"
    make bench ARGS="--url http://127.0.0.1:8080/webhooks/stripe --secret whsec_… --database-url … --amqp-url …"

Raw figures go to .local/bench/. The load goes to this machine's own addresses only.
"""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import aio_pika
import asyncpg
import msgspec
from rich.console import Console

from bench import limits, runs
from bench.bodies import events_per_life
from bench.listener import listener
from bench.measure import Meter
from bench.report import Results, show
from bench.runs import Target
from bench.sender import Job
from bench.smtp_sink import sink
from dev import servers
from dev.demo_report import console
from dev.places import CannotStart
from dev.rabbitmq import RabbitMQ
from dev.server import Server
from dev.servers import Servers
from dev.stripe_events import token
from dev.system import ChildDied, System, initialise, system
from dev.venv import ROOT

SECRET: Final = "whsec_bench_of_quittance"
WORKERS: Final = ("accounts", "archive", "checkouts", "customers", "documents", "quotes", "notifications", "relay")
WARM_UP_LIVES: Final = 200
# One life comes after the other on a connection; at a steady rate, more wait for their answer at a time.
STEADY_SENDERS: Final = 64


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=_Raw)
    parser.add_argument(
        "--lives", type=_positive, default=3_000, help="lives of the fast run (9 events each; %(default)s)"
    )
    parser.add_argument("--senders", type=_positive, default=32, help="connections of the fast run (%(default)s)")
    parser.add_argument("--duration", type=_positive, default=20, help="seconds of the steady run (%(default)s)")
    parser.add_argument("--rate", type=float, help="events/s of the steady run (half of what the fast run reached)")
    parser.add_argument("--deadline", type=_positive, default=900, help="seconds the fast run may take (%(default)s)")
    parser.add_argument("--no-limits", action="store_true", help="do not take the limits of the parts")
    parser.add_argument("--url", help="the webhook address of an instance that is up; needs the next three")
    parser.add_argument("--secret", help="its webhook secret")
    parser.add_argument("--database-url", help="its DATABASE_URL")
    parser.add_argument("--amqp-url", help="its AMQP_URL")
    chosen = parser.parse_args()
    given = [chosen.url, chosen.secret, chosen.database_url, chosen.amqp_url]
    if any(given) and not all(given):
        parser.error("--url, --secret, --database-url and --amqp-url belong together")
    for address in filter(None, (chosen.url, chosen.database_url, chosen.amqp_url)):
        if not _is_here(address):
            parser.error(f"{urlsplit(address).hostname} is not this machine: the load goes to loopback addresses only")
    return chosen


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _is_here(address: str) -> bool:
    host = urlsplit(address).hostname
    if host in (None, "localhost"):  # no host: a socket's path
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Addresses(NamedTuple):
    """Where an instance is."""

    url: str
    secret: str
    database_url: str
    amqp_url: str


@asynccontextmanager
async def connected(to: Addresses, meter: Meter, at: System | None) -> AsyncIterator[Target]:
    """Connections for watching, and the CRM's. The queue `crm` of an instance that is not ours is left alone."""
    db = await asyncpg.connect(to.database_url)
    connection = await aio_pika.connect(to.amqp_url, timeout=10)
    try:
        async with connection, listener(to.amqp_url, whole_queue=at is not None) as crm:
            channel = await connection.channel()
            yield Target(
                url=to.url,
                secret=to.secret,
                db=db,
                channel=channel,
                crm=crm,
                meter=meter,
                check=at.check if at is not None else lambda: None,
                metrics={} if at is None else {each.name: f"{each.url}/metrics" for each in at.children},
            )
    finally:
        await db.close()


@asynccontextmanager
async def started(at: System, given: Servers) -> AsyncIterator[Target]:
    """Our own instance: ingest, each worker and the relay in a process of its own."""
    await asyncio.to_thread(initialise, given.database_url, given.amqp_url, at.logs)
    async with sink() as smtp_url:
        common = {"AMQP_URL": given.amqp_url, "LOG_LEVEL": "warning"}
        door = {**common, "STRIPE_WEBHOOK_SECRETS": SECRET, "INGEST_HOST": "127.0.0.1"}
        ingest = at.start("ingest", ["ingest"], "INGEST_PORT", door)
        environment = {
            **common,
            "DATABASE_URL": given.database_url,
            "SMTP_URL": smtp_url,
            "MAIL_FROM": "quittance@example.com",
        }
        for name in WORKERS:
            at.start(name, ["workers", name], "METRICS_PORT", environment)
        await at.ready()
        pids = {child.name: child.process.pid for child in at.children}
        if isinstance(given.postgres, Server) and isinstance(given.broker, RabbitMQ):
            pids |= {"broker": given.broker.pid, "postgres": given.postgres.pid}
        meter = Meter.of({**pids, "(CRM, SMTP, watching)": os.getpid()})
        url = f"{ingest.url}/webhooks/stripe"
        to = Addresses(url, SECRET, given.database_url, given.amqp_url)
        async with connected(to, meter, at) as target:
            yield target


async def measured(target: Target, chosen: argparse.Namespace, results: Results, to: Console) -> None:
    """The runs, one after the other, each with events of its own."""
    run = token(str(time.time_ns()), 4)
    with tempfile.TemporaryDirectory() as folder:

        def job(suffix: str, lives: int, senders: int, **more: Any) -> Job:
            result = str(Path(folder, suffix))
            return Job(
                url=target.url,
                secret=target.secret,
                run=run + suffix,
                lives=lives,
                senders=senders,
                result=result,
                **more,
            )

        with to.status("warming up"):
            await runs.load(job("W", WARM_UP_LIVES, chosen.senders), target)
            await target.idle()
        with to.status(f"{chosen.lives} lives as fast as they go"):
            results.fast = await runs.fast(target, job("F", chosen.lives, chosen.senders, deadline=chosen.deadline))
        rate = chosen.rate or min(results.fast.accepted_rate, results.fast.handled_rate) / 2
        lives = 2 * max(1, round(rate * chosen.duration / events_per_life(run) / 2))
        limit = 4 * chosen.duration + 60
        with to.status(f"{lives} lives at {rate:.0f} events/s"):
            steady = job("S", lives, STEADY_SENDERS, rate=rate, record=True, deadline=limit)
            results.steady = await runs.steady(target, steady)


def new_results(chosen: argparse.Namespace) -> Results:
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
        limits=None,
    )


def bench(chosen: argparse.Namespace, results: Results, to: Console) -> None:
    """Measure into `results`."""
    if chosen.url:
        take_limits(chosen, results, chosen.database_url, chosen.amqp_url, to)

        async def other() -> None:
            addresses = Addresses(chosen.url, chosen.secret, chosen.database_url, chosen.amqp_url)
            async with connected(addresses, Meter({}), None) as target:
                await measured(target, chosen, results, to)

        asyncio.run(other())
        return
    with servers.running("bench") as given, system("bench") as at:
        take_limits(chosen, results, given.database_url, given.amqp_url, to)

        async def own() -> None:
            async with started(at, given) as target:
                await measured(target, chosen, results, to)

        asyncio.run(own())


def take_limits(chosen: argparse.Namespace, results: Results, database_url: str, amqp_url: str, to: Console) -> None:
    """Before the system runs: each part has the machine to itself."""
    if not chosen.no_limits:
        with to.status("the limits of the parts"):
            results.limits = limits.measure(database_url, amqp_url, token(str(time.time_ns()), 6))


def write(results: Results) -> Path:
    """The raw figures, as JSON."""
    folder = ROOT / ".local" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{results.at[:19].replace(':', '')}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
    return file


def main() -> int:
    """Run the benchmark; the exit code."""
    chosen = arguments()
    to = console()
    results = new_results(chosen)
    try:
        bench(chosen, results, to)
    except (CannotStart, ChildDied, TimeoutError, RuntimeError) as problem:
        to.print(str(problem), style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 130
    show(results, to)
    to.print(f"Raw figures: {write(results)}", markup=False, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
