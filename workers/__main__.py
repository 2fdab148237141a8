"""`python -m workers NAME…`: run workers, the relay, or all of them, in this process."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

import uvloop

from quittance import logs
from quittance.settings import Reader, read_or_exit
from workers import WORKERS
from workers.runtime.process import RELAY, Process
from workers.runtime.settings import WorkerSettings

ALL = "all"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT (exit 0); 1 when a loop broke, 2 for a wrong name or environment."""
    parser = argparse.ArgumentParser(
        prog="python -m workers",
        description="Runs workers in this process, any number of processes side by side.",
        epilog="Reads DATABASE_URL, AMQP_URL, METRICS_HOST, METRICS_PORT (0: any free port), RETRY_SCHEDULE, STUCK_AFTER, "
        "LOG_LEVEL, "
        "LOG_FORMAT; checkouts, customers: STRIPE_API_KEY, STRIPE_API_BASE; notifications: SMTP_URL, MAIL_FROM, MAIL_TO; "
        "commands: PUBLIC_URL, CURRENCY_POLICY, REPLY_TO_PATTERN; "
        "relay: EVENTS_RETENTION_DAYS.",
    )
    known = [*WORKERS, RELAY]
    parser.add_argument("names", nargs="+", metavar="NAME", choices=[*known, ALL], help=", ".join([*known, ALL]))
    chosen = parser.parse_args(arguments).names
    names = known if ALL in chosen else list(dict.fromkeys(chosen))
    settings = read_or_exit(lambda reader: read(reader, names), "workers")
    logs.configure(settings.logs.level, settings.logs.format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Process(WORKERS, names, settings).run())


def read(reader: Reader, names: Sequence[str]) -> WorkerSettings:
    """The runtime's settings, and the faults of those that the named workers read for themselves."""
    settings = WorkerSettings.read(reader)
    for name in names:
        if name != RELAY and hasattr(WORKERS[name], "outside_settings"):
            WORKERS[name].outside_settings(reader)
    return settings


if __name__ == "__main__":
    sys.exit(main())
