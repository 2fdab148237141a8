"""What the command line of `make bench` asks for."""

import argparse
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from bench.instance import SHAPES, Addresses, Shape

HELP: Final = """\
The benchmark: the table of targets, each with what was measured beside it and whether it is met.

Private servers, ingest and every worker in processes of their own, load from another; all on this machine's own addresses.
Each section has a database and a vhost of its own; a section that misses an event ends the run. Raw figures go to
.local/bench/ as JSON. What others do (the peers) is measured by `python -m bench.peers` and read from its file.

    make bench                                        # everything; some ten minutes on two cores
    make bench ARGS="--quick"                         # everything, as small as it goes: does it work?
    make bench ARGS="--only limits,fast --together"   # two sections, all workers in one process
    make bench ARGS="--only growth --growth-archive 10000000 --growth-quotes 1000000"
    make bench ARGS="--only fast,backlog --backlog 1000000"
    make bench ARGS="--url http://127.0.0.1:8080/webhooks/stripe --secret whsec_... --database-url ... --amqp-url ..."
"""

SECTIONS: Final = {
    "limits": "what the parts can do at most: bare aiohttp, aio-pika's confirmed publishes, Postgres' inserts",
    "ingress": "ingest alone, no worker running, to a bare aiohttp handler, in turn",
    "fast": "complete lives as fast as they go: rates, CPU and memory by process",
    "latency": "POST to CRM event at a steady rate",
    "one-sender": "POST to 200 on one connection, one at a time",
    "backlog": "stored with the workers stopped, then drained, with fresh lives during the drain",
    "growth": "cost of an event in a full database to that in an empty one",
    "flush": "Postgres with a commit that takes a millisecond, to one without",
    "twice": "two of each worker to one",
}
# They need nothing but addresses: another instance can be measured so.
ANYWHERE: Final = ("limits", "fast", "latency", "one-sender")

# Option: what it says, its value, its value with --quick.
SIZES: Final[dict[str, tuple[str, float, float]]] = {
    "lives": ("fast: lives, of 9 events each", 3_000, 150),
    "senders": ("fast and ingress: connections", 32, 32),
    "deadline": ("fast: seconds that sending may take", 900, 900),
    "rate": ("latency: events/s", 500, 500),
    "duration": ("latency: seconds", 20, 4),
    "posts": ("one-sender: events", 4_000, 400),
    "ingress-posts": ("ingress: events a round", 12_000, 1_500),
    "rounds": ("ingress, growth, flush, twice: rounds", 3, 1),
    "round-lives": ("growth, flush, twice: lives a round", 600, 50),
    "backlog": ("backlog: events", 30_000, 1_800),
    "fresh-rate": ("backlog: events/s that come while it is drained", 50, 50),
    "growth-archive": ("growth: rows in the archive", 300_000, 9_000),
    "growth-quotes": ("growth: quotes", 30_000, 1_000),
}


class Chosen(argparse.Namespace):
    """The options, checked."""

    only: list[str]
    quick: bool
    shapes: list[Shape]
    lives: int
    senders: int
    deadline: int
    rate: int
    duration: int
    posts: int
    ingress_posts: int
    rounds: int
    round_lives: int
    backlog: int
    fresh_rate: int
    growth_archive: int
    growth_quotes: int
    url: str | None
    secret: str | None
    database_url: str | None
    amqp_url: str | None

    @property
    def addresses(self) -> Addresses | None:
        """Where another instance is; None where we start our own."""
        if self.url and self.secret and self.database_url and self.amqp_url:
            return Addresses(self.url, self.secret, self.database_url, self.amqp_url)
        return None


def parser() -> argparse.ArgumentParser:
    """All options, with what they mean."""
    sections = "\n".join(f"  {name:<11} {meaning}" for name, meaning in SECTIONS.items())
    made = argparse.ArgumentParser(
        prog="python -m bench",
        description=HELP,
        epilog=f"sections:\n{sections}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--only", type=_sections, metavar="NAME,...", default=list(SECTIONS), help="these sections")
    made.add_argument("--quick", action="store_true", help="small sizes where none is given: a smoke test, no figures")
    for shape, meaning in zip(SHAPES, ("a process for each worker (usual)", "all workers in one process"), strict=True):
        made.add_argument(
            f"--{shape}", action="append_const", dest="shapes", const=shape, help=f"{meaning}; both may be asked for"
        )
    for name, (meaning, usual, quick) in SIZES.items():
        made.add_argument(f"--{name}", type=_positive, metavar="N", help=f"{meaning} ({usual:,}; quick: {quick:,})")
    made.add_argument("--url", help="the webhook address of an instance that is up; needs the next three")
    made.add_argument("--secret", help="its webhook secret")
    made.add_argument("--database-url", help="its DATABASE_URL")
    made.add_argument("--amqp-url", help="its AMQP_URL")
    return made


def arguments(given: Sequence[str] | None = None) -> Chosen:
    """What the command line asks for; exit 2 where that cannot be."""
    made = parser()
    chosen = made.parse_args(given, namespace=Chosen())
    chosen.shapes = list(dict.fromkeys(chosen.shapes or [SHAPES[0]]))
    for name, (_, usual, quick) in SIZES.items():
        field = name.replace("-", "_")
        if getattr(chosen, field) is None:
            setattr(chosen, field, int(quick if chosen.quick else usual))
    _check_instance(made, chosen)
    return chosen


def _check_instance(made: argparse.ArgumentParser, chosen: Chosen) -> None:
    given = [chosen.url, chosen.secret, chosen.database_url, chosen.amqp_url]
    if any(given) and not all(given):
        made.error("--url, --secret, --database-url and --amqp-url belong together")
    for address in filter(None, (chosen.url, chosen.database_url, chosen.amqp_url)):
        if not _is_here(address):
            made.error(f"{urlsplit(address).hostname} is not this machine: the load goes to loopback addresses only")
    if chosen.url:
        chosen.only = [name for name in chosen.only if name in ANYWHERE]
        if not chosen.only:
            made.error(f"of another instance only these can be measured: {', '.join(ANYWHERE)}")


def _sections(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"no section {', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    return names


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _is_here(address: str) -> bool:
    host = urlsplit(address).hostname
    if host in (None, "localhost"):  # no host: a socket's path
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
