"""`python -m web`: the process. Several may share a port; SIGTERM drains."""

import argparse
import asyncio
import logging
import signal
import sys
from typing import Final

import structlog
import uvloop
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from asyncpg.pool import Pool

from quittance import database, logs
from quittance.settings import read_or_exit
from web import clock
from web.app import Web
from web.settings import Settings

CONNECTIONS: Final = 10  # to Postgres
KEEPALIVE: Final = 75.0  # seconds; also what a client may take to send its headers
LINGER: Final = 0.5  # seconds in which clients that keep a connection are told to take another
DRAIN_BUDGET: Final = 6.0

HELP: Final = """\
environment:
  DATABASE_URL            Postgres; required
  AMQP_URL                the broker; required of every process, and not used by this one yet
  PUBLIC_URL              where buyers and the CRM reach this, without a slash at the end (http://localhost:WEB_PORT)
  WEB_HOST, WEB_PORT      where to listen (0.0.0.0, 8081); port 0 takes any free one, and logs it
  FORWARDED_HOPS          proxies of yours before this, whose X-Forwarded-For is believed when calls are limited (0)
  STRIPE_API_KEY          what Check out calls Stripe with, of the mode of the quotes (none: pages say that nobody can pay)
  STRIPE_API_BASE         https://api.stripe.com
  STRIPE_CONNECT_CLIENT_ID, STRIPE_CONNECT_BASE
                          the platform's client id (ca_…; none: nobody can connect an account), https://connect.stripe.com
  CURRENCY_POLICY         hubspot-2023 or stripe-2026: which currencies may be used (hubspot-2023)
  LOG_LEVEL, LOG_FORMAT   debug, info, warning or error (info); json or console (json)

GET /openapi.json has the quotes API; GET /healthz, GET /readyz, GET /metrics
"""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def main() -> int:
    """Exit 0 after a drain, 1 where it cannot listen, 2 on a fault of the environment."""
    parser = argparse.ArgumentParser(
        prog="python -m web",
        description="The quotes API, and the clock that lets quotes expire.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    settings = read_or_exit(Settings.read, "web")
    logs.configure(settings.log.level, settings.log.format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(settings))


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    pool = await database.pool(settings.database_url, "web", CONNECTIONS)
    ours = Web(settings, pool)
    runner = runner_of(ours)
    await runner.setup()
    site = web.TCPSite(runner, settings.host, settings.port, backlog=1024, reuse_port=True)
    try:
        await site.start()
    except OSError as error:
        log.error("web.cannot_listen", host=settings.host, port=settings.port, error=str(error))
        await close(pool)
        return 1
    log.info("web.listening", host=settings.host, port=runner.addresses[0][1], public_url=settings.public_url)
    ticking = asyncio.create_task(clock.run(pool, stop))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, ticking}, return_when=asyncio.FIRST_COMPLETED)
    fault = not stop.is_set()  # the clock never ends by itself: a fault of ours, and a new process is the cure
    stop.set()
    log.info("web.draining")
    ours.draining = True
    await site.stop()
    await asyncio.sleep(LINGER)
    await runner.cleanup()
    (ended,) = await asyncio.gather(ticking, return_exceptions=True)
    if isinstance(ended, BaseException):
        log.critical("clock.ended", exc_info=ended)
    stopping.cancel()
    await close(pool)
    log.info("web.stopped")
    return 1 if fault else 0


def runner_of(ours: Web) -> web.AppRunner:
    """The HTTP server, with every limit that aiohttp leaves wide open set."""
    return web.AppRunner(
        ours.app(),
        access_log=None,
        logger=http_logger(),
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE,
        lingering_time=5.0,
        shutdown_timeout=DRAIN_BUDGET,
    )


def http_logger() -> logging.Logger:
    """aiohttp's log of what went wrong, without a traceback for everyone who does not speak HTTP."""
    logger = logging.getLogger("web.http")
    if not logger.filters:
        logger.addFilter(_is_worth_a_line)
    return logger


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


async def close(pool: Pool) -> None:
    """Let go of the database within seconds."""
    try:
        async with asyncio.timeout(3):
            await pool.close()
    except database.DATABASE_ERRORS:
        pool.terminate()


if __name__ == "__main__":
    sys.exit(main())
