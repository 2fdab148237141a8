"""`quittance dead-letters list|show|discard`: what failed, why, and what was done about it. Replay has its own module."""

import json
from typing import Annotated, Any, Final

import typer

from quittance.cli import output
from quittance.cli.connections import database, database_url
from quittance.cli.filters import Account, Actor, AsJson, Mode, Since, Until, Yes, livemode, moment, optional
from quittance.cli.reasons import advice
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
    plain,
    state_names,
)

GROUPS: Final = ("fingerprint", "reason", "type", "queue", "quote")

# From this many on, a person at a terminal is asked.
ASK_FROM: Final = 20

LIST: Final = """
SELECT id, queue, account, livemode, event_id, type, quote_id, state, reason, error, fingerprint, attempts,
       first_failed_at, last_failed_at, next_at
FROM failed_deliveries WHERE id = ANY ($1::bigint[])
ORDER BY last_failed_at DESC, id DESC
"""
GROUP: Final = """
SELECT CASE $2 WHEN 'fingerprint' THEN fingerprint WHEN 'reason' THEN reason WHEN 'type' THEN type
               WHEN 'queue' THEN queue ELSE coalesce(quote_id, '') END AS name,
       count(*) AS deliveries, count(DISTINCT (account, livemode, event_id)) AS events,
       array_agg(DISTINCT queue) AS queues, array_agg(DISTINCT reason) AS reasons, array_agg(DISTINCT type) AS types,
       min(first_failed_at) AS first_failed_at, max(last_failed_at) AS last_failed_at,
       (array_agg(id ORDER BY last_failed_at DESC))[1] AS newest_id,
       (array_agg(error ORDER BY last_failed_at DESC))[1] AS newest_error
FROM failed_deliveries WHERE id = ANY ($1::bigint[])
GROUP BY 1 ORDER BY deliveries DESC, name
"""
SHOW: Final = """
SELECT id, queue, account, livemode, event_id, type, quote_id, state, reason, error, traceback, fingerprint, attempts,
       first_failed_at, last_failed_at, next_at, replay_id, headers::text AS headers, length(body) AS bytes, body
FROM failed_deliveries WHERE id = $1
"""
HISTORY: Final = """
SELECT at, actor, action, note FROM failed_delivery_history WHERE failed_delivery_id = $1 ORDER BY id
"""
# Nobody waits for it any more; what is under way (replaying) is not ours to give up.
DISCARD: Final = """
WITH discarded AS (
    UPDATE failed_deliveries SET state = 'discarded', next_at = NULL
    WHERE id = ANY ($1::bigint[]) AND state IN ('dead', 'retrying')
    RETURNING id
), noted AS (
    INSERT INTO failed_delivery_history (failed_delivery_id, actor, action, note)
    SELECT id, $2, 'discarded', $3 FROM discarded
)
SELECT id FROM discarded
"""

app: Final = typer.Typer(help="What failed: list, show, replay, discard.", no_args_is_help=True)


@app.command("list")
def list_(
    *,
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
    group_by: Annotated[
        str | None, typer.Option(help="One line for each: fingerprint (one cause), reason, type, queue, quote.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many lines, newest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List failed deliveries, newest first; those that are dead unless --state says otherwise.

    A time is that of the last failure.
    """
    if group_by is not None and group_by not in GROUPS:
        usage(f"--group-by is one of {', '.join(GROUPS)}, not {group_by!r}")
    selection = Selection(
        states=state_names(state, ("dead",)),
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
    rows, more = run(_list(database_url(), selection, group_by, limit))
    if as_json:
        output.print_json(rows)
    elif not rows:
        output.say("no failed delivery matches")
    elif group_by is not None:
        _print_groups(group_by, rows)
    else:
        _print_list(rows, with_state=selection.states != ("dead",))
    if more:
        output.note(f"there are more: --limit shows them, --group-by sums them up ({limit} shown)")


async def _list(url: str, selection: Selection, group_by: str | None, limit: int) -> tuple[list[dict[str, Any]], bool]:
    async with database(url) as db:
        if group_by is None:
            ids = await matching(db, selection, limit + 1)
            rows = await db.fetch(LIST, ids[:limit])
            return [plain(row) for row in rows], len(ids) > limit
        rows = await db.fetch(GROUP, await matching(db, selection, None), group_by)
        groups = [{group_by: row["name"]} | {key: row[key] for key in row.keys() if key != "name"} for row in rows]  # noqa: SIM118
        return groups[:limit], len(groups) > limit


def _print_list(rows: list[dict[str, Any]], *, with_state: bool) -> None:
    columns = ["id", "queue", "event", "type", "quote", "reason", "attempts", "last failed", "error"]
    if with_state:
        columns.insert(1, "state")
    output.print_table(columns, (_cells(row, with_state=with_state) for row in rows), numbers=("id", "attempts"))


def _cells(row: dict[str, Any], *, with_state: bool) -> list[object]:
    cells: list[object] = [
        row["id"],
        row["queue"],
        row["event_id"],
        row["type"],
        row["quote_id"],
        row["reason"],
        row["attempts"],
        row["last_failed_at"],
        row["error"][:100],
    ]
    if with_state:
        cells.insert(1, row["state"])
    return cells


def _print_groups(group_by: str, rows: list[dict[str, Any]]) -> None:
    output.print_table(
        (group_by, "deliveries", "events", "queues", "reasons", "first failed", "last failed", "newest", "its error"),
        (
            (
                row[group_by] or "-",
                row["deliveries"],
                row["events"],
                row["queues"],
                row["reasons"],
                row["first_failed_at"],
                row["last_failed_at"],
                row["newest_id"],
                row["newest_error"][:80],
            )
            for row in rows
        ),
        numbers=("deliveries", "events", "newest"),
    )


@app.command("show")
def show(
    *,
    id_: Annotated[int, typer.Argument(metavar="ID", help="The id, as `list` shows it.", min=1)],
    body: Annotated[bool, typer.Option("--body", help="Print the event's bytes too: they hold personal data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one failed delivery: why it failed, where in the code, what was done about it, and what helps."""
    row = run(_show(database_url(), id_))
    if row is None:
        if as_json:
            output.print_json([])
        output.note(f"quittance: there is no failed delivery {id_}")
        raise typer.Exit(1)
    if not body:
        del row["body"]
    if as_json:
        output.print_json(row)
        return
    history, traceback, text = row.pop("history"), row.pop("traceback"), row.pop("body", None)
    headers = row.pop("headers")
    row["livemode"] = output.mode(row["livemode"])
    output.print_fields({name.replace("_", " "): value for name, value in row.items()})
    output.say("")
    output.say(advice(row["reason"], row["state"], id_))
    output.heading("headers")
    output.print_fields(headers)
    output.heading("history")
    output.print_table(("at", "who", "did", "note"), ([entry[key] for key in entry] for entry in history))
    if traceback:
        output.heading("traceback")
        output.say(traceback)
    if text is not None:
        output.heading("body")
        output.say(text)


async def _show(url: str, id_: int) -> dict[str, Any] | None:
    async with database(url) as db:
        row = await db.fetchrow(SHOW, id_)
        if row is None:
            return None
        found = plain(row)
        found["headers"] = json.loads(row["headers"])
        found["body"] = output.text_of(row["body"])
        found["history"] = [plain(entry) for entry in await db.fetch(HISTORY, id_)]
        return found


@app.command("discard")
def discard(
    *,
    ids: Ids = None,
    note: Annotated[str, typer.Option(help="Why nobody needs it: kept in the history.")],
    queue: QueueName = None,
    type_: Type = None,
    reason: ReasonName = None,
    quote: Quote = None,
    fingerprint: Fingerprint = None,
    since: Since = None,
    until: Until = None,
    state: States = None,
    everything: Annotated[bool, typer.Option("--all", help="All of that state: where nothing else is chosen.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be discarded, and change nothing.")
    ] = False,
    yes: Yes = False,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Give failed deliveries up, with a note. The rows and their history stay; a replay can still take them up."""
    if not note.strip():
        usage("--note must say why")
    selection = Selection(
        ids=ids or [],
        states=state_names(state, ("dead",)) if not ids or state else ("dead", "retrying"),
        queue=queue,
        type=type_,
        reason=reason,
        quote=quote,
        fingerprint=fingerprint,
        since=optional(moment, since),
        until=optional(moment, until),
    )
    if not selection.restricts and not everything:
        usage("say which: ids, a filter, or --all")
    if unsuitable := set(selection.states) - {"dead", "retrying"}:
        usage(f"only what is dead or retrying can be discarded, not what is {', '.join(sorted(unsuitable))}")
    rows = run(_discard(database_url(), selection, note.strip(), acting(actor), dry_run=dry_run, yes=yes))
    if as_json:
        output.print_json(rows)
        return
    if rows:
        _print_list(rows, with_state=True)
    output.say(f"{output.count(len(rows), 'failed delivery', 'failed deliveries')} {'would be ' * dry_run}discarded")


async def _discard(
    url: str, selection: Selection, note: str, actor: str, *, dry_run: bool, yes: bool
) -> list[dict[str, Any]]:
    async with database(url) as db:
        ids = await matching(db, selection, None)
        if missing := sorted(set(selection.ids) - set(ids)):
            raise CouldNot(f"not there, or neither dead nor retrying: {', '.join(map(str, missing))}")
        if not dry_run:
            if len(ids) >= ASK_FROM:
                confirmed(f"Discard {len(ids)} failed deliveries?", yes=yes)
            done = await db.fetch(DISCARD, ids, actor, note)
            ids = [row["id"] for row in done]
        return [plain(row) for row in await db.fetch(LIST, ids)]
