"""`quittance tokens create|list|revoke`: who may call the quotes API. A token is shown once, when it is made."""

from typing import Annotated, Any, Final

import typer

from quittance.cli import output
from quittance.cli.connections import database, database_url
from quittance.cli.filters import Account, AsJson, Mode, livemode
from quittance.cli.running import CouldNot, run, usage
from quittance.tokens import PERMISSIONS, SHOWN, new_token, token_hash

CREATE: Final = """
INSERT INTO api_tokens (token_hash, prefix, account, livemode, permissions, note)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING id, prefix, account, livemode, permissions, note, created_at, revoked_at
"""
LIST: Final = """
SELECT id, prefix, account, livemode, permissions, note, created_at, revoked_at FROM api_tokens
WHERE ($1::text IS NULL OR account = $1) AND ($2::boolean IS NULL OR livemode = $2) AND ($3 OR revoked_at IS NULL)
ORDER BY id
"""
# Revoked again it keeps its first time.
REVOKE: Final = """
UPDATE api_tokens SET revoked_at = coalesce(revoked_at, now()) WHERE id = ANY($1::bigint[])
RETURNING id, prefix, account, livemode, permissions, note, created_at, revoked_at
"""

app: Final = typer.Typer(help="Tokens of the quotes API: create, list, revoke.", no_args_is_help=True)


@app.command("create")
def create(
    *,
    account: Annotated[str, typer.Option(help="The Stripe account (acct_…, or `self`) that it acts for, and sees.")],
    permission: Annotated[
        list[str],
        typer.Option(help=f"What it may: {', '.join(PERMISSIONS)}. Several: repeat it, or put commas between."),
    ],
    live: Annotated[bool, typer.Option("--live", help="For live mode; else for test mode. Never for both.")] = False,
    note: Annotated[str, typer.Option(help="Whose it is, and what for.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a token and print it on stdout, this once: only its hash is kept."""
    wanted = {name.strip() for each in permission for name in each.split(",")}
    if unknown := sorted(wanted - set(PERMISSIONS)):
        usage(f"--permission is one of {', '.join(PERMISSIONS)}, not {', '.join(unknown)}")
    if not account.strip() or not account.strip().isascii() or len(account.strip()) > 255:
        usage("--account is a Stripe account (acct_…), or `self`")
    token = new_token(live)
    granted: list[str] = [name for name in PERMISSIONS if name in wanted]
    fields = (token_hash(token), token[:SHOWN], account.strip(), live, granted, note.strip())
    row = run(_create(database_url(), fields))
    if as_json:
        output.print_json(row | {"token": token})
        return
    output.say(token)
    output.note(
        f"token {row['id']} for account {row['account']}, {output.mode(live)} mode: {', '.join(granted)}. "
        "It is not shown again."
    )


async def _create(url: str, fields: tuple[Any, ...]) -> dict[str, Any]:
    async with database(url) as db:
        (row,) = await db.fetch(CREATE, *fields)
        return dict(row)


@app.command("list")
def list_(
    *,
    account: Account = None,
    mode: Mode = None,
    revoked: Annotated[bool, typer.Option("--revoked", help="Also those that were revoked.")] = False,
    as_json: AsJson = False,
) -> None:
    """List tokens: what they may and what they begin with, never the tokens."""
    rows = run(_list(database_url(), account, livemode(mode), revoked))
    if as_json:
        output.print_json(rows)
    elif not rows:
        output.say("there is no token")
    else:
        output.print_table(
            ("id", "begins with", "account", "mode", "permissions", "created", "revoked", "note"),
            (
                (
                    row["id"],
                    row["prefix"],
                    row["account"],
                    output.mode(row["livemode"]),
                    row["permissions"],
                    row["created_at"],
                    row["revoked_at"],
                    row["note"],
                )
                for row in rows
            ),
            numbers=("id",),
        )


async def _list(url: str, account: str | None, live: bool | None, revoked: bool) -> list[dict[str, Any]]:
    async with database(url) as db:
        return [dict(row) for row in await db.fetch(LIST, account, live, revoked)]


@app.command("revoke")
def revoke(
    *,
    ids: Annotated[list[int], typer.Argument(metavar="ID…", help="As `list` shows them.")],
    as_json: AsJson = False,
) -> None:
    """Revoke tokens: from the next request on they are refused."""
    rows = run(_revoke(database_url(), ids))
    if as_json:
        output.print_json(rows)
    else:
        output.say(f"{output.count(len(rows), 'token')} revoked")


async def _revoke(url: str, ids: list[int]) -> list[dict[str, Any]]:
    async with database(url) as db, db.transaction():
        rows = [dict(row) for row in await db.fetch(REVOKE, ids)]
        if missing := sorted(set(ids) - {row["id"] for row in rows}):
            raise CouldNot(f"there is no token {', '.join(map(str, missing))}; nothing was revoked")
        return rows
