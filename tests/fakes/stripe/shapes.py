"""What the parts of the stand-in hand to each other."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

JsonObject = dict[str, Any]


class Place(NamedTuple):
    """Where an object lives: `self` is the platform's own account. Objects of one place do not exist in another."""

    account: str
    livemode: bool

    @property
    def of_event(self) -> str | None:
        """The account as an event names it: only those of connected accounts do."""
        return None if self.account == "self" else self.account


@dataclass(frozen=True)
class Asked:
    """A call whose parameters have been checked. `object_id` is the id in the address."""

    place: Place
    params: JsonObject
    request_id: str
    object_id: str = ""


class Call(NamedTuple):
    """One call as it came in, and how it was answered (0 while it is not)."""

    method: str
    path: str
    account: str
    livemode: bool
    key: str | None
    params: dict[str, str]
    status: int


@dataclass
class Objects:
    """Stripe's objects of one kind, by place and id, oldest first."""

    by_place: dict[tuple[str, bool], dict[str, JsonObject]] = field(default_factory=dict)

    def at(self, place: Place) -> dict[str, JsonObject]:
        """Those of one place; what is put there stays."""
        return self.by_place.setdefault(place, {})
