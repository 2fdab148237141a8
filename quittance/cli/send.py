"""`quittance send`: event files through the front door, signed as Stripe signs them."""

import asyncio
import os
import random
import secrets
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.progress import Progress

from quittance.cli import event_files, output
from quittance.cli.running import CouldNot, run, usage
from quittance.cli.sending import Outcome, Unreachable, send_all, sender

DEFAULT_PATH = "/webhooks/stripe"


def send(
    *,
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Files of one event, of a JSON array of events, or of one event a line (NDJSON); or folders, whose "
            "*.json, *.ndjson and *.jsonl files are taken (not those of folders within).",
            exists=True,
            readable=True,
        ),
    ],
    url: Annotated[
        str,
        typer.Option(help="Where to post. Default: port $INGEST_PORT, else 8080, of this machine.", show_default=False),
    ] = "",
    secret: Annotated[
        str,
        typer.Option(
            help="The webhook secret to sign with (whsec_…). Default: the first of $STRIPE_WEBHOOK_SECRETS.",
            show_default=False,
        ),
    ] = "",
    times: Annotated[int, typer.Option(min=1, help="How often each event is sent.")] = 1,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Send in random order.")] = False,
    seed: Annotated[
        int | None, typer.Option(help="Makes the random order of --shuffle one that can be repeated.")
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, max=1000, help="Requests at a time. With 1 the order of the files is kept.")
    ] = 8,
    retries: Annotated[
        int, typer.Option(min=0, max=100, help="How often an event is sent again after a 503 (as Retry-After says).")
    ] = 5,
    fresh_ids: Annotated[
        bool,
        typer.Option("--fresh-ids", help="Give each event of the files a new event id (copies of --times share it)."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="List only the events that were not accepted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array: an object for each event.")] = False,
) -> None:
    """Sign event files as Stripe does and post them to ingest.

    Exit 0 only if every event was answered with 200 each time, and every file named is one of events. What is no event
    is named; in a folder it is passed over.
    """
    target = _target(url)
    key = secret.strip() or _first_secret()
    if not key:
        usage("no secret to sign with: give --secret, or set STRIPE_WEBHOOK_SECRETS")
    if seed is not None and not shuffle:
        usage("--seed decides the order of --shuffle, which is not given")
    found, others = event_files.read(files)
    for other in others:
        output.note(f"{other.name} {other.why}")
    if fresh_ids:
        found = [event_files.with_fresh_id(event) for event in found]
    if not found:
        if as_json:
            output.print_json([])
        output.note("quittance: there is no event in what was given")
        raise typer.Exit(1)

    order = [index for _ in range(times) for index in range(len(found))]
    if shuffle:
        seed = secrets.randbelow(1 << 32) if seed is None else seed
        output.note(f"shuffled with --seed {seed}")
        random.Random(seed).shuffle(order)  # noqa: S311 - an order, no secret
    outcomes = run(
        _send([Outcome(event) for event in found], order, target, key, retries=retries, concurrency=concurrency)
    )

    if as_json:
        output.print_json([_row(outcome) for outcome in outcomes])
    else:
        _print(outcomes, times, quiet=quiet)
    if any(outcome.accepted < times for outcome in outcomes) or any(other.named for other in others):
        raise typer.Exit(1)


async def _send(
    outcomes: list[Outcome], order: Sequence[int], url: str, secret: str, *, retries: int, concurrency: int
) -> list[Outcome]:
    with Progress(console=output.err(), transient=True, disable=not output.err().is_terminal) as progress:
        bar = progress.add_task("sending", total=len(order))
        try:
            async with sender(url, secret, retries=retries, concurrency=concurrency) as sending:
                await send_all(sending, outcomes, order, concurrency, lambda: progress.advance(bar))
        except* Unreachable as group:
            why = group.exceptions[0]
            raise CouldNot(f"nothing answers at {url} ({why}): is `python -m ingest` running there?") from None
        except* asyncio.CancelledError:
            raise CouldNot("interrupted") from None
    return outcomes


def _target(url: str) -> str:
    """The address to post to; its path is ingest's where none is given."""
    if not url:
        port = os.environ.get("INGEST_PORT", "").strip() or "8080"
        return f"http://127.0.0.1:{port}{DEFAULT_PATH}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        usage(f"--url must be an http:// or https:// address, not {url!r}")
    return parts._replace(path=DEFAULT_PATH).geturl() if parts.path in ("", "/") else url


def _first_secret() -> str:
    """The first secret that ingest would try, from the same variables."""
    listed = os.environ.get("STRIPE_WEBHOOK_SECRETS", "").split(",")
    if first := next((secret.strip() for secret in listed if secret.strip()), ""):
        return first
    file = os.environ.get("STRIPE_WEBHOOK_SECRETS_FILE", "").strip()
    try:
        lines = Path(file).read_text().splitlines() if file else []
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"STRIPE_WEBHOOK_SECRETS_FILE cannot be read: {error}") from error
    return next((line.strip() for line in lines if line.strip() and not line.startswith("#")), "")


def _row(outcome: Outcome) -> dict[str, Any]:
    """One event's outcome for programs; `status` is that of the worst time, null where there was no answer."""
    worst = outcome.worst
    return {
        "file": str(outcome.event.file),
        "number": outcome.event.number or None,
        "event_id": outcome.event.id,
        "type": outcome.event.type,
        "sent": len(outcome.attempts),
        "accepted": outcome.accepted,
        "status": worst.status,
        "requests": sum(attempt.requests for attempt in outcome.attempts),
        "seconds": round(worst.seconds, 4),
        "error": worst.error or None,
    }


def _print(outcomes: Sequence[Outcome], times: int, *, quiet: bool) -> None:
    shown = [outcome for outcome in outcomes if not quiet or outcome.accepted < times]
    if shown:
        output.print_table(
            ("file", "event", "type", "answer", "ms", "requests", ""), map(_cells, shown), numbers=("ms",)
        )
    answers = Counter(attempt.status for outcome in outcomes for attempt in outcome.attempts)
    told = ", ".join(f"{number} x {status or 'no answer'}" for status, number in answers.most_common())
    sent = answers.total()
    output.say(f"{output.count(len(outcomes), 'event')}, sent {output.count(sent, 'time')}: {told}")


def _cells(outcome: Outcome) -> tuple[object, ...]:
    worst = outcome.worst
    answer = worst.status or "no answer"
    if len(outcome.attempts) > 1:
        answer = f"{outcome.accepted} x 200" + ("" if worst.status == 200 else f", {answer}")
    requests = sum(attempt.requests for attempt in outcome.attempts)
    error = worst.error[:120]
    return (
        outcome.event.name,
        outcome.event.id,
        outcome.event.type,
        answer,
        f"{worst.seconds * 1000:.1f}",
        requests,
        error,
    )
