"""One row of the fault table."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fire.system import System


@dataclass(frozen=True, slots=True)
class Row:
    """A fault, and what is promised of it. `inject` begins it, holds it and ends it; it returns when it is over.

    `bound`: seconds from the fault's end until every event that was accepted by then has each of its effects.
    `repeats_mail`: how many mails may come twice, with the same Message-ID.
    """

    name: str
    claim: str
    bound: float
    inject: Callable[[System], Awaitable[None]]
    repeats_mail: int = 0
    short: bool = False  # part of `make test`
