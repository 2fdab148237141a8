"""`make soak`: an hour at a steady rate; memory, file handles, queues and tables are looked at once a minute.

    make soak                                # 60 minutes at 800 events/s; the report goes to docs/soak.md
    make soak ARGS="--minutes 5 --rate 200"  # shorter: the report is printed

At the end the database's clock is put ahead by 48 days, and what is old by then is pruned.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import psutil

from bench import soak_report
from bench.bodies import events_per_life, fresh_run
from bench.instance import Stage, instance, private_servers
from bench.runs import steady
from bench.soak_report import Look, Minute, Pruned, Soak
from bench.target import Target
from dev import clock
from dev.places import CannotStart
from dev.system import ChildDied
from dev.venv import ROOT
from quittance import partitions
from workers.runtime.backoff import pause_unless

REPORT: Final = ROOT / "docs" / "soak.md"
SENDERS: Final = 64
LOOK_EVERY: Final = 10.0  # seconds; between the looks of a minute, the highest counts
DAYS_AHEAD: Final = 48
RETENTION: Final = 40

# Partitions count with their table.
SIZES: Final = """
SELECT coalesce(parent.relname, found.relname)::text, sum(pg_total_relation_size(found.oid))::bigint
FROM pg_class AS found LEFT JOIN pg_inherits ON inhrelid = found.oid LEFT JOIN pg_class AS parent ON parent.oid = inhparent
WHERE found.relkind = 'r' AND found.relnamespace = 'public'::regnamespace GROUP BY 1
"""
ROWS: Final = """
SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM quotes WHERE status = 'paid'),
       (SELECT count(*) FROM quote_status_changes), (SELECT count(*) FROM emails WHERE state = 'sent'),
       (SELECT count(*) FROM failed_deliveries), (SELECT count(*) FROM outbox)
"""
MAILS_PATIENCE: Final = 600.0  # seconds
GAPS: Final = """
SELECT count(*) FROM quotes JOIN (
    SELECT account, livemode, quote_id, count(*) AS changes, max(sequence) AS last FROM quote_status_changes GROUP BY 1, 2, 3
) AS told USING (account, livemode, quote_id) WHERE (changes, last) <> (sequence, sequence)
"""


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=60, help="how long (%(default)s)")
    parser.add_argument("--rate", type=float, default=800.0, help="events/s (%(default)g)")
    parser.add_argument("--report", type=Path, help="write the report here (docs/soak.md for an hour or more)")
    chosen = parser.parse_args()
    if chosen.minutes < 1 or chosen.rate <= 0:
        parser.error("--minutes must be at least 1, and --rate above 0")
    return chosen


def handles(process: psutil.Process) -> int:
    """Open file handles of a process and its children."""
    found = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            found += member.num_fds()
        except psutil.Error:
            continue
    return found


async def look(target: Target) -> Look:
    """What there is now."""
    target.meter.memory.clear()
    await asyncio.to_thread(target.meter.look)
    watched = {name: each for name, each in target.meter.processes.items() if each.pid != os.getpid()}
    return Look(
        memory={name: target.meter.memory[name][0][1] for name in watched},
        handles={name: await asyncio.to_thread(handles, each) for name, each in watched.items()},
        tables=dict(map(tuple, await target.db.fetch(SIZES))),
    )


@asynccontextmanager
async def waiting(target: Target) -> AsyncIterator[list[int]]:
    """How much waited in queues and outbox, every few seconds of the block. A look is never broken off: the client would
    close the channel for it.
    """
    found: list[int] = []
    over = asyncio.Event()

    async def watch() -> None:
        while not over.is_set():
            await pause_unless(over, LOOK_EVERY)
            found.append(await target.left())

    task = asyncio.create_task(watch())
    try:
        yield found
    finally:
        over.set()
        await task


async def minute(target: Target, run: str, rate: float) -> Minute:
    """One minute of the stream, and what it came to. Raises where a process has ended, or an event was not taken."""
    lives = max(2, round(rate * 60 / events_per_life(run)))
    async with waiting(target) as depths:
        streamed = await steady(target, target.job(run, lives, SENDERS, rate=rate, record=True), whole=False)
    return Minute(
        **msgspec.structs.asdict(streamed),
        deepest=max(depths),
        left=depths[-1],
        look=await look(target),
    )


async def mails_sent(target: Target) -> float:
    """How long it takes until no mail is due any more; at most MAILS_PATIENCE."""
    began = time.monotonic()
    while time.monotonic() - began < MAILS_PATIENCE:
        if not await target.mails():
            break
        await asyncio.sleep(0.5)
    return time.monotonic() - began


async def faults(target: Target, minutes: list[Minute]) -> list[str]:
    """What is missing, or there too often, of all that was accepted."""
    events, lives = sum(each.events for each in minutes), sum(each.lives for each in minutes)
    archived, paid, changes, mails, failed, unpublished = await target.db.fetchrow(ROWS, timeout=120)  # type: ignore[misc]
    gaps = await target.db.fetchval(GAPS, timeout=120)
    wanted = {
        "events archived": (archived, events),
        "quotes paid": (paid, lives),
        "mails sent": (mails, lives),
        "changes at the CRM": (target.crm.received, changes),
        "deliveries that failed": (failed, 0),
        "rows in the outbox": (unpublished, 0),
        "quotes with a gap in their sequence": (gaps, 0),
    }
    return [f"{found} {what}, not {right}" for what, (found, right) in wanted.items() if found != right]


async def prune(target: Target, database_url: str) -> Pruned:
    """Weeks later: what is old goes by the partition."""
    before = dict(map(tuple, await target.db.fetch(SIZES)))
    await clock.move(target.db, DAYS_AHEAD)
    began = time.monotonic()
    await partitions.maintain(database_url, RETENTION)
    seconds = time.monotonic() - began
    return Pruned(seconds=seconds, before=before, after=dict(map(tuple, await target.db.fetch(SIZES))))


async def soak(chosen: argparse.Namespace, found: Soak) -> None:
    """Run it, into `found`; a line a minute."""
    began = fresh_run()
    with private_servers("soak") as given:
        stage = Stage(given)
        async with stage.place("soak") as place, instance(stage, place, "apart") as target:
            found.first = await look(target)
            for number in range(chosen.minutes):
                one = await minute(target, f"{began}{number:03}", chosen.rate)
                found.minutes.append(one)
                print(
                    f"{number + 1:3}/{chosen.minutes}: {one.events} events, POST to CRM p50 {one.change_p50 * 1000:.0f} ms, "
                    f"p99 {one.change_p99 * 1000:.0f} ms, at most {one.deepest} waiting, "
                    f"{sum(one.look.memory.values()):.0f} MB, {sum(one.look.handles.values())} handles",
                    flush=True,
                )
            await target.idle()
            found.mails_after = await mails_sent(target)
            found.faults = await faults(target, found.minutes)
            found.pruned = await prune(target, place.database_url)


def main() -> int:
    """0 when nothing is missing, 1 when something is, or the run broke; 2 for wrong arguments."""
    chosen = arguments()
    found = Soak(rate=chosen.rate)
    try:
        asyncio.run(soak(chosen, found))
    except (CannotStart, ChildDied, TimeoutError, RuntimeError) as problem:
        print(problem, file=sys.stderr)
        return 1
    finally:
        raw = ROOT / ".local" / "bench" / f"soak-{time.strftime('%Y%m%d-%H%M%S')}.json"
        raw.parent.mkdir(parents=True, exist_ok=True)
        raw.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
        print(f"raw figures: {raw}")
    text = soak_report.markdown(found)
    place = chosen.report or (REPORT if chosen.minutes >= 60 else None)
    if place is not None:
        place.write_text(text)
        print(f"written: {place}")
    else:
        print(text)
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
