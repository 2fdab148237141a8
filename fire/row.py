"""One row of the fault table."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fire.places import Place
from fire.system import System

Inject = Callable[[System], Awaitable[None]]


class Broken(Exception):
    """A promise that an injection itself saw broken; the message says which."""


@dataclass(frozen=True, slots=True)
class Row:
    """A fault, and what is promised of it. `inject` begins it, holds it and ends it; it returns when it is over.

    `bound`: seconds from the fault's end until every event that was accepted by then has each of its effects.
    `repeats_mail`: how many mails may come twice, with the same Message-ID. `after`: what is to be put right once every
    promise was looked at.
    """

    name: str
    claim: str
    bound: float
    inject: Inject
    repeats_mail: int = 0
    short: bool = False  # part of `make test`
    place: Place = "plain"
    guests: bool = False  # buyers who are no customers at Stripe yet
    statuses: frozenset[int] = frozenset()  # answers that the sender may get, besides 200 and 503
    after: Inject | None = None
