"""The command line, `quittance`: for the people who run it. Nothing imports this package; it may import `workers`."""

from typing import Final

import typer

from quittance.cli import (
    accounts,
    dead_letters,
    dead_letters_replay,
    doctor,
    events,
    events_replay,
    init,
    quotes,
    send,
    tokens,
)

app: Final = typer.Typer(
    name="quittance",
    help="Stripe payments of published quotes, told to the CRM exactly and in order.",
    epilog="Every command takes --json: one JSON array or object on stdout. Exit 0: done; 1: could not; 2: used wrongly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("send")(send.send)
app.command("doctor")(doctor.doctor)
dead_letters.app.command("replay")(dead_letters_replay.replay)
events.app.command("replay")(events_replay.replay)
app.add_typer(accounts.app, name="accounts")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(events.app, name="events")
app.add_typer(quotes.app, name="quotes")
app.add_typer(tokens.app, name="tokens")


def main() -> None:
    """Entry point of the `quittance` program."""
    app()
