"""What is wrong with a quote that somebody wants to publish, or worth knowing about it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fault:
    """One broken rule: its id (`R11`; `format` where a field cannot be read), the line it is about (from 1; None for the
    quote), a code for programs, a message for people, what was given and what is allowed.
    """

    rule: str
    code: str
    message: str
    line: int | None = None
    given: Any = None
    allowed: Any = None


@dataclass
class Faults:
    """Gathers faults, so that a publish that breaks several rules is answered with all of them at once."""

    found: list[Fault] = field(default_factory=list)

    def add(
        self, rule: str, code: str, message: str, *, line: int | None = None, given: Any = None, allowed: Any = None
    ) -> None:
        """Note one more."""
        self.found.append(Fault(rule, code, message, line, given, allowed))
