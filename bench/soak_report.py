"""The soak's figures, and the report for people."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct, field

from bench.measure import machine
from bench.runs import Steady

MEGABYTE: Final = 1 << 20
QUARTERS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


class Look(Struct):
    """What there is at one moment: MB and file handles by process, bytes by table."""

    memory: dict[str, float]
    handles: dict[str, int]
    tables: dict[str, int]


class Minute(Steady, kw_only=True):
    """A minute of the stream. `deepest`, `left`: messages in queues and rows in the outbox, at most and at its end."""

    deepest: int
    left: int
    look: Look


class Pruned(Struct):
    """What one round of maintenance took, and bytes by table before and after it."""

    seconds: float
    before: dict[str, int]
    after: dict[str, int]


class Soak(Struct):
    """All of it. `faults`: what was accepted and is not there, or there too often; `mails_after`: how long after the end of
    the stream the last mail was sent (seconds).
    """

    rate: float
    first: Look | None = None
    minutes: list[Minute] = field(default_factory=list)
    mails_after: float = 0.0
    faults: list[str] | None = None
    pruned: Pruned | None = None


def slope(values: Sequence[float]) -> float:
    """Growth a step, by least squares."""
    count = len(values)
    if count < 2:
        return 0.0
    middle, mean = (count - 1) / 2, sum(values) / count
    above = sum((place - middle) * (value - mean) for place, value in enumerate(values))
    return above / sum((place - middle) ** 2 for place in range(count))


def picked(minutes: Sequence[Minute]) -> list[int]:
    """The minutes that are shown: the first, the last, and three between."""
    return sorted({round(share * (len(minutes) - 1)) for share in QUARTERS})


def markdown(found: Soak) -> str:
    """The report."""
    minutes = found.minutes
    events = sum(each.events for each in minutes)
    seconds = sum(each.seconds for each in minutes)
    head = (
        f'# Soak\n\nWritten by `make soak ARGS="--minutes {len(minutes)} --rate {found.rate:g}"`; not by hand. '
        f"{time.strftime('%Y-%m-%d')}, {machine()}, {os.cpu_count()} cores. Ingest, every worker and the relay in a process of its own, private servers, all on one "
        "machine.\n\n"
        f"{events:,} events ({sum(each.lives for each in minutes):,} complete lives) in {seconds / 60:.0f} minutes, "
        f"{events / seconds:,.0f} a second; asked for: {found.rate:,.0f}. {sum(each.refused for each in minutes)} answers were "
        f"not 200. The last mail was sent {found.mails_after:.0f} s after the last event. "
    )
    wrong = "; ".join(found.faults or ())
    verdict = f"**Wrong: {wrong}.**" if wrong else "At the end everything accepted was there, once: archive, status, "
    rest = "" if wrong else "change at the CRM, mail; no sequence had a gap, nothing had failed, the outbox was empty."
    parts = [head + verdict + rest, _times(minutes), _processes(minutes), _tables(minutes)]
    if found.pruned is not None:
        parts.append(_pruned(found.pruned))
    return "\n\n".join(parts) + "\n"


def _times(minutes: Sequence[Minute]) -> str:
    lines = [
        "## Times and queues\n",
        "| minute | events | POST to 200, p50 / p99 ms | POST to CRM, p50 / p99 ms | most waiting | waiting at its end |",
        "|---|---|---|---|---|---|",
    ]
    for number in picked(minutes):
        one = minutes[number]
        lines.append(
            f"| {number + 1} | {one.events:,} | {one.answer_p50 * 1000:.1f} / {one.answer_p99 * 1000:.1f} "
            f"| {one.change_p50 * 1000:.0f} / {one.change_p99 * 1000:.0f} | {one.deepest:,} | {one.left:,} |"
        )
    return "\n".join([*lines, f"\nMost that ever waited: {max(each.deepest for each in minutes):,} messages and rows."])


def _growing(
    title: str, minutes: Sequence[Minute], value: Callable[[Minute], Mapping[str, float]], unit: str
) -> list[str]:
    shown = picked(minutes)
    rest = minutes[len(minutes) // 4 :]  # what a process takes to get warm is not growth
    lines = [
        f"| {title} | {' | '.join(f'minute {number + 1}' for number in shown)} | {unit}/h after the first quarter |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for name in value(minutes[0]):
        cells = [f"{value(minutes[number])[name]:,.0f}" for number in shown]
        lines.append(f"| {name} | {' | '.join(cells)} | {60 * slope([value(each)[name] for each in rest]):+,.1f} |")
    return lines


def _processes(minutes: Sequence[Minute]) -> str:
    memory = _growing("MB (PSS)", minutes, lambda each: each.look.memory, "MB")
    handles = _growing("file handles", minutes, lambda each: each.look.handles, "handles")
    return "\n".join(["## Memory and file handles\n", *memory, "", *handles])


def _tables(minutes: Sequence[Minute]) -> str:
    """Bytes an event, which must not grow, for those that keep a row; megabytes for all."""
    shown, events = picked(minutes), [0]
    for each in minutes:
        events.append(events[-1] + each.events)
    lines = [
        "## Tables, with their indexes\n",
        f"| table | {' | '.join(f'MB, minute {number + 1}' for number in shown)} | bytes an event: second quarter | last quarter |",
        "|---" * (len(shown) + 3) + "|",
    ]
    last = len(minutes) - 1
    quarters = ((last // 4, last // 2), (3 * last // 4, last))
    for name in sorted(minutes[-1].look.tables, key=lambda name: -minutes[-1].look.tables[name]):
        sizes = [each.look.tables.get(name, 0) for each in minutes]
        if sizes[-1] < MEGABYTE:
            continue
        cells = [f"{sizes[number] / MEGABYTE:,.0f}" for number in shown]
        each_event = [f"{(sizes[b] - sizes[a]) / max(1, events[b + 1] - events[a + 1]):,.0f}" for a, b in quarters]
        lines.append(f"| {name} | {' | '.join(cells)} | {' | '.join(each_event)} |")
    return "\n".join(lines)


def _pruned(found: Pruned) -> str:
    lines = [
        "## Pruned by partition\n",
        (
            "An hour makes no partition old. So the database's clock was put ahead by 48 days, and one round of the relay's "
            f"maintenance ran with `EVENTS_RETENTION_DAYS=40`: {found.seconds:.1f} s.\n"
        ),
        "| table | MB before | MB after |",
        "|---|---|---|",
    ]
    for name in ("events", "inbox", "waiting_facts", "waiting_documents"):
        before, after = (sizes.get(name, 0) / MEGABYTE for sizes in (found.before, found.after))
        lines.append(f"| {name} | {before:,.1f} | {after:,.1f} |")
    return "\n".join(lines)
