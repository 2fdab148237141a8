"""`quittance events replay`: archived events to their workers again, as after a bug was mended."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import uuid4

import msgspec
import typer
from rich.progress import Progress

from quittance import broker, wire
from quittance.broker import STRIPE_EVENTS, BrokerAway, NotTaken
from quittance.cli import archive, changes, output
from quittance.cli.archive import Search
from quittance.cli.connections import both_urls, database, database_url
from quittance.cli.events import AnyId, EventType, OfQuote
from quittance.cli.filters import Account, Actor, AsJson, Mode, Since, Until, Yes, livemode, moment, optional
from quittance.cli.preview import LIMIT, Delivery, Preview, fed_by_stripe, taking, taking_stripe, what_would_happen
from quittance.cli.preview_page import print_changes, print_mails, print_preview
from quittance.cli.running import CouldNot, acting, confirmed, run, usage
from quittance.locks import Connection

ASK_FROM: Final = 20
CONFIRM_TIMEOUT: Final = 10.0

# Where the event has failed before in that queue, its history says who took it up again.
NOTE: Final = """
INSERT INTO failed_delivery_history (failed_delivery_id, actor, action, note)
SELECT failed.id, $5, 'replayed', 'from the archive; replay ' || $6
FROM unnest($1::text[], $2::text[], $3::boolean[], $4::text[]) AS sent (queue, account, livemode, event_id)
JOIN failed_deliveries AS failed USING (queue, account, livemode, event_id)
ORDER BY failed.id
"""
FAILED: Final = """
SELECT id, queue, event_id, state, reason, error FROM failed_deliveries WHERE replay_id = $1 ORDER BY id
"""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """How a replay is to go. `rate` per second; `patience` in seconds."""

    queues: list[str]
    limit: int | None
    rate: float
    patience: float
    actor: str
    yes: bool
    wait: bool


def replay(
    *,
    event_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of events, evt_…")] = None,
    type_: EventType = None,
    any_id: AnyId = None,
    quote: OfQuote = None,
    account: Account = None,
    mode: Mode = None,
    since: Since = None,
    until: Until = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            help="To this queue alone, if it takes such events; may be repeated. Default: all that do, but archive."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many events, newest first.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would happen (statuses, CRM events, mails) and change nothing."),
    ] = False,
    rate: Annotated[float, typer.Option(min=0.01, max=10_000, help="At most so many a second, oldest first.")] = 50.0,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the workers, and report.")] = True,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the workers, once all is sent.")] = 60.0,
    yes: Yes = False,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Run workers' handlers again on archived events, whether or not they have handled them.

    Effects stay single: each has a key of its own. Time filters go by Stripe's time of the event.

    A preview reads STRIPE_API_KEY, MAIL_TO, ADOPT_UNPUBLISHED and QUOTE_ID_PATTERN as workers do: run it with theirs.
    """
    search = Search(
        event_ids=event_ids or [],
        type=type_,
        any_id=any_id,
        quote=quote,
        account=account,
        livemode=livemode(mode),
        since=optional(moment, since),
        until=optional(moment, until),
    )
    if not search.restricts:
        usage("say which: ids, or a filter")
    if unknown := set(queue or []) - set(fed_by_stripe()):
        usage(f"--queue is one of {', '.join(fed_by_stripe())} (Stripe's events go nowhere else), not {min(unknown)!r}")
    order = Order(queues=queue or [], limit=limit, rate=rate, patience=timeout, actor=acting(actor), yes=yes, wait=wait)
    if dry_run:
        preview = run(_preview(database_url(), search, order))
        if as_json:
            output.print_json(preview)
        else:
            print_preview(preview)
        return
    report = run(_replay(*both_urls(), search, order))
    if as_json:
        output.print_json(report)
    else:
        _print(report, waited=wait)
    if report["failed"] or report["waiting"]:
        raise typer.Exit(1)


async def _deliveries(db: Connection, search: Search, order: Order, replay_id: str) -> list[Delivery]:
    """What is to be sent, oldest first. Raises CouldNot where an event that was named is not there."""
    rows = await archive.find(db, search, order.limit)
    if missing := sorted(set(search.event_ids) - {row["event_id"] for row in rows}):
        raise CouldNot(f"the archive does not have (or not with these filters): {', '.join(missing)}")
    deliveries = []
    for row in reversed(rows):
        event = archive.event_of(row, replay_id)
        chosen = [name for name in taking(STRIPE_EVENTS, event.type) if name in order.queues]
        targets = chosen if order.queues else taking_stripe(event.type)
        if not targets and search.event_ids:
            nobody = f"{' or '.join(order.queues)} does not take" if order.queues else "no worker uses"
            output.note(f"{event.id}: {nobody} {event.type}")
        deliveries += [Delivery(target, event) for target in targets]
    return deliveries


async def _preview(url: str, search: Search, order: Order) -> Preview:
    async with database(url) as db:
        deliveries = await _deliveries(db, search, order, "preview")
        if len(deliveries) > LIMIT:
            raise CouldNot(
                f"a preview takes {LIMIT} deliveries at most, and {len(deliveries)} are chosen: narrow the filter, "
                "or --limit"
            )
        return await what_would_happen(db, deliveries)


async def _replay(database_address: str, amqp_address: str, search: Search, order: Order) -> dict[str, Any]:
    replay_id = uuid4().hex
    async with database(database_address) as db:
        deliveries = await _deliveries(db, search, order, replay_id)
        if len(deliveries) >= ASK_FROM:
            confirmed(f"Replay {len(deliveries)} deliveries, {order.rate:g} a second?", yes=order.yes)
        began = await db.fetchval("SELECT now()")
        if deliveries:
            output.note(f"replay {replay_id}: {output.count(len(deliveries), 'delivery', 'deliveries')}")
            await _note(db, deliveries, order.actor, replay_id)
            try:
                await _send(amqp_address, deliveries, order.rate)
            except (BrokerAway, NotTaken) as error:
                raise CouldNot(
                    f"the broker did not take all of them: {error}; to send them again does no harm"
                ) from error
        report = {"replay_id": replay_id, "sent": dict(Counter(delivery.queue for delivery in deliveries))}
        if not order.wait or not deliveries:
            return report | {"waiting": {}, "failed": [], "status_changes": [], "mails": []}
        waiting = await _drained(amqp_address, sorted(report["sent"]), order.patience)
        return report | {"waiting": waiting} | await _outcome(db, deliveries, replay_id, began)


async def _note(db: Connection, deliveries: Sequence[Delivery], actor: str, replay_id: str) -> None:
    await db.execute(
        NOTE,
        [delivery.queue for delivery in deliveries],
        [delivery.event.account for delivery in deliveries],
        [delivery.event.livemode for delivery in deliveries],
        [delivery.event.id for delivery in deliveries],
        actor,
        replay_id,
    )


async def _send(url: str, deliveries: Sequence[Delivery], rate: float) -> None:
    """Publish to the queues by name, each confirmed, `rate` a second."""
    async with wire.connected(url, "replay", confirms=True) as channel:
        began = time.monotonic()
        with Progress(console=output.err(), transient=True, disable=not output.err().is_terminal) as progress:
            bar = progress.add_task("sending", total=len(deliveries))
            for place, delivery in enumerate(deliveries):
                await asyncio.sleep(max(0.0, began + place / rate - time.monotonic()))
                event = delivery.event
                await channel.publish("", delivery.queue, event.body, event.headers(), event.type, CONFIRM_TIMEOUT)
                progress.advance(bar)


async def _drained(url: str, names: Sequence[str], patience: float) -> dict[str, int]:
    """Wait until the queues are empty; how many messages each still holds when `patience` (seconds) is over."""
    deadline = time.monotonic() + patience
    async with broker.connected(url, "replay") as connection:
        channel = await broker.open_channel(connection, confirms=False)
        while True:
            left = {}
            for name in names:
                async with broker.calling(broker.CALL_TIMEOUT):
                    declared = await channel.queue_declare(name, passive=True)
                if declared.message_count:
                    left[name] = declared.message_count
            if not left or time.monotonic() > deadline:
                return left
            await asyncio.sleep(0.2)


async def _outcome(
    db: Connection, deliveries: Sequence[Delivery], replay_id: str, began: datetime
) -> dict[str, list[dict[str, Any]]]:
    changed = await changes.since(db, [delivery.event for delivery in deliveries], began)
    failed = [dict(row.items()) for row in await db.fetch(FAILED, replay_id)]
    return {"failed": failed, "status_changes": changed.status_changes, "mails": changed.mails}


def _print(report: dict[str, Any], *, waited: bool) -> None:
    sent = report["sent"]
    if not sent:
        output.say("nothing to replay: no archived event matches, or no worker uses it")
        return
    if waited:
        if report["failed"]:
            output.print_table(
                ("id", "queue", "event", "now", "error"),
                (
                    (row["id"], row["queue"], row["event_id"], row["state"], f"{row['reason']}: {row['error'][:100]}")
                    for row in report["failed"]
                ),
                numbers=("id",),
            )
        print_changes(report["status_changes"])
        print_mails(report["mails"])
        output.say("")
    told = ", ".join(f"{number} to {name}" for name, number in sent.items())
    output.say(f"replay {report['replay_id']}: {told}; {output.count(len(report['failed']), 'failure')}")
    for name, number in report["waiting"].items():
        output.note(f"{number} messages still wait in {name}: is its worker running? See `quittance doctor`.")
