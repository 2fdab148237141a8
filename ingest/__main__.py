"""`python -m ingest`: the process. Several may share a port; SIGHUP reads the secrets again, SIGTERM drains."""

import argparse
import asyncio
import gc
import resource
import signal
import sys
from contextlib import suppress
from typing import Final

import structlog
import uvloop
from aiohttp import web

from ingest.app import PATH, Ingest
from ingest.connection import Connection
from ingest.metrics import SECRETS, SECRETS_STALE
from ingest.publisher import Publisher
from ingest.refusals import http_logger
from ingest.settings import Secrets, SecretsError, Settings
from quittance import logs
from quittance.settings import read_or_exit

KEEPALIVE: Final = 75.0  # seconds; also what a client may take to send its headers
FIRST_CONNECT: Final = 2.0  # seconds that the broker is waited for before the port is opened; then without it
LINGER: Final = 0.5  # seconds in which clients that keep a connection are told to take another
DRAIN_BUDGET: Final = 6.0  # with LINGER and the broker's goodbye within 10 s: a confirm takes 4 at most
LINGERING: Final = 5.0  # seconds to read away the rest of what was refused

HELP: Final = """\
environment:
  AMQP_URL                      the broker; required
  STRIPE_WEBHOOK_SECRETS        comma-separated; each is tried
  STRIPE_WEBHOOK_SECRETS_FILE   one a line, read again on SIGHUP; one of the two is required
  INGEST_HOST, INGEST_PORT      where to listen (0.0.0.0, 8080); port 0 takes any free one, and logs it
  LOG_LEVEL, LOG_FORMAT         debug, info, warning or error (info); json or console (json)

POST /webhooks/stripe, GET /healthz, GET /readyz, GET /metrics
"""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def main() -> int:
    """Exit 0 after a drain, 1 where it cannot listen, 2 on a fault of the environment."""
    parser = argparse.ArgumentParser(
        prog="python -m ingest",
        description="Takes Stripe's webhooks and puts them on the broker; answers 200 only when it has them.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    settings = read_or_exit(Settings.read, "ingest")
    logs.configure(settings.log.level, settings.log.format)
    allow_connections()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(settings))


def allow_connections() -> None:
    """As many open files as the system lets us have: with the usual 1,024, idle strangers would lock Stripe out."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload, settings.secrets)
    SECRETS.set(len(settings.secrets.current))

    connection = Connection(settings.amqp_url)
    keeper = connection.start()
    with suppress(TimeoutError):  # a process that joins others on a port would answer its first requests 503
        await asyncio.wait_for(connection.begun.wait(), FIRST_CONNECT)
    ingest = Ingest(settings.secrets, Publisher(connection))
    runner = runner_of(ingest)
    await runner.setup()
    site = web.TCPSite(runner, settings.host, settings.port, backlog=1024, reuse_port=True)
    try:
        await site.start()
    except OSError as error:
        log.error("ingest.cannot_listen", host=settings.host, port=settings.port, error=str(error))
        await connection.close()
        return 1
    log.info("ingest.listening", host=settings.host, port=site.port, path=PATH)
    # What lives from here on lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()

    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, keeper}, return_when=asyncio.FIRST_COMPLETED)
    fault = keeper.done()  # it never ends by itself: a fault of ours, and a new process is the cure
    if fault:
        log.error("broker.keeper_ended", error="cancelled" if keeper.cancelled() else repr(keeper.exception()))
    await drain(ingest, site, runner, connection)
    return 1 if fault else 0


def runner_of(ingest: Ingest) -> web.AppRunner:
    """The HTTP server, with every limit that aiohttp leaves wide open set."""
    return web.AppRunner(
        ingest.app(),
        access_log=None,
        logger=http_logger(),
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE,
        lingering_time=LINGERING,
        shutdown_timeout=DRAIN_BUDGET,
    )


async def drain(ingest: Ingest, site: web.TCPSite, runner: web.AppRunner, connection: Connection) -> None:
    """Take no more, finish what is in hand, let go of the broker; within ten seconds."""
    log.info("ingest.draining")
    ingest.draining = True
    await site.stop()
    await asyncio.sleep(LINGER)
    await runner.cleanup()
    await connection.close()
    log.info("ingest.stopped")


def reload(secrets: Secrets) -> None:
    """Read the file of secrets again; a bad one changes nothing."""
    try:
        count = secrets.reload()
    except SecretsError as error:
        SECRETS_STALE.set(1)
        log.error("secrets.kept", reason=str(error), secrets=len(secrets.current))
    else:
        SECRETS_STALE.set(0)
        SECRETS.set(count)
        log.info("secrets.reloaded", secrets=count)


if __name__ == "__main__":
    sys.exit(main())
