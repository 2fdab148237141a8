"""`make run`: the whole system until Ctrl-C. Its data are kept under .local/ from one run to the next.

Variables of the environment that Quittance reads (SMTP_URL, STRIPE_API_KEY, MAIL_TO, …) are handed on; what is missing
is provided here: a mail server that delivers nothing and shows what it got, a secret, and a stand-in for Stripe, with a
page to pay on and the webhooks that follow. With a STRIPE_API_KEY it is Stripe itself that is asked.
"""

import asyncio
import contextlib
import os
import secrets
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
from rich.text import Text

from dev import demo_report, quotes_api, samples, servers
from dev.least_privilege import initialised, start_workers
from dev.lives import life
from dev.mailbox import mail_page, mailbox
from dev.places import CannotStart, free_ports, is_free
from dev.stripe_events import SHAPES, body, token
from dev.system import OURS, ChildDied, System, system
from dev.venv import ROOT
from tests.fakes.stripe import KEY, StripeApi

FOLDER: Final = ROOT / ".local" / "run"
USUAL_PORT: Final = 8080
LOOK_EVERY: Final = 0.3  # seconds
BANK_TAKES: Final = 15.0  # seconds; a bank debit takes days
# What the workers have no business with.
UNREAD: Final = frozenset(
    "STRIPE_WEBHOOK_SECRETS STRIPE_WEBHOOK_SECRETS_FILE INGEST_HOST INGEST_PORT WEB_HOST WEB_PORT FORWARDED_HOPS "
    "STRIPE_CONNECT_BASE STRIPE_CONNECT_CLIENT_ID".split()
)
# The stand-in of an earlier run took its sessions with it; a quote is checked out anew then.
FORGET: Final = """
UPDATE checkout_sessions SET state = 'closed', claim = NULL, claimed_until = NULL
WHERE state IN ('open', 'closing', 'complete') AND url LIKE 'http://127.0.0.1:%'
"""
CLICK: Final = (
    "Open a quote, check out, and pay on the stand-in's page (any e-mail and name will do): no money moves. A bank debit "
    f"is decided after {BANK_TAKES:.0f} s, and the page says so within half a minute."
)
STRIPE_ITSELF: Final = """\
Check out leads to Stripe itself. Its webhooks come to this machine with the Stripe CLI, whose secret belongs into
STRIPE_WEBHOOK_SECRETS: stripe listen --forward-to {url}"""
LIVE_KEY: Final = "STRIPE_API_KEY is a live key; the sample quotes are in test mode, and can not be paid with it."


def webhook_secret() -> str:
    """The secret of this checkout's own ingest: made once, kept."""
    file = FOLDER / "webhook-secret"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(f"whsec_{secrets.token_hex(16)}")
    return file.read_text().strip()


def run_name() -> str:
    """Makes the quotes of this run its own."""
    return token(secrets.token_hex(8), 4).upper()


def write_samples(folder: Path) -> int:
    """Event files to begin with, about quotes that nobody has seen yet; how many."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    run = run_name()
    told = [
        life(name, f"{run}-{name}", shape=shape, begins=int(time.time()) - 86_400)
        for name, shape in zip(("card", "subscription"), SHAPES, strict=True)
    ]
    bodies = [(sent["type"], body(sent)) for each in told for sent in each.events]
    for number, (event_type, payload) in enumerate(bodies, 1):
        (folder / f"{number:02}-{event_type}.json").write_bytes(payload)
    return len(bodies)


@dataclass(frozen=True)
class Provided:
    """What the processes need: theirs as the environment names it, ours where it does not.

    `mails`: the page that shows them; `stripe`: the stand-in. None where the environment names another.
    """

    environment: dict[str, str]
    mails: str | None
    stripe: StripeApi | None


@asynccontextmanager
async def provided(given: dict[str, str]) -> AsyncIterator[Provided]:
    """A mail server and a Stripe for the length of the block, each unless it is `given`."""
    async with AsyncExitStack() as stack:
        made = {"MAIL_FROM": "quittance@example.com", "MAIL_TO": "seller@example.com"}
        mails, stripe = None, None
        if "SMTP_URL" not in given:
            folder = FOLDER / "mail"
            folder.mkdir(exist_ok=True)
            box = await stack.enter_async_context(mailbox(folder))
            mails = await stack.enter_async_context(mail_page(box))
            made |= {"SMTP_URL": box.url}
        if not {"STRIPE_API_KEY", "STRIPE_API_BASE"} & given.keys():
            stripe = await stack.enter_async_context(StripeApi.running(debits_settle_after=BANK_TAKES))
            made |= {"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": stripe.url, "STRIPE_CONNECT_BASE": stripe.url}
            made |= {"STRIPE_CONNECT_CLIENT_ID": stripe.oauth.client_ids[False]}
        yield Provided(made | given, mails, stripe)


def show_addresses(addresses: dict[str, str]) -> None:
    """Print where everything is."""
    width = max(map(len, addresses))
    to = demo_report.console()
    for name, address in addresses.items():
        to.print(Text.assemble((f"{name:<{width}}  ", "bold"), address), soft_wrap=True)


def ingest_environment(chosen: Mapping[str, str], amqp_url: str) -> dict[str, str]:
    """What ingest reads. A port that was asked for is taken, or refused by ingest itself; ours gives way."""
    port = str(USUAL_PORT if is_free(USUAL_PORT) else free_ports(1)[0])
    read = ("LOG_LEVEL", "LOG_FORMAT", "INGEST_HOST", "INGEST_PORT", "STRIPE_WEBHOOK_SECRETS_FILE")
    return {
        "INGEST_HOST": "127.0.0.1",
        "INGEST_PORT": port,
        "STRIPE_WEBHOOK_SECRETS": chosen.get("STRIPE_WEBHOOK_SECRETS") or webhook_secret(),
        **{name: chosen[name] for name in read if name in chosen},
        "AMQP_URL": amqp_url,
    }


async def start(at: System, given: servers.Servers, use: Provided) -> dict[str, str]:
    """Start everything; what people need to know of it, by name."""
    databases = await asyncio.to_thread(initialised, given, at.logs)
    urls = {"DATABASE_URL": given.database_url, "AMQP_URL": given.amqp_url}
    of_ingest = ingest_environment(use.environment, given.amqp_url)
    url, secret = f"http://127.0.0.1:{of_ingest['INGEST_PORT']}/webhooks/stripe", of_ingest["STRIPE_WEBHOOK_SECRETS"]
    one_secret = secret.split(",")[0].strip()
    if use.stripe is not None:
        use.stripe.webhooks.to(url, one_secret)
        await forget_sessions(given.database_url)
    ingest = at.start("ingest", ["ingest"], "INGEST_PORT", of_ingest)
    of_web = quotes_api.environment_of(use.environment, databases.web, given.amqp_url)
    web = at.start("web", ["web"], "WEB_PORT", of_web)
    of_workers = {name: value for name, value in use.environment.items() if name in OURS and name not in UNREAD}
    own = {"PUBLIC_URL": of_web["PUBLIC_URL"], "AMQP_URL": given.amqp_url}
    children = [ingest, *start_workers(at, databases, {**of_workers, **own}), web]
    await at.ready()

    token = quotes_api.token_kept_in(FOLDER / "api-token")
    await quotes_api.grant(given.database_url, token, "make run")
    quotes = await samples.publish_each(web.url, token, run_name())
    events = FOLDER / "samples"
    number = write_samples(events)
    send = ["quittance", "send", str(events.relative_to(ROOT)), "--url", url, "--secret", one_secret]
    return {
        "Webhooks": url,
        "Secret": secret,
        "Quotes API": f"{of_web['PUBLIC_URL']}/v1/quotes  (docs/publishing.md; {web.url}/openapi.json)",
        "Token": token,
        "Metrics": "  ".join(f"{child.url}/metrics" for child in children),
        **({} if use.mails is None else {"Mails": use.mails}),
        **urls,
        "For a shell": f"export {shlex.join(f'{name}={value}' for name, value in urls.items())}  (then .venv/bin/quittance doctor)",
        "Logs": str(at.logs),
        f"Send {number} events": f".venv/bin/{shlex.join(send)}",
        **{f"Quote, {quote.language}": quote.url for quote in quotes},
    }


async def forget_sessions(database_url: str) -> None:
    """Close the sessions of a stand-in that is no more."""
    db = await asyncpg.connect(database_url)
    try:
        await db.execute(FORGET)
    finally:
        await db.close()


def show_how(use: Provided, url: str) -> None:
    """Say what can be done with the sample quotes. `url`: where webhooks go."""
    to = demo_report.console()
    if use.stripe is not None:
        to.print(Text(CLICK), soft_wrap=True)
        return
    if "_live_" in use.environment.get("STRIPE_API_KEY", ""):
        to.print(Text(LIVE_KEY, style="yellow"), soft_wrap=True)
    to.print(Text(STRIPE_ITSELF.format(url=url)), soft_wrap=True)


async def run(at: System, given: servers.Servers) -> None:
    """Everything, until a signal comes. Raises ChildDied where a process ends by itself."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, ended.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    chosen = {name: os.environ[name] for name in OURS if os.environ.get(name)}
    async with provided(chosen) as use:
        addresses = await start(at, given, use)
        show_addresses(addresses)
        show_how(use, addresses["Webhooks"])
        demo_report.console().print("Running until Ctrl-C.")
        while not ended.is_set():
            at.check()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), LOOK_EVERY)
        demo_report.console().print("Ending.")


def main() -> int:
    """Run until a signal; the exit code."""
    show = demo_report.console()
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        with servers.running("run") as given, system("run") as at:
            try:
                asyncio.run(run(at, given))
            except (ChildDied, TimeoutError, ValueError) as problem:
                show.print(Text(str(problem), style="red"))
                return 1
    except CannotStart as problem:
        show.print(Text(str(problem), style="red"))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
