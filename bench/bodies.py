"""Lives by the hundred thousand: two lives are told once, and every copy gets ids of its own.

Telling a life takes longer than handling it. So each body is cut at the places where an id ends, and a copy is the
pieces joined with its number: the ids stay as long as Stripe's, and sort as Stripe's do. Those begin with the second in
which they were made (tests/bench/test_bodies.py shows it of recorded ones), so a copy's number, which grows, ends them. Those
of sessions and requests are random; so are here, at worst, quotes' ids and e-mail addresses: they have the number scattered
over all that DIGITS digits can say.
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
SCATTERED: Final = "*" * DIGITS
QUOTE_ID: Final = "Q-{run}-{name}-{number}"
# A power of three has no factor in common with one of ten: n * SCATTER mod 10**DIGITS takes each value once.
SCATTER: Final = 3**18
KINDS: Final = ("card", "subscription")

_ID: Final = re.compile(rb"(?:evt|pi|ch|re|du|txn|in|inpay|il|sub|si|price|prod|pm|cus)_[0-9A-Za-z]{12,}")
_SESSION_PREFIX: Final = "cs_test_a1"
_SESSION: Final = re.compile(rb"%s[0-9A-Za-z]{30,}" % _SESSION_PREFIX.encode())
_REQUEST: Final = re.compile(rb"(?:req|key)_[0-9A-Za-z]{12,}")


@dataclass(frozen=True)
class Template:
    """An event's bytes, cut where a copy's number goes; `id_prefix` is its event id without the number."""

    pieces: tuple[bytes, ...]
    id_prefix: str
    type: str

    def copy(self, number: bytes) -> bytes:
        """The bytes of a copy; `number` has DIGITS digits."""
        return number.join(self.pieces).replace(SCATTERED.encode(), scattered(number))


def templates(run: str) -> list[list[Template]]:
    """The events of one life of each kind, in causal order. Ids begin with letters that depend on `run`."""
    return [cut(run, kind, kind, email=f"{kind}.{run.lower()}.{SCATTERED}{MARK}@example.com") for kind in KINDS]


def cut(run: str, name: str, kind: str, *, email: str, guest: bool = False) -> list[Template]:
    """The events of one life; `name` tells it from others of the run, and MARK stands in `email` for a copy's number."""
    told = life(
        kind,
        f"{run}-{name}",
        begins=int(time.time()) - 3_600,
        guest=guest,
        quote_id=QUOTE_ID.format(run=run, name=name, number=SCATTERED + MARK),
        email=email,
    )
    return [_template(body(sent), str(sent["id"]), str(sent["type"])) for sent in told.events]


def _template(payload: bytes, event_id: str, event_type: str) -> Template:
    mark, mixed = MARK.encode(), SCATTERED.encode()
    marked = _ID.sub(lambda found: found[0][:-DIGITS] + mark, payload)
    begins = len(_SESSION_PREFIX)
    marked = _SESSION.sub(lambda found: found[0][:begins] + mixed + found[0][begins + DIGITS : -DIGITS] + mark, marked)
    marked = _REQUEST.sub(lambda found: found[0][:-DIGITS] + mixed, marked)
    return Template(tuple(marked.split(mark)), event_id[:-DIGITS], event_type)


def stem(object_id: str) -> str:
    """What the ids of an object and of all its copies have in common."""
    begins = len(_SESSION_PREFIX)
    if object_id.startswith(_SESSION_PREFIX):
        object_id = object_id[:begins] + object_id[begins + DIGITS :]
    return object_id[:-DIGITS]


def fresh_run() -> str:
    """A name for a run that no other has."""
    return token(str(time.time_ns()), 6)


def quote_id_of(run: str, name: str, number: bytes) -> str:
    """The quote of the copy with that number (DIGITS digits)."""
    return QUOTE_ID.format(run=run, name=name, number=(scattered(number) + number).decode())


def quotes_like(run: str) -> str:
    """A LIKE pattern for the quotes of a run."""
    return f"Q-{run}-%"


def digits(number: int) -> bytes:
    """The number of a copy as it stands in its ids."""
    return b"%0*d" % (DIGITS, number)


def scattered(number: bytes) -> bytes:
    """The number (DIGITS digits) as it stands in random ids; no two numbers become the same."""
    return b"%0*d" % (DIGITS, int(number) * SCATTER % 10**DIGITS)


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
