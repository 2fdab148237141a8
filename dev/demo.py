"""`make demo`: the whole system, fed with signed Stripe events through its own doors, and checked at the end.

Exit 0 only if everything became what it had to become.
"""

import argparse
import asyncio
import random
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
from rich.console import Console
from rich.text import Text

from dev import demo_events, demo_journey, demo_report, quotes_api, servers
from dev.crm import Crm, crm
from dev.demo_checks import differences, look
from dev.demo_scenario import SECRET, WRONG_SECRET, Scenario, run_name, scenario
from dev.least_privilege import initialised, start_workers
from dev.mailbox import Mailbox, mailbox
from dev.places import CannotStart
from dev.settled import Sent, quiet, settle
from dev.stripe_events import body
from dev.system import ChildDied, System, system
from quittance.cli.sending import Sender, sender
from quittance.tokens import new_token
from tests.fakes.stripe import KEY, StripeApi

CONCURRENCY: Final = 8
PATIENCE: Final = 60.0  # seconds for all of it to be handled; it takes about two
MAIL_FROM: Final = "quittance@example.com"


@dataclass(frozen=True)
class Running:
    """The system as the demo sees it."""

    at: System
    url: str
    api: str
    token: str
    stripe: str
    db: asyncpg.Connection
    crm: Crm
    mails: Mailbox


@asynccontextmanager
async def started(at: System, given: servers.Servers, show: Console) -> AsyncIterator[Running]:
    """ingest, all workers and the relay, with a CRM, a mail server and a stand-in for Stripe beside them."""
    with show.status("quittance init"):
        databases = await asyncio.to_thread(initialised, given, at.logs)
    async with mailbox() as mails, StripeApi.running() as stripe:
        amqp = {"AMQP_URL": given.amqp_url}
        door = {**amqp, "STRIPE_WEBHOOK_SECRETS": SECRET, "INGEST_HOST": "127.0.0.1"}
        ingest = at.start("ingest", ["ingest"], "INGEST_PORT", door)
        url = f"{ingest.url}/webhooks/stripe"
        stripe.webhooks.to(url, SECRET)
        asked = {"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": stripe.url}
        of_web = quotes_api.environment_of(asked, databases.web, given.amqp_url)
        web = at.start("web", ["web"], "WEB_PORT", of_web)
        environment = {
            **amqp,
            **asked,
            "SMTP_URL": mails.url,
            "MAIL_FROM": MAIL_FROM,
            "PUBLIC_URL": of_web["PUBLIC_URL"],
        }
        start_workers(at, databases, environment)
        with show.status("python -m ingest, python -m workers, python -m web"):
            await at.ready()
        token = new_token(livemode=False)
        await quotes_api.grant(given.database_url, token, "make demo")
        db = await asyncpg.connect(given.database_url)
        try:
            # On a broker that somebody else uses too, the queue `crm` is not ours to empty.
            async with crm(given.amqp_url, whole_queue=given.managed) as listening:
                yield Running(at, url, web.url, token, stripe.url, db, listening, mails)
        finally:
            await db.close()


async def send(bodies: Sequence[bytes], url: str, secret: str) -> list[int | None]:
    """Post the bodies, several at a time; the answer to each, in order."""
    answers: list[int | None] = [None] * len(bodies)
    todo = iter(enumerate(bodies))

    async def lane(sending: Sender) -> None:
        for index, each in todo:
            answers[index] = (await sending.send(each)).status

    async with sender(url, secret, retries=5, concurrency=CONCURRENCY) as sending, asyncio.TaskGroup() as lanes:
        for _ in range(CONCURRENCY):
            lanes.create_task(lane(sending))
    return answers


async def handled(run: Running, events: Sequence[Sent], show: Console, patience: float) -> list[str]:
    """Wait until everything is handled; what is not is named."""
    with show.status("handling") as progress:
        left = await settle(
            run.db,
            events,
            patience=patience,
            check=run.at.check,
            told=lambda left: progress.update(", ".join(f"{number} {name}" for name, number in left.items())),
        )
    return [f"after {patience:.0f} s: still {number} {name}" for name, number in left.items()]


async def told_lives(run: Running, show: Console, seed: int) -> list[str]:
    """Send the scenario, show what became of it; the differences from what must be."""
    told = scenario(run_name())
    wrong = await _published(run, told, show)
    wrong += await _travelled(run, told, show)
    deliveries = told.deliveries(seed)
    show.print(
        Text(
            f"Sending {len(told.genuine())} events of {len(told.lives)} quotes, each twice, in an order shuffled with "
            f"--seed {seed}; one of them is poison, and one more is forged."
        )
    )
    wrong += await _deliver(run, told, deliveries)
    wrong += await handled(run, [Sent(sent["id"], sent["type"]) for sent in told.genuine()], show, PATIENCE)

    async def right() -> bool:
        return not differences(told, await look(run.db, told), run.crm, run.mails.mails)

    with show.status("everything settles"):
        await quiet(run.db, lambda: run.crm.received + len(run.mails.mails), right)
    found = await look(run.db, told)
    show.print(demo_report.quotes_table(told, found))
    show.print(demo_report.crm_table(told, run.crm))
    show.print(demo_report.mails_table(run.mails.mails))
    show.print(demo_report.dead_letters_table(found.failed))
    return wrong + differences(told, found, run.crm, run.mails.mails)


async def _published(run: Running, told: Scenario, show: Console) -> list[str]:
    quote_id = f"Q-{told.run}-published"
    show.print(
        Text(f"Publishing {quote_id} through the quotes API at {run.api}, again, over itself, and recalling it.")
    )
    return await quotes_api.published_and_recalled(run.api, run.token, quote_id, run.crm)


async def _travelled(run: Running, told: Scenario, show: Console) -> list[str]:
    with show.status("a buyer pays a quote"):
        places = demo_journey.Places(run.api, run.token, run.stripe, run.crm, run.mails)
        journey = await demo_journey.travelled(f"Q-{told.run}-bought", places)
    show.print(journey.shown())
    return journey.wrong


async def _deliver(run: Running, told: Scenario, deliveries: Sequence[bytes]) -> list[str]:
    answers = await send(deliveries, run.url, SECRET)
    refused = [answer for answer in answers if answer != 200]
    wrong = [f"{len(refused)} signed deliveries were answered {sorted(map(str, set(refused)))}"] if refused else []
    (forged,) = await send([body(told.forged)], run.url, WRONG_SECRET)
    if forged != 400:
        wrong.append(f"the forged event was answered {forged}, must be 400")
    return wrong


async def demo(at: System, given: servers.Servers, show: Console, chosen: argparse.Namespace) -> list[str]:
    """The demo itself; the differences from what must be."""
    async with started(at, given, show) as run:
        if chosen.events is None:
            return await told_lives(run, show, chosen.seed)
        payloads = demo_events.read(chosen.events, random.Random(chosen.seed))  # noqa: S311 - an order, no secret
        since = await run.db.fetchval("SELECT extract(epoch FROM now())::float8")
        answers = await send([event.body for event in payloads.sent], run.url, SECRET)
        events = [Sent(event.id, event.type) for event in payloads.sent]
        late = await handled(run, events, show, PATIENCE + len(events) / 50)
        return late + await demo_events.account(run.db, payloads, answers, since, show)


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m dev.demo", description="The whole system, shown and checked.")
    parser.add_argument("--events", type=Path, help="a folder of event files to send instead of the built-in events")
    parser.add_argument("--seed", type=int, help="makes the order of sending one that can be repeated")
    chosen = parser.parse_args()
    if chosen.events is not None and not chosen.events.is_dir():
        parser.error(f"{chosen.events} is no folder")
    if chosen.seed is None:
        chosen.seed = secrets.randbelow(1 << 32)
    return chosen


def main() -> int:
    """Run the demo; the exit code."""
    chosen = arguments()
    show = demo_report.console()
    try:
        with show.status("Postgres and RabbitMQ") as status, servers.running("demo") as given, system("demo") as at:
            status.stop()
            try:
                wrong = asyncio.run(demo(at, given, show, chosen))
            except* (ChildDied, TimeoutError) as group:
                wrong = [str(error) for error in group.exceptions]
            demo_report.verdict(show, wrong, "Everything is as it should be.")
            if wrong:
                show.print(f"The logs are in {at.logs}", markup=False)
            return 1 if wrong else 0
    except CannotStart as problem:
        show.print(str(problem), style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
