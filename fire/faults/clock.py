"""Clocks that are off by ten minutes: ingest's, the workers', that of Postgres."""

import asyncio
import signal
import time
from typing import Final, cast

from dev.postgres import Postgres
from fire.faketime import off_by
from fire.row import Broken, Inject, Row
from fire.system import INGEST, RELAY, WORKERS, System

MINUTES: Final = 10
OFF: Final = MINUTES * 60
LASTS: Final = 8.0
STALE: Final = 400
DIRECTIONS: Final = {"ahead": OFF, "behind": -OFF}


def _ingest(seconds: int) -> Inject:
    """To it every signature is stale, or of the future: it refuses all of them, and Stripe sends them again."""

    async def inject(system: System) -> None:
        await system.restart(INGEST, signal.SIGTERM, **off_by(seconds))
        began = time.monotonic()
        await asyncio.sleep(LASTS)
        ended, stream = time.monotonic(), system.stream
        await system.restart(INGEST, signal.SIGTERM)
        if given := stream.answered(200, began, ended):
            raise Broken(f"{given} times 200 for a signature that is {MINUTES} minutes off")
        if not stream.answered(STALE, began, ended):
            raise Broken(f"no {STALE} for a signature that is {MINUTES} minutes off")

    return inject


def _workers(seconds: int) -> Inject:
    async def inject(system: System) -> None:
        names = (*WORKERS, RELAY)
        await system.restart_all(names, signal.SIGTERM, **off_by(seconds))
        await asyncio.sleep(LASTS)
        await system.restart_all(names, signal.SIGTERM)

    return inject


def _postgres(seconds: int) -> Inject:
    """Its clock jumps, and stays so until all is done: what is due and leased is told by this clock alone."""

    async def inject(system: System) -> None:
        await _restarted(system, off_by(seconds))
        await asyncio.sleep(LASTS)
        db = await system.database()
        try:
            at = float(await db.fetchval("SELECT extract(epoch FROM clock_timestamp())"))
        finally:
            await db.close()
        if abs(at - time.time() - seconds) > 5:
            raise Broken(f"the clock of Postgres is {at - time.time():+.0f} s off, not {seconds:+d}")

    return inject


async def _right_again(system: System) -> None:
    await _restarted(system, {})


async def _restarted(system: System, environment: dict[str, str]) -> None:
    postgres = cast("Postgres", system.servers.postgres)
    postgres.environment = environment
    await asyncio.to_thread(postgres.stop)
    await asyncio.to_thread(postgres.start)


ROWS: Final = (
    *(
        Row(
            f"clock-ingest-{name}",
            f"a signature {MINUTES} minutes off is answered 400, never 200; once the clock is right, all is taken",
            30.0,
            _ingest(seconds),
            statuses=frozenset({STALE}),
        )
        for name, seconds in DIRECTIONS.items()
    ),
    *(
        Row(f"clock-workers-{name}", "no schedule and no order hangs on a worker's clock", 30.0, _workers(seconds))
        for name, seconds in DIRECTIONS.items()
    ),
    Row(
        "clock-postgres-ahead",
        "leases end early: a mail may come twice, with the same Message-ID; nothing else does",
        45.0,
        _postgres(OFF),
        repeats_mail=40,
        after=_right_again,
    ),
)
