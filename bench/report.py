"""The benchmark's figures for people."""

from collections.abc import Mapping

from msgspec import Struct
from rich import box
from rich.console import Console
from rich.table import Table

from bench.limits import Limits
from bench.runs import Fast, Steady
from bench.scrape import Batches


class Results(Struct, kw_only=True):
    """Everything that was measured, as it is written to disk."""

    at: str
    machine: dict[str, str]
    arguments: dict[str, str]
    load_before: list[float]  # load averages of the machine before anything was started
    limits: Limits | None
    fast: Fast | None = None
    steady: Steady | None = None


def show(results: Results, to: Console) -> None:
    """Print the tables."""
    to.print(_rates(results))
    if results.fast is not None:
        to.print(_cost(results.fast))
        to.print(
            f"Quotes after the run: {results.fast.quotes}; failed deliveries: {results.fast.failed}; "
            f"answered 503 and sent again: {results.fast.refused}; {results.fast.bytes_per_event:,.0f} bytes an event."
        )
    busy = ", ".join(f"{load:.2f}" for load in results.load_before)
    machine = ", ".join(results.machine.values())
    others = (
        "" if results.fast is None else f"; {results.fast.others:.2f} cores busy with other programs during the run"
    )
    to.print(f"{machine}; load averages before: {busy}{others}.", style="dim", highlight=False)


def _table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if index else "left")
    return made


def _rates(results: Results) -> Table:
    made = _table("Speed", "what", "events/s", "of the limit", "p50 ms", "p99 ms")
    limits, fast, steady = results.limits, results.fast, results.steady
    if limits is not None:
        _row(made, "limit: bare aiohttp handler, 32 connections", limits.http)
        _row(made, "limit: aio-pika, confirmed, 100 in flight, one quorum queue", limits.publish)
        _row(made, "limit: Postgres, deduplicating insert of 200 ids a transaction", limits.insert)
        made.add_section()
    if fast is not None:
        http, publish, insert = (None, None, None) if limits is None else (limits.http, limits.publish, limits.insert)
        answered = (fast.answer_p50, fast.answer_p99)
        _row(made, "accepted: POST to 200", fast.accepted_rate, _share(fast.accepted_rate, http, "aiohttp"), answered)
        _row(made, "handled by all workers", fast.handled_rate, _share(fast.handled_rate, publish, "publish"))
        for name, rate in fast.handled.items():
            _row(made, f"  {name}", rate, _share(rate, insert, "insert"))
    if steady is not None:
        made.add_section()
        title = f"steady, {steady.seconds:.0f} s: POST to 200"
        _row(made, title, steady.rate, "", (steady.answer_p50, steady.answer_p99))
        title = f"POST to CRM event ({steady.changes:,} changes)"
        _row(made, title, None, "", (steady.change_p50, steady.change_p99))
    return made


def _row(
    table: Table, what: str, rate: float | None, share: str = "", times: tuple[float, float] | None = None
) -> None:
    p50, p99 = ("", "") if times is None else (f"{each * 1000:.1f}" for each in times)
    table.add_row(what, "" if rate is None else f"{rate:,.0f}", share, p50, p99)


def _share(rate: float, limit: float | None, name: str) -> str:
    return f"{rate / limit:.2f} {name}" if limit else ""


def _cost(fast: Fast) -> Table:
    made = _table(
        "What each process took, as fast as it goes",
        "process",
        "CPU us/event",
        "MB at start",
        "half",
        "end",
        "events/batch",
        "ms/batch",
    )
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
