"""`quittance accounts list`: the Stripe accounts that are, or were, connected, and whether they take payments."""

from typing import Any, Final

import typer

from quittance.cli import output
from quittance.cli.connections import database, database_url
from quittance.cli.filters import Account, AsJson, Mode, livemode
from quittance.cli.running import run

LIST: Final = """
SELECT account, livemode, name, country, charges_enabled, connected_at, deauthorised_at, first_seen_at, changed_at
FROM accounts
WHERE ($1::text IS NULL OR account = $1) AND ($2::boolean IS NULL OR livemode = $2)
ORDER BY account, livemode
"""
PAYMENTS: Final = {None: "not known", True: "yes", False: "no"}

app: Final = typer.Typer(help="Stripe accounts: who is connected.", no_args_is_help=True)


@app.callback()
def accounts() -> None:
    """Keep `list` a command of its own while it is the only one."""


@app.command("list")
def list_(*, account: Account = None, mode: Mode = None, as_json: AsJson = False) -> None:
    """List accounts: since when each is connected, and whether Stripe lets it take payments (R4)."""
    rows = run(_list(database_url(), account, livemode(mode)))
    if as_json:
        output.print_json(rows)
    elif not rows:
        output.say("nothing is known of any account")
    else:
        output.print_table(
            ("account", "mode", "name", "country", "takes payments", "connected", "disconnected"),
            (
                (
                    row["account"],
                    output.mode(row["livemode"]),
                    row["name"],
                    row["country"],
                    PAYMENTS[row["charges_enabled"]],
                    row["connected_at"],
                    row["deauthorised_at"],
                )
                for row in rows
            ),
        )


async def _list(url: str, account: str | None, live: bool | None) -> list[dict[str, Any]]:
    async with database(url) as db:
        return [dict(row) for row in await db.fetch(LIST, account, live)]
