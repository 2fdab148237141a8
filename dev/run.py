"""`make run`: the whole system until Ctrl-C. Its data are kept under .local/ from one run to the next.

Variables of the environment that Quittance reads (SMTP_URL, STRIPE_API_KEY, MAIL_TO, …) are handed on; what is missing
is provided here: a mail server that delivers nothing and shows what it got, a stand-in for Stripe's API, a secret.
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
from pathlib import Path
from typing import Final

from rich.text import Text

from dev import demo_report, quotes_api, servers
from dev.lives import life
from dev.mailbox import mail_page, mailbox
from dev.places import CannotStart, free_ports, is_free
from dev.stripe_api import KEY, stripe_api
from dev.stripe_events import SHAPES, body, token
from dev.system import OURS, ChildDied, System, initialise, system
from dev.venv import ROOT

FOLDER: Final = ROOT / ".local" / "run"
USUAL_PORT: Final = 8080
LOOK_EVERY: Final = 0.3  # seconds
MAILS: Final = "Mails"
# What the workers have no business with.
UNREAD: Final = frozenset(
    "STRIPE_WEBHOOK_SECRETS STRIPE_WEBHOOK_SECRETS_FILE INGEST_HOST INGEST_PORT WEB_HOST WEB_PORT PUBLIC_URL CURRENCY_POLICY".split()
)


def webhook_secret() -> str:
    """The secret of this checkout's own ingest: made once, kept."""
    file = FOLDER / "webhook-secret"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(f"whsec_{secrets.token_hex(16)}")
    return file.read_text().strip()


def write_samples(folder: Path) -> int:
    """Event files to begin with, about quotes that nobody has seen yet; how many."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    run = token(secrets.token_hex(8), 4).upper()
    told = [
        life(name, f"{run}-{name}", shape=shape, begins=int(time.time()) - 86_400)
        for name, shape in zip(("card", "subscription"), SHAPES, strict=True)
    ]
    bodies = [(sent["type"], body(sent)) for each in told for sent in each.events]
    for number, (event_type, payload) in enumerate(bodies, 1):
        (folder / f"{number:02}-{event_type}.json").write_bytes(payload)
    return len(bodies)


@asynccontextmanager
async def provided(given: dict[str, str]) -> AsyncIterator[dict[str, str]]:
    """What the workers need and the environment does not name; under MAILS, where to read mails."""
    async with AsyncExitStack() as stack:
        made: dict[str, str] = {}
        if "SMTP_URL" not in given:
            folder = FOLDER / "mail"
            folder.mkdir(exist_ok=True)
            box = await stack.enter_async_context(mailbox(folder))
            made |= {"SMTP_URL": box.url, MAILS: await stack.enter_async_context(mail_page(box))}
        if "STRIPE_API_KEY" not in given:
            stripe = await stack.enter_async_context(stripe_api())
            made |= {"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": stripe.base}
        yield {"MAIL_FROM": "quittance@example.com", "MAIL_TO": "seller@example.com", **made, **given}


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


async def start(at: System, given: servers.Servers, environment: Mapping[str, str]) -> dict[str, str]:
    """Start everything; what people need to know of it, by name."""
    await asyncio.to_thread(initialise, given.database_url, given.amqp_url, at.logs)
    urls = {"DATABASE_URL": given.database_url, "AMQP_URL": given.amqp_url}
    of_ingest = ingest_environment(environment, given.amqp_url)
    ingest = at.start("ingest", ["ingest"], "INGEST_PORT", of_ingest)
    of_web = quotes_api.environment_of(environment, given.database_url, given.amqp_url)
    web = at.start("web", ["web"], "WEB_PORT", of_web)
    of_workers = {name: value for name, value in environment.items() if name in OURS and name not in UNREAD}
    workers = at.start("workers", ["workers", "all"], "METRICS_PORT", {**of_workers, **urls})
    await at.ready()

    token = quotes_api.token_kept_in(FOLDER / "api-token")
    await quotes_api.grant(given.database_url, token, "make run")
    url, secret = f"{ingest.url}/webhooks/stripe", of_ingest["STRIPE_WEBHOOK_SECRETS"]
    samples = FOLDER / "samples"
    number = write_samples(samples)
    send = ["quittance", "send", str(samples.relative_to(ROOT)), "--url", url, "--secret", secret.split(",")[0].strip()]
    return {
        "Webhooks": url,
        "Secret": secret,
        "Quotes API": f"{of_web['PUBLIC_URL']}/v1/quotes  (docs/publishing.md; {web.url}/openapi.json)",
        "Token": token,
        "Metrics": f"{ingest.url}/metrics  {workers.url}/metrics  {web.url}/metrics",
        **({MAILS: environment[MAILS]} if MAILS in environment else {}),
        **urls,
        "Logs": str(at.logs),
        f"Send {number} events": f".venv/bin/{shlex.join(send)}",
    }


async def run(at: System, given: servers.Servers) -> None:
    """Everything, until a signal comes. Raises ChildDied where a process ends by itself."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, ended.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    chosen = {name: os.environ[name] for name in OURS if os.environ.get(name)}
    async with provided(chosen) as environment:
        show_addresses(await start(at, given, environment))
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
            except (ChildDied, TimeoutError) as problem:
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
