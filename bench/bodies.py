"""Lives by the hundred thousand: two lives are told once, and every copy gets ids of its own.

Telling a life takes longer than handling it. So each body is cut at the places where an id ends, and a copy is the
pieces joined with its number: the ids stay as long as Stripe's. Numbers are scattered over all that DIGITS digits can say:
Stripe's ids are random, and ids in ascending order would find every index at its hot, right end.
"""

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dev.lives import life
from dev.stripe_events import body, token

# Digits of a copy's number; they take the place of the last letters of each id.
DIGITS: Final = 9
MARK: Final = "#" * DIGITS
# A power of three has no factor in common with one of ten: n * SCATTER mod 10**DIGITS takes each value once.
SCATTER: Final = 3**18
KINDS: Final = ("card", "subscription")

_ID: Final = re.compile(
    rb"(?:evt|cs_test|pi|ch|re|du|txn|in|inpay|il|sub|si|price|prod|pm|cus|req|key)_[0-9A-Za-z]{12,}"
)


@dataclass(frozen=True)
class Template:
    """An event's bytes, cut where a copy's number goes; `id_prefix` is its event id without the number."""

    pieces: tuple[bytes, ...]
    id_prefix: str
    type: str

    def copy(self, number: bytes) -> bytes:
        """The bytes of a copy; `number` has DIGITS digits."""
        return number.join(self.pieces)


def templates(run: str) -> list[list[Template]]:
    """The events of one life of each kind, in causal order. Ids begin with letters that depend on `run`."""
    return [cut(run, kind, kind, email=f"{kind}.{run.lower()}.{MARK}@example.com") for kind in KINDS]


def cut(run: str, name: str, kind: str, *, email: str, guest: bool = False) -> list[Template]:
    """The events of one life; `name` tells it from others of the run, and MARK stands in `email` for a copy's number."""
    told = life(
        kind,
        f"{run}-{name}",
        begins=int(time.time()) - 3_600,
        guest=guest,
        quote_id=f"Q-{run}-{name}-{MARK}",
        email=email,
    )
    return [_template(body(sent), str(sent["id"]), str(sent["type"])) for sent in told.events]


def _template(payload: bytes, event_id: str, event_type: str) -> Template:
    mark = MARK.encode()
    marked = _ID.sub(lambda found: found[0][:-DIGITS] + mark, payload)
    return Template(tuple(marked.split(mark)), event_id[:-DIGITS], event_type)


def fresh_run() -> str:
    """A name for a run that no other has."""
    return token(str(time.time_ns()), 6)


def quotes_like(run: str) -> str:
    """A LIKE pattern for the quotes of a run."""
    return f"Q-{run}-%"


def digits(number: int) -> bytes:
    """The number of a copy as it stands in its ids."""
    return b"%0*d" % (DIGITS, number * SCATTER % 10**DIGITS)


def numbered_lives(run: str, first: int, count: int) -> Iterator[list[tuple[str, bytes]]]:
    """`count` lives from number `first` on, kinds in turn; each a list of (event id, body)."""
    kinds = itertools.cycle(templates(run))
    for number in range(first, first + count):
        mark = digits(number)
        yield [(each.id_prefix + mark.decode(), each.copy(mark)) for each in next(kinds)]


def events_per_life(run: str) -> float:
    """On average over the kinds."""
    told = templates(run)
    return sum(map(len, told)) / len(told)
