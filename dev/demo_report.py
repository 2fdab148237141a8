"""How the demo shows what happened: tables for people."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dev.crm import Crm
from dev.demo_checks import Found, Row
from dev.demo_scenario import Scenario
from dev.mailbox import Mail
from quittance.cli.output import clean, count

COLOURS = {"paid": "green", "refunded": "yellow", "partially_refunded": "yellow", "disputed": "red"}


def console() -> Console:
    """The terminal; wide enough for the tables where the output is a file."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(width=150, highlight=False)


def table(title: str, *columns: str, right: Iterable[str] = ()) -> Table:
    """A table with that title; the columns named in `right` hold numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    numbers = set(right)
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return made


def row(into: Table, *cells: object, style: str = "") -> None:
    """Add a row. What came from outside may not speak to the terminal."""
    into.add_row(*(Text(clean("" if cell is None else str(cell))) for cell in cells), style=style)


def money(amount: int | None, currency: str | None) -> str:
    """Minor units of a currency with two decimals, as all of the demo's are."""
    return "unknown" if amount is None else f"{Decimal(amount) / 100:,.2f} {(currency or '').upper()}".strip()


def quotes_table(scenario: Scenario, found: Found) -> Table:
    """What each quote became."""
    columns = ("quote", "life, payload", "status", "label", "captured", "refunded", "documents", "customer")
    made = table("What each quote became", *columns, right=("captured", "refunded"))
    for told in scenario.lives:
        quote_id = told.purchase.quote_id
        life = f"{told.name}, {told.purchase.shape}"
        quote = found.quotes.get(quote_id)
        if quote is None:
            row(made, quote_id, life, "missing", style="red")
            continue
        state, currency = str(quote["status"]), quote["currency"]
        row(
            made,
            quote_id,
            life,
            _status(quote),
            quote["label"],
            money(quote["amount_captured"], currency),
            money(quote["amount_refunded"], currency) if quote["amount_refunded"] else "",
            "\n".join(_document(each) for each in found.documents[quote_id]),
            _customer(quote["data"].get("customer")),
            style=COLOURS.get(state, ""),
        )
    return made


def _status(quote: Row) -> str:
    beside = {"dispute": quote["dispute_status"], "subscription": quote["subscription_status"]}
    return "\n".join([str(quote["status"]), *(f"{name} {state}" for name, state in beside.items() if state)])


def _document(document: Row) -> str:
    number = f" {document['number']}" if document["number"] else ""
    return f"{document['kind']}{number} ({document['status']})"


def _customer(customer: Any) -> str:
    if not isinstance(customer, dict):
        return ""
    return "\n".join(str(value) for value in customer.values() if value)


def crm_table(scenario: Scenario, crm: Crm) -> Table:
    """What the CRM received, change by change."""
    made = table("What the CRM received", "quote", "sequence and status, in order of arrival", "last label")
    for told in scenario.lives:
        changes = crm.quotes.get(told.purchase.quote_id, [])
        steps = " → ".join(f"{change.sequence} {change.data['status']}" for change in changes)
        row(made, told.purchase.quote_id, steps, changes[-1].data["label"] if changes else "")
    return made


def mails_table(mails: Sequence[Mail]) -> Table:
    """The mails that were sent."""
    made = table("The mails", "to", "subject")
    for mail in mails:
        row(made, ", ".join(mail.recipients), mail.subject)
    return made


def dead_letters_table(failed: Sequence[Row]) -> Table:
    """What became a dead letter, or waits to be tried again."""
    made = table("Dead letters", "queue", "event", "type", "state", "reason", "error")
    for each in failed:
        error = str(each["error"]).splitlines() or [""]
        row(made, each["queue"], each["event_id"], each["type"], each["state"], each["reason"], error[0][:90])
    return made


def verdict(to: Console, wrong: Sequence[str], right: str) -> None:
    """Say that all is right, or name each difference."""
    if not wrong:
        to.print(Text(f"✔ {right}", style="bold green"))
        return
    to.print(Text(f"✘ {count(len(wrong), 'thing')} not as it should be:", style="bold red"))
    for text in wrong:
        to.print(Text(f"  - {clean(text)}", style="red"))
