"""What a check of `quittance doctor` says: one line in words, and, where something is wrong, its cure."""

from collections.abc import Callable, Coroutine
from typing import Any, Literal

import msgspec

State = Literal["ok", "note", "warning", "fault"]


class Check(msgspec.Struct, frozen=True):
    """One thing looked at. `note`: nothing is wrong, or it cannot be told; `warning`: a person should look."""

    area: str
    state: State
    says: str
    cure: str | None = None


class Area:
    """Gathers the checks of one area."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checks: list[Check] = []

    def ok(self, says: str) -> None:
        """It is as it should be."""
        self.checks.append(Check(self.name, "ok", says))

    def note(self, says: str) -> None:
        """Nothing is wrong with it, or that cannot be told from here."""
        self.checks.append(Check(self.name, "note", says))

    def warning(self, says: str, cure: str) -> None:
        """It works, and a person should look."""
        self.checks.append(Check(self.name, "warning", says, cure))

    def fault(self, says: str, cure: str) -> None:
        """It does not work."""
        self.checks.append(Check(self.name, "fault", says, cure))


Checking = Callable[[], Coroutine[Any, Any, list[Check]]]
