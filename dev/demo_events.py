"""`make demo EVENTS=folder`: recorded event files through the same door, each of them accounted for."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
from rich.console import Console

from dev.demo_report import dead_letters_table, row, table
from quittance.cli import event_files
from quittance.cli.event_files import FoundEvent, NoEvent
from quittance.cli.output import count

ARCHIVED: Final = "SELECT event_id, body FROM events WHERE event_id = ANY($1::text[])"
HANDLED: Final = (
    "SELECT event_id, array_agg(queue ORDER BY queue) FROM inbox WHERE event_id = ANY($1::text[]) GROUP BY 1"
)
QUOTES: Final = "SELECT count(*) FROM quotes WHERE changed_at >= to_timestamp($1)"
FAILED: Final = """
SELECT queue, event_id, type, state, reason, error FROM failed_deliveries WHERE event_id = ANY($1::text[]) ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Payloads:
    """The events of a folder in the order in which they are sent, and its files that are none."""

    sent: list[FoundEvent]
    others: list[NoEvent]
    renamed: int


def read(folder: Path, order: random.Random) -> Payloads:
    """The event files that lie in `folder`, shuffled; an id that was there before is replaced by a fresh one."""
    found, others = event_files.read([folder])
    seen: set[str] = set()
    sent = []
    renamed = 0
    for event in found:
        if event.id in seen:
            event = event_files.with_fresh_id(event)  # noqa: PLW2901 - the same event under another id
            renamed += 1
        seen.add(event.id)
        sent.append(event)
    order.shuffle(sent)
    return Payloads(sent, others, renamed)


async def account(
    db: asyncpg.Connection, payloads: Payloads, answers: Sequence[int | None], since: float, show: Console
) -> list[str]:
    """Show what became of each event sent `since` (Unix seconds); everything that is not as it must be, in words."""
    ids = [event.id for event in payloads.sent]
    archived = {str(found["event_id"]): bytes(found["body"]) for found in await db.fetch(ARCHIVED, ids)}
    handled = {str(found[0]): list(found[1]) for found in await db.fetch(HANDLED, ids)}
    failed = [dict(found) for found in await db.fetch(FAILED, ids)]
    failing = Counter(str(each["event_id"]) for each in failed)

    wrong = []
    types: dict[str, Counter[str]] = {}
    for event, answer in zip(payloads.sent, answers, strict=True):
        kept = archived.get(event.id)
        counted = types.setdefault(event.type, Counter())
        counted["events"] += 1
        counted["accepted"] += answer == 200
        counted["archived"] += kept == event.body
        counted["failed"] += failing[event.id]
        for queue in handled.get(event.id, []):
            counted[queue] += 1
        if answer != 200:
            wrong.append(f"{event.name}: answered {answer}, must be 200")
        if kept != event.body:
            wrong.append(f"{event.name}: " + ("not in the archive" if kept is None else "archived with other bytes"))
        if failing[event.id]:
            wrong.append(f"{event.name}: left in failed_deliveries")
    _print(show, payloads, types)
    touched = await db.fetchval(QUOTES, since)
    show.print(f"{count(touched, 'quote')} of ours touched by them.", markup=False)
    if failed:
        show.print(dead_letters_table(failed))
    return wrong or ([] if payloads.sent else ["there is no event file in the folder"])


def _print(show: Console, payloads: Payloads, types: dict[str, Counter[str]]) -> None:
    columns = ("events", "accepted", "archived", "customers", "documents", "quotes", "failed")
    made = table("Each event file of the folder", "type", *columns, right=columns)
    for name in sorted(types):
        row(made, name, *(types[name][column] or "" for column in columns))
    total = sum(types.values(), Counter[str]())
    made.add_section()
    row(made, f"{len(types)} types", *(total[column] for column in columns), style="bold")
    show.print(made)
    show.print(
        f"{len(payloads.sent)} events sent, {payloads.renamed} of them under a fresh id because theirs repeats; "
        f"{len(payloads.others)} files are no events. archived: byte for byte; customers, documents, quotes: handled by.",
        markup=False,
    )
