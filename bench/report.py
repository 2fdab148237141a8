"""The benchmark's figures for people."""

from collections.abc import Mapping
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from bench.backlog import Backlog
from bench.growth import Growth
from bench.instance import BESIDE
from bench.limits import Limits
from bench.results import Measured, Results, peers
from bench.runs import Fast
from bench.scrape import Batches
from bench.targets import targets

SHAPES: Final = {
    "apart": "a process for each worker",
    "together": "all workers in one process",
    "": "another instance",
}
MET: Final = {True: "yes", False: "NO", None: ""}
MEGABYTE: Final = 1 << 20


def show(results: Results, to: Console) -> None:
    """Print the tables: what was seen of each way to run the workers, and at the end the targets."""
    others = peers()
    for found in results.measured:
        _show_measured(found, results.limits, to)
    for found in results.measured:
        made = _table(f"Targets: {SHAPES[found.shape]}", "what", "target", "measured", "met", right=False)
        for row in targets(found, results.limits, results.ingress, others):
            made.add_row(row.what, row.target, row.measured, MET[row.met])
        to.print(made)
    if "True" in results.arguments.get("quick", ""):
        to.print("--quick: too short for figures; this only shows that it works.", style="yellow")
    busy = ", ".join(f"{load:.2f}" for load in results.load_before)
    machine = ", ".join(results.machine.values())
    to.print(f"{machine}; load averages before: {busy}.", style="dim", highlight=False)


def _show_measured(found: Measured, limits: Limits | None, to: Console) -> None:
    if (rates := _rates(found, limits)).row_count:
        to.print(rates)
    if found.fast is not None:
        to.print(_cost(found.fast))
        # Of another instance our processes are not known, so nor is which are others.
        busy = f"; {found.fast.others:.2f} cores busy with other programs" if BESIDE in found.fast.cpu else ""
        to.print(
            f"Quotes after the run: {found.fast.quotes}; failed deliveries: {found.fast.failed}; "
            f"answered 503 and sent again: {found.fast.refused}; {found.fast.bytes_per_event:,.0f} bytes an event{busy}."
        )
    if found.backlog is not None:
        to.print(_drain(found.backlog))
    if found.growth is not None:
        to.print(_rows(found.growth))


def _table(title: str, *columns: str, right: bool = True) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if index and right else "left")
    return made


def _rates(found: Measured, limits: Limits | None) -> Table:
    made = _table(f"Speed: {SHAPES[found.shape]}", "what", "events/s", "of the limit", "p50 ms", "p99 ms")
    if limits is not None:
        _row(made, "limit: bare aiohttp handler, 32 connections", limits.http)
        _row(made, "limit: aio-pika, confirmed, 100 in flight, one quorum queue", limits.publish)
        _row(made, "limit: Postgres, deduplicating insert of 200 ids a transaction", limits.insert)
        made.add_section()
    if (fast := found.fast) is not None:
        http, publish, insert = (None, None, None) if limits is None else (limits.http, limits.publish, limits.insert)
        answered = (fast.answer_p50, fast.answer_p99)
        _row(made, "accepted: POST to 200", fast.accepted_rate, _share(fast.accepted_rate, http, "aiohttp"), answered)
        _row(made, "handled by all workers", fast.handled_rate, _share(fast.handled_rate, publish, "publish"))
        for name, rate in fast.handled.items():
            _row(made, f"  {name}", rate, _share(rate, insert, "insert"))
    if (steady := found.latency) is not None:
        made.add_section()
        title = f"steady, {steady.seconds:.0f} s: POST to 200"
        _row(made, title, steady.rate, "", (steady.answer_p50, steady.answer_p99))
        title = f"POST to CRM event ({steady.changes:,} changes)"
        _row(made, title, None, "", (steady.change_p50, steady.change_p99))
    if (one := found.one_sender) is not None:
        _row(made, "one sender: POST to 200", one.rate, "", (one.answer_p50, one.answer_p99))
    return made


def _row(
    table: Table, what: str, rate: float | None, share: str = "", times: tuple[float, float] | None = None
) -> None:
    p50, p99 = ("", "") if times is None else (f"{each * 1000:.2f}" for each in times)
    table.add_row(what, "" if rate is None else f"{rate:,.0f}", share, p50, p99)


def _share(rate: float, limit: float | None, name: str) -> str:
    return f"{rate / limit:.2f} {name}" if limit else ""


def _cost(fast: Fast) -> Table:
    title = "What each process took, as fast as it goes"
    made = _table(title, "process", "CPU us/event", "MB at start", "half", "end", "events/batch", "ms/batch")
    for name, seconds in fast.cpu.items():
        made.add_row(
            name, f"{seconds / fast.events * 1e6:.0f}", *_memory(fast.memory, name), *_batches(fast.batches.get(name))
        )
    made.add_section()
    made.add_row("all", f"{sum(fast.cpu.values()) / fast.events * 1e6:.0f}")
    return made


def _memory(memory: Mapping[str, list[tuple[float, float]]], name: str) -> list[str]:
    looks = memory.get(name, [])
    if not looks:
        return ["", "", ""]
    return [f"{looks[index][1]:.0f}" for index in (0, len(looks) // 2, -1)]


def _batches(found: Batches | None) -> list[str]:
    if found is None or not found.batches:
        return []
    return [f"{found.events / found.batches:.1f}", f"{found.seconds / found.batches * 1000:.1f}"]


def _drain(found: Backlog) -> Table:
    made = _table(
        f"Backlog: {found.events:,} events stored at {found.stored_rate:,.0f}/s, drained at {found.drained_rate:,.0f}/s in "
        f"{found.drain_seconds:.1f} s; {found.mails_left:,} mails left then.\nMeanwhile {found.fresh_lives} fresh lives: "
        f"POST to 200 p50 {found.fresh_answer_p50 * 1000:.1f} ms, p99 {found.fresh_answer_p99 * 1000:.1f} ms; POST to CRM "
        f"p50 {found.fresh_p50:.1f} s, p99 {found.fresh_p99:.1f} s, at most {found.fresh_max:.1f} s (queues are first in, "
        "first out: what lies before them goes first)",
        "process",
        "MB at start",
        "half",
        "end",
    )
    for name, each in found.memory.items():
        made.add_row(name, f"{each.start:.0f}", f"{each.half:.0f}", f"{each.end:.0f}")
    return made


def _rows(found: Growth) -> Table:
    filled = found.filled
    made = _table(
        f"Growth: {filled.bytes / MEGABYTE:,.0f} MB, filled in {filled.seconds:,.0f} s "
        f"({found.filling_cpu.get('postgres', 0):,.0f} s of Postgres' CPU)",
        "table of the full one",
        "rows",
    )
    for name, count in filled.rows.items():
        made.add_row(name, f"{count:,}")
    return made
