"""`quittance quotes list|show`: what a quote's payment status is, and why."""

from typing import Annotated, Any, Final

import typer

from quittance.cli import output, quote_loading
from quittance.cli.connections import database, database_url
from quittance.cli.filters import Account, AsJson, Mode, Since, Until, livemode, moment, optional
from quittance.cli.preview_page import amounts
from quittance.cli.quote_explanation import explain
from quittance.cli.quote_loading import Quote
from quittance.cli.running import CouldNot, run
from quittance.domain.currencies import exponent
from quittance.domain.tracked import Tracked

LIST: Final = """
SELECT account, livemode, quote_id, status, label, revision, currency, amount_due, amount_captured, amount_refunded,
       amount_lost, dispute_status, subscription_status, anomalies, paid_at, sequence, first_seen_at, changed_at
FROM quotes
WHERE ($1::text IS NULL OR status = $1) AND ($2::text IS NULL OR account = $2)
  AND ($3::boolean IS NULL OR livemode = $3) AND ($4::text IS NULL OR $4 = ANY (anomalies))
  AND ($5::timestamptz IS NULL OR changed_at >= $5) AND ($6::timestamptz IS NULL OR changed_at <= $6)
ORDER BY changed_at DESC, quote_id
LIMIT $7
"""

DOCUMENT_COLUMNS: Final = ("kind", "object_id", "number", "status", "amount", "amount_refunded", "url")

app: Final = typer.Typer(help="Quotes: list, and show why one is in its state.", no_args_is_help=True)


@app.command("list")
def list_(
    *,
    status: Annotated[str | None, typer.Option(help="Only of this status (paid, disputed, …).")] = None,
    anomaly: Annotated[str | None, typer.Option(help="Only with this anomaly (overpaid, foreign_session, …).")] = None,
    account: Account = None,
    mode: Mode = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest change first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List quotes, the one that changed last first. A time is that of the last change."""
    arguments = (
        status,
        account,
        livemode(mode),
        anomaly,
        optional(moment, since),
        optional(moment, until),
        limit + 1,
    )
    rows = run(_list(database_url(), arguments))
    if as_json:
        output.print_json(rows[:limit])
    elif not rows:
        output.say("no quote matches")
    else:
        output.print_table(
            (
                "quote",
                "account",
                "mode",
                "status",
                "label",
                "due",
                "captured",
                "refunded",
                "lost",
                "anomalies",
                "changed",
            ),
            map(_cells, rows[:limit]),
            numbers=("due", "captured", "refunded", "lost"),
        )
    if len(rows) > limit:
        output.note(f"there are more: --limit shows them ({limit} shown)")


async def _list(url: str, arguments: tuple[Any, ...]) -> list[dict[str, Any]]:
    async with database(url) as db:
        return [dict(row.items()) | {"exponent": exponent(row["currency"])} for row in await db.fetch(LIST, *arguments)]


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    return (
        row["quote_id"],
        row["account"],
        output.mode(row["livemode"]),
        row["status"],
        row["label"],
        *amounts(row),
        row["anomalies"],
        row["changed_at"],
    )


@app.command("show")
def show(
    *,
    quote_id: Annotated[str, typer.Argument(metavar="QUOTE_ID", help="The quote's id.")],
    account: Account = None,
    mode: Mode = None,
    as_json: AsJson = False,
) -> None:
    """Show one quote: its status and why, its facts, changes, documents, customer, mails, and what failed of it."""
    quote = run(_load(database_url(), quote_id, account, livemode(mode)))
    if quote is None:
        if as_json:
            output.print_json([])
        output.note(
            f"quittance: there is no quote {quote_id}. What Stripe sent that names it: "
            f"`quittance events list --id {quote_id}`"
        )
        raise typer.Exit(1)
    why = explain(quote)
    if as_json:
        output.print_json(_object(quote, why))
    else:
        _print(quote, why)


async def _load(url: str, quote_id: str, account: str | None, live: bool | None) -> Quote | None:
    async with database(url) as db:
        rows = await quote_loading.find(db, quote_id, account, live)
        if len(rows) > 1:
            found = ", ".join(f"{row['account']} ({output.mode(row['livemode'])})" for row in rows)
            raise CouldNot(f"there are {len(rows)} quotes of that id: {found}; choose with --account and --mode")
        return await quote_loading.load(db, rows[0]) if rows else None


def _object(quote: Quote, why: list[str]) -> dict[str, Any]:
    return {
        "quote_id": quote.row["quote_id"],
        "account": quote.row["account"],
        "livemode": quote.row["livemode"],
        "status": quote.data["status"],
        "why": why,
        "data": quote.data,
        "first_seen_at": quote.row["first_seen_at"],
        "changed_at": quote.row["changed_at"],
        "published": quote.facts.published,
        "recalled": quote.facts.recalled,
        "expired": quote.facts.expired,
        "facts": list(quote.objects.values()),
        "changes": quote.changes,
        "documents": quote.documents,
        "customers": quote.customers,
        "mails": quote.mails,
        "attempts": quote.attempts,
        "coupons": quote.coupons,
        "unpublished": quote.unpublished,
        "failed_deliveries": quote.failed,
    }


def _print(quote: Quote, why: list[str]) -> None:
    data = quote.data
    due, captured, refunded, lost = amounts(data)
    customer = data.get("customer") or {}
    output.say(f"{quote.row['quote_id']}: {data['label']}")
    output.print_fields(
        {
            "status": data["status"],
            "account": f"{quote.row['account']} ({output.mode(quote.row['livemode'])})",
            "number": data["number"],
            "title": quote.row["title"],
            "deal": data["deal_id"],
            "owner": (data["owner"] or {}).get("email"),
            "customer": [part for part in (customer.get("email"), customer.get("stripe_customer_id")) if part],
            "revision": data["revision"],
            "paid at": data["paid_at"],
            "due": due,
            "captured": captured,
            "refunded": refunded,
            "lost": lost,
            "dispute": data["dispute_status"],
            "subscription": data["subscription_status"],
            "anomalies": data["anomalies"],
            "first seen": quote.row["first_seen_at"],
            "changed": quote.row["changed_at"],
        }
    )
    output.heading("why")
    for sentence in why:
        output.say(f"- {sentence}")
    output.heading("facts: what is kept of Stripe's objects")
    output.print_table(("kind", "object", "status", "amount", "ties", "from event"), map(_fact, quote.objects.values()))
    output.heading("changes, each told to the CRM")
    output.print_table(
        ("no.", "at", "from", "to", "changed", "cause"),
        (
            (
                change["sequence"],
                change["changed_at"],
                change["previous"] or "(new)",
                change["status"],
                change["changed"] if change["previous"] else "all",
                f"{change['cause_type']} {change['cause_id']}",
            )
            for change in quote.changes
        ),
        numbers=("no.",),
    )
    _print_section("documents", DOCUMENT_COLUMNS, [_document(row) for row in quote.documents])
    _print_section(
        "customers",
        ("session_id", "email", "stripe_customer_id", "aliases", "request_state", "request_error"),
        quote.customers,
    )
    _print_section("mails", ("kind", "revision", "recipient", "subject", "state", "sent_at", "error"), quote.mails)
    _print_section(
        "attempts to pay",
        ("revision", "attempt", "state", "session_id", "created_at", "expires_at", "due_at", "error"),
        quote.attempts,
    )
    if quote.coupons:
        _print_section("coupons", ("revision", "coupon_id", "state", "due_at", "error"), quote.coupons)
    _print_section("failed deliveries", ("id", "queue", "type", "event_id", "state", "reason", "error"), quote.failed)


def _fact(tracked: Tracked) -> tuple[object, ...]:
    ties = sorted({object_id for _, object_id in tracked.ties})
    event = tracked.key.event_id if tracked.key is not None else None
    amount = None
    if tracked.amount is not None:
        amount = output.money(tracked.amount, tracked.currency, exponent(tracked.currency))
    return tracked.kind, tracked.id, tracked.status, amount, ties, event


def _document(row: dict[str, Any]) -> dict[str, Any]:
    decimals = exponent(row["currency"])
    written = {name: output.money(row[name], row["currency"], decimals) for name in ("amount", "amount_refunded")}
    return row | {name: text for name, text in written.items() if row[name] is not None}


def _print_section(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    output.heading(title)
    if not rows:
        output.say("none")
        return
    output.print_table([name.replace("_", " ") for name in columns], ([row[name] for name in columns] for row in rows))
