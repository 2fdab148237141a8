"""What is known of a Stripe account (R4, R6): whether it is connected, whether it takes payments, its name and country.

Facts come as webhooks, in any order and more than once, and as Stripe's answers to what we ask. What is kept of them is
the same whatever the order: sets and greatest times, joined. Times are Unix seconds by Stripe's clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from quittance.domain.payload import StripeObject, text

UPDATED: Final = "account.updated"
AUTHORISED: Final = "account.application.authorized"
DEAUTHORISED: Final = "account.application.deauthorized"

# An account may have been connected at several times; what is kept of them are the newest.
MOST_CONNECTIONS: Final = 20
# Stripe tells of some changes several times within a second; more than this is nobody's history.
MOST_OF_A_SECOND: Final = 50


@dataclass(frozen=True)
class Said:
    """One thing that an event said: its value, and, where the event says so, what it was before."""

    value: Any
    before: Any = None


@dataclass(frozen=True)
class Reading:
    """The newest second in which something was said, and by which events; "" is an answer to a question of ours."""

    at: int
    said: Mapping[str, Said]

    def join(self, other: "Reading | None") -> "Reading":
        """What both have. Commutative, associative, idempotent."""
        if other is None or other.at < self.at:
            return self
        if other.at > self.at:
            return other
        both = {
            event_id: max((said[event_id] for said in (self.said, other.said) if event_id in said), key=repr)
            for event_id in self.said.keys() | other.said.keys()
        }
        return Reading(self.at, dict(sorted(both.items())[-MOST_OF_A_SECOND:]))

    @property
    def value(self) -> Any:
        """What stands at the end of that second: a value that another event of it names as the former one does not. An
        answer of ours was read in that second or before, so any event's word is newer.
        """
        told = [said for event_id, said in sorted(self.said.items()) if event_id] or list(self.said.values())
        former = {said.before for said in told if said.before is not None and said.before != said.value}
        last = [said.value for said in told if said.value not in former] or [said.value for said in told]
        # Of an account that was activated and the contrary within a second, Stripe judges at Check out.
        return True if True in last else last[-1]


@dataclass(frozen=True)
class Account:
    """All facts of one account in one mode. `|` joins two."""

    connections: frozenset[int] = frozenset()  # when somebody connected it
    deauthorised: int | None = None  # when that was last taken back, by them or by us
    readings: Mapping[str, Reading] = field(default_factory=dict)  # charges_enabled, name, country

    def __or__(self, other: "Account") -> "Account":
        readings = dict(self.readings)
        for name, reading in other.readings.items():
            readings[name] = reading.join(readings.get(name))
        connections = sorted(self.connections | other.connections)[-MOST_CONNECTIONS:]
        ends = [at for at in (self.deauthorised, other.deauthorised) if at is not None]
        return Account(frozenset(connections), max(ends, default=None), readings)

    @property
    def is_deauthorised(self) -> bool:
        """Whether the last that happened was that it was taken back; in doubt (the same second) it was."""
        return self.deauthorised is not None and not self._since(self.deauthorised)

    @property
    def connected_since(self) -> int | None:
        """The first time that it was connected since it was last taken back, if ever; of one taken back the last time."""
        if self.deauthorised is None:
            return min(self.connections, default=None)
        return min(self._since(self.deauthorised), default=None) or max(self.connections, default=None)

    def was_connected(self, before: int) -> bool:
        """Whether it stood connected just before the time `before`, as far as its connections tell."""
        return any(self.deauthorised is None or at > self.deauthorised for at in self.connections if at < before)

    def get(self, name: str) -> Any:
        """`charges_enabled` (bool), `name` or `country` (text); None where Stripe has not said."""
        reading = self.readings.get(name)
        return None if reading is None else reading.value

    def _since(self, end: int) -> list[int]:
        return [at for at in self.connections if at > end]

    def to_json(self) -> dict[str, Any]:
        """What the database keeps; `from_json` is the inverse."""
        return {
            "connections": sorted(self.connections),
            "deauthorised": self.deauthorised,
            "readings": {
                name: {
                    "at": reading.at,
                    "said": {event_id: [said.value, said.before] for event_id, said in reading.said.items()},
                }
                for name, reading in sorted(self.readings.items())
            },
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """The facts that `to_json` wrote; {} are none."""
        readings = {
            name: Reading(each["at"], {event_id: Said(*said) for event_id, said in each["said"].items()})
            for name, each in kept.get("readings", {}).items()
        }
        return cls(frozenset(kept.get("connections", ())), kept.get("deauthorised"), readings)


def connected(at: int) -> Account:
    """It was connected at that time."""
    return Account(connections=frozenset({at}))


def deauthorised(at: int) -> Account:
    """The connection was taken back at that time, by its owner or by us."""
    return Account(deauthorised=at)


def described(account: StripeObject, at: int, event_id: str = "", previous: StripeObject | None = None) -> Account:
    """What Stripe's account object says, of an event, or of an answer to us that was read no earlier than `at`.

    What an object leaves out, says without a value, or with one of another type, it does not say.
    """
    readings = {}
    enabled = account.get("charges_enabled")
    if isinstance(enabled, bool):
        before = (previous or {}).get("charges_enabled")
        said = Said(enabled, before if isinstance(before, bool) else None)
        readings["charges_enabled"] = Reading(at, {event_id: said})
    name = text(account, "business_profile", "name") or text(account, "settings", "dashboard", "display_name")
    for field_name, value in (("name", name), ("country", text(account, "country"))):
        if value is not None:
            readings[field_name] = Reading(at, {event_id: Said(value)})
    return Account(readings=readings)


def account_fact(
    event_type: str, obj: StripeObject, previous: StripeObject, *, account: str, own: bool, at: int, event_id: str
) -> Account:
    """What an event says of the account that it was sent for; `own` where that is the key's own, which nobody connects."""
    if event_type == UPDATED:
        # Of a connected account the event names it twice; one that contradicts itself says nothing of either.
        return described(obj, at, event_id, previous) if own or obj.get("id") == account else Account()
    if own:
        return Account()  # somebody dealt with another's application: the key's own account needs no leave
    return connected(at) if event_type == AUTHORISED else deauthorised(at)
