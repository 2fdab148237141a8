"""`quittance events list|show`: the archive of everything that Stripe has sent. Replay has its own module."""

from typing import Annotated, Any, Final

import typer

from quittance.cli import archive, output
from quittance.cli.archive import Search
from quittance.cli.connections import database, database_url
from quittance.cli.filters import Account, AsJson, Mode, Since, Until, livemode, moment, optional
from quittance.cli.preview import taking_stripe
from quittance.cli.running import CouldNot, run

LISTED: Final = ("event_id", "type", "account", "livemode", "created", "received_at", "api_version", "bytes")

app: Final = typer.Typer(help="Everything that Stripe has sent: list, show, replay.", no_args_is_help=True)

EventType = Annotated[
    str | None, typer.Option("--type", help="Only events of this type; `charge.*` takes all that begin so.")
]
AnyId = Annotated[str | None, typer.Option("--id", help="Only events that hold this Stripe id or quote id.")]
OfQuote = Annotated[
    str | None, typer.Option("--quote", help="Only events of this quote, also those that reach it through a charge.")
]


@app.command("list")
def list_(
    *,
    type_: EventType = None,
    any_id: AnyId = None,
    quote: OfQuote = None,
    account: Account = None,
    mode: Mode = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List archived events, newest first by the time that Stripe gives them."""
    search = Search(
        type=type_,
        any_id=any_id,
        quote=quote,
        account=account,
        livemode=livemode(mode),
        since=optional(moment, since),
        until=optional(moment, until),
    )
    rows = run(_find(database_url(), search, limit + 1))
    shown = [{name: row[name] for name in LISTED} for row in rows[:limit]]
    if as_json:
        output.print_json(shown)
    elif not shown:
        output.say("no archived event matches")
    else:
        output.print_table(
            ("created", "event", "type", "account", "mode", "API version", "bytes"),
            (
                (
                    row["created"],
                    row["event_id"],
                    row["type"],
                    row["account"],
                    output.mode(row["livemode"]),
                    row["api_version"],
                    row["bytes"],
                )
                for row in shown
            ),
            numbers=("bytes",),
        )
    if len(rows) > limit:
        output.note(f"there are more: --limit shows them ({limit} shown)")


async def _find(url: str, search: Search, limit: int) -> list[dict[str, Any]]:
    async with database(url) as db:
        return await archive.find(db, search, limit)


@app.command("show")
def show(
    *,
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The event's id, evt_…")],
    account: Account = None,
    mode: Mode = None,
    body: Annotated[bool, typer.Option("--body", help="Print the event's bytes too: they hold personal data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one archived event: what it is about, which queues have handled it, what failed, what it changed."""
    row = run(_show(database_url(), Search(event_ids=[event_id], account=account, livemode=livemode(mode))))
    if row is None:
        if as_json:
            output.print_json([])
        output.note(f"quittance: the archive has no event {event_id}")
        raise typer.Exit(1)
    if not body:
        del row["body"]
    if as_json:
        output.print_json(row)
        return
    _print(row)


async def _show(url: str, search: Search) -> dict[str, Any] | None:
    async with database(url) as db:
        rows = await archive.find(db, search, 10)
        if not rows:
            return None
        if len(rows) > 1:
            found = ", ".join(f"{row['account']} ({output.mode(row['livemode'])})" for row in rows)
            raise CouldNot(f"that id is there {len(rows)} times: {found}; choose with --account and --mode")
        row = rows[0]
        del row["seconds"]
        row["queues"] = taking_stripe(row["type"])
        row["body"] = output.text_of(row["body"])
        return row | await archive.fate(db, row)


def _print(row: dict[str, Any]) -> None:
    handled, failed, caused = (row.pop(name) for name in ("handled", "failed", "caused"))
    body = row.pop("body", None)
    row["livemode"] = output.mode(row["livemode"])
    row["queues"] = row["queues"] or "no worker uses it: archived only"
    output.print_fields({name.replace("_", " "): value for name, value in row.items()})
    output.heading("handled by")
    if handled:
        output.print_table(("queue", "at"), ((entry["queue"], entry["handled_at"]) for entry in handled))
    else:
        output.say("no queue that the inbox still knows of (40 days)")
    if failed:
        output.heading("failed")
        output.print_table(
            ("id", "queue", "state", "reason", "attempts", "error"),
            (
                (entry["id"], entry["queue"], entry["state"], entry["reason"], entry["attempts"], entry["error"][:100])
                for entry in failed
            ),
            numbers=("id", "attempts"),
        )
    if caused:
        output.heading("status changes that it caused")
        output.print_table(
            ("quote", "no.", "from", "to", "label", "at"),
            (
                (
                    entry["quote_id"],
                    entry["sequence"],
                    entry["previous"] or "(new)",
                    entry["status"],
                    entry["label"],
                    entry["changed_at"],
                )
                for entry in caused
            ),
            numbers=("no.",),
        )
    if body is not None:
        output.heading("body")
        output.say(body)
