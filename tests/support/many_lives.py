"""Hundreds of lives with known ends: those that dev/lives.py tells, in every variant, and those that hypothesis makes up.

A life's events are in causal order. What it must come to is reckoned by the pure fold of that order, and, for the lives
of dev/lives.py, by hand (`expected`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from dev.lives import LIVES, Expected, life
from dev.stripe_events import SHAPES
from quittance.domain.quote import OWN_TYPES
from quittance.event import Event
from tests.support.crm_side import QuoteKey
from tests.support.folding import final, fold
from tests.support.random_lives import as_event, lives

ACCOUNT = "acct_1Test00000000000"

# The same seed in each, so that the same quote id lives in four scopes, which never meet (S1): a quote named by all
# carriers; by the session alone, so that ties decide; by `client_reference_id` alone; and one whose owner nobody knows.
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"account": ACCOUNT, "carriers": frozenset({"metadata"})},
    {"livemode": True, "carriers": frozenset({"reference"})},
    {"account": ACCOUNT, "livemode": True, "guest": False, "owner_email": None},
)


@dataclass(frozen=True)
class Story:
    """All events of one quote, our own included, and, where a person has reckoned it, what it must come to."""

    name: str
    events: Sequence[Event]
    expected: Expected | None = None
    email: str | None = None

    @property
    def begins_a_quote(self) -> bool:
        """Whether any of it makes a quote."""
        return bool(self.events) and bool(fold(self.events)[0].quotes)

    @cached_property
    def end(self) -> dict[str, Any]:
        """What the pure fold of the causal order comes to; without what other workers fill in."""
        (told,) = final(fold(self.events)[0]).values()
        return {name: value for name, value in told.items() if name not in ("customer", "documents")}

    @cached_property
    def key(self) -> QuoteKey:
        """The quote."""
        return self.end["account"], self.end["livemode"], self.end["quote_id"]

    @property
    def from_stripe(self) -> list[Event]:
        """What comes in by the front door."""
        return [event for event in self.events if event.type not in OWN_TYPES]

    @property
    def our_own(self) -> list[Event]:
        """What others publish inside (quote.published, …), as the outbox takes it."""
        own = (event for event in self.events if event.type in OWN_TYPES)
        return [msgspec.structs.replace(event, stream=self.key[2], routing_key=event.type) for event in own]


def lately() -> int:
    """Three days ago, at midnight: nothing of it is old enough to be looked up in the archive, where ties are concerned."""
    return int(time.time()) // 86_400 * 86_400 - 3 * 86_400


def told_lives(run: str, variants: Sequence[dict[str, Any]] = VARIANTS, names: Sequence[str] = ()) -> list[Story]:
    """Every life of dev/lives.py (those of `names`) in both shapes and each of the `variants`."""
    stories = []
    for variant in variants:
        for shape in SHAPES:
            for name in names or LIVES:
                told = life(name, f"{run}-{name}-{shape}", shape=shape, begins=lately(), **variant)
                events = [as_event(sent) for sent in told.events]
                stories.append(Story(f"{name} {shape} {variant}", events, told.expected, told.purchase.email))
    return stories


def made_up_lives(number: int, seed: int) -> list[Story]:
    """Lives that hypothesis draws: the same ones for the same seed (nothing is kept, shrunk or tried again)."""
    stories: list[Story] = []
    numbers = count(1)

    @seeded(seed)
    @settings(
        max_examples=2 * number,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        # The name makes ids and addresses, and nothing that is drawn depends on it.
        name = f"made-up-{seed}-{next(numbers)}"
        story = Story(name, data.draw(lives(seed=name, begins=lately())))
        if len(stories) < number and story.begins_a_quote:  # a session that nobody touched may leave nothing at all
            stories.append(story)

    draw()
    assert len(stories) == number, len(stories)
    return stories
