"""`quittance dead-letters replay`: previewed, throttled, watched to its end."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, NoReturn

import msgspec
import typer
from rich.progress import Progress

from quittance.cli import changes, output, replaying
from quittance.cli.connections import database, database_url
from quittance.cli.dead_letters import ASK_FROM
from quittance.cli.filters import Account, Actor, AsJson, Mode, Since, Until, Yes, livemode, moment, optional
from quittance.cli.preview import LIMIT, Delivery, Preview, Step, what_would_happen
from quittance.cli.preview_page import print_changes, print_mails, print_preview
from quittance.cli.running import CouldNot, acting, confirmed, run, usage
from quittance.cli.selection import (
    Fingerprint,
    Ids,
    QueueName,
    Quote,
    ReasonName,
    Selection,
    States,
    Type,
    matching,
    state_names,
)
from quittance.errors import Rejected
from quittance.locks import Connection

PREVIEW_ID: Final = "preview"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """How a replay is to go. `rate` per second; `patience` in seconds without any end reached."""

    rate: float
    limit: int | None
    patience: float
    actor: str
    note: str
    yes: bool
    wait: bool


def replay(
    *,
    ids: Ids = None,
    queue: QueueName = None,
    type_: Type = None,
    reason: ReasonName = None,
    quote: Quote = None,
    fingerprint: Fingerprint = None,
    account: Account = None,
    mode: Mode = None,
    since: Since = None,
    until: Until = None,
    state: States = None,
    everything: Annotated[bool, typer.Option("--all", help="All of that state: where nothing else is chosen.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, newest first.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would happen (statuses, CRM events, mails) and change nothing."),
    ] = False,
    rate: Annotated[float, typer.Option(min=0.01, max=10_000, help="At most so many a second, oldest first.")] = 50.0,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end of each, and report it.")] = True,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds without any end reached, after which waiting is given up.")
    ] = 60.0,
    note: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    yes: Yes = False,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Send dead letters to their queues again; their handlers run, whatever was handled before.

    Effects stay single: each has a key of its own. What succeeds is resolved; what fails is dead again, its history
    kept. Exit 0 only if all of them succeeded. Ctrl-C takes back what was not sent yet.

    A preview reads STRIPE_API_KEY, MAIL_TO, ADOPT_UNPUBLISHED, QUOTE_ID_PATTERN, PUBLIC_URL, CURRENCY_POLICY and
    REPLY_TO_PATTERN as workers do: run it with theirs.
    """
    selection = Selection(
        ids=ids or [],
        states=state_names(state, replaying.REPLAYABLE if ids else ("dead",)),
        queue=queue,
        type=type_,
        reason=reason,
        quote=quote,
        fingerprint=fingerprint,
        account=account,
        livemode=livemode(mode),
        since=optional(moment, since),
        until=optional(moment, until),
    )
    if not selection.restricts and not everything:
        usage("say which: ids, a filter, or --all")
    if "resolved" in selection.states:
        usage("what is resolved has been handled; `quittance events replay` runs the handlers of any event again")
    if dry_run:
        preview = run(_preview(database_url(), selection, limit))
        if as_json:
            output.print_json(preview)
        else:
            print_preview(preview)
        return
    order = Order(rate=rate, limit=limit, patience=timeout, actor=acting(actor), note=note.strip(), yes=yes, wait=wait)
    report = run(_replay(database_url(), selection, order))
    if as_json:
        output.print_json(report)
    else:
        _print(report, waited=wait)
    if wait and report["resolved"] < len(report["deliveries"]):
        raise typer.Exit(1)


async def _chosen(db: Connection, selection: Selection, limit: int | None) -> list[int]:
    ids = await matching(db, selection, limit)
    if (missing := sorted(set(selection.ids) - set(ids))) and limit is None:
        raise CouldNot(f"not there, not chosen by the filters, or resolved: {', '.join(map(str, missing))}")
    return ids


async def _preview(url: str, selection: Selection, limit: int | None) -> Preview:
    async with database(url) as db:
        ids = await _chosen(db, selection, limit)
        if len(ids) > LIMIT:
            raise CouldNot(
                f"a preview takes {LIMIT} deliveries at most, and {len(ids)} are chosen: narrow the filter, or --limit"
            )
        deliveries, unreadable = _deliveries(await replaying.load(db, ids))
        preview = await what_would_happen(db, deliveries)
        preview.steps += unreadable
        return preview


def _deliveries(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Delivery], list[Step]]:
    """What a preview can run, and the steps of what is no event of ours."""
    deliveries: list[Delivery] = []
    unreadable: list[Step] = []
    for row in rows:
        try:
            deliveries.append(Delivery(row["queue"], replaying.event_of_row(row, PREVIEW_ID)))
        except Rejected as error:
            step = Step(
                queue=row["queue"],
                event_id=row["event_id"],
                type=row["type"],
                account=row["account"],
                livemode=row["livemode"],
                outcome="fails",
                reason=error.reason,
                error=error.detail,
            )
            unreadable.append(step)
    return deliveries, unreadable


async def _replay(url: str, selection: Selection, order: Order) -> dict[str, Any]:
    async with database(url) as db:
        ids = await _chosen(db, selection, order.limit)
        if len(ids) >= ASK_FROM:
            confirmed(f"Replay {len(ids)} failed deliveries, {order.rate:g} a second?", yes=order.yes)
        if not ids:
            return _report("", [], changes.Changed([], []))
        rows = await replaying.load(db, ids)
        marked = await replaying.mark(db, ids, order.rate, order.actor, order.note)
        output.note(f"replay {marked.replay_id}: {output.count(len(marked.ids), 'delivery', 'deliveries')}")
        if not order.wait:
            return _report(marked.replay_id, await replaying.ends(db, marked), changes.Changed([], []))
        await _watch(db, marked, order)
        ends = await replaying.ends(db, marked)
        events = [delivery.event for delivery in _deliveries(rows)[0]]
        return _report(marked.replay_id, ends, await changes.since(db, events, marked.at))


async def _watch(db: Connection, marked: replaying.Marked, order: Order) -> None:
    with Progress(console=output.err(), transient=True, disable=not output.err().is_terminal) as progress:
        bar = progress.add_task("replaying", total=len(marked.ids))
        try:
            # What is staggered over an hour has no end to show before its time.
            await replaying.watch(
                db, marked, order.patience + 1 / order.rate, lambda ended: progress.update(bar, completed=ended)
            )
        except asyncio.CancelledError:
            await _stopped(db, marked, order)


async def _stopped(db: Connection, marked: replaying.Marked, order: Order) -> NoReturn:
    stopped = await replaying.stop(db, marked, order.actor)
    raise CouldNot(
        f"stopped: {stopped} of {len(marked.ids)} were taken back before they were sent, and are dead letters again"
    )


def _report(replay_id: str, ends: list[dict[str, Any]], changed: changes.Changed) -> dict[str, Any]:
    """The answer of a replay for programs."""
    states = Counter("under way" if end["under_way"] else end["state"] for end in ends)
    stuck = any(end.pop("waiting") and end["under_way"] for end in ends)
    return {
        "replay_id": replay_id,
        "resolved": states["resolved"],
        "states": dict(states),
        "stuck_in_relay": stuck,
        "deliveries": ends,
        "status_changes": changed.status_changes,
        "mails": changed.mails,
    }


def _print(report: dict[str, Any], *, waited: bool) -> None:
    ends = report["deliveries"]
    if not ends:
        output.say("no failed delivery matches: nothing was replayed")
        return
    if not waited:
        output.say(f"{output.count(len(ends), 'delivery', 'deliveries')} handed to the relay: see `dead-letters list`")
        return
    shown = ends if len(ends) <= ASK_FROM else [end for end in ends if end["state"] != "resolved"]
    if shown:
        output.print_table(("id", "queue", "event", "type", "now", "error"), map(_end, shown), numbers=("id",))
    print_changes(report["status_changes"])
    print_mails(report["mails"])
    output.say("")
    told = ", ".join(f"{number} {state}" for state, number in sorted(report["states"].items()))
    output.say(f"replay {report['replay_id']}: {told}")
    if report["stuck_in_relay"]:
        output.note("the relay has not sent what is due: is `python -m workers relay` running? See `quittance doctor`.")
    elif report["states"].get("under way"):
        output.note("what is under way is in its queue: is its worker running? See `quittance doctor`.")


def _end(end: Mapping[str, Any]) -> tuple[object, ...]:
    now = "under way" if end["under_way"] else end["state"]
    error = "" if end["state"] == "resolved" or end["under_way"] else f"{end['reason']}: {end['error'][:100]}"
    return end["id"], end["queue"], end["event_id"], end["type"], now, error
