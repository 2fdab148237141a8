"""What the demo sends: eight quotes, each event twice and shuffled, a forged signature and a poison event."""

import random
import time
from dataclasses import dataclass
from typing import Final

from dev.lives import Life, life
from dev.story import DAY, Story
from dev.stripe_events import SHAPES, Json, Shape, body, token
from dev.stripe_objects import purchase

SECRET: Final = "whsec_demo_of_quittance"  # noqa: S105 - made up, and good for the demo's own ingest only
WRONG_SECRET: Final = "whsec_of_somebody_else"  # noqa: S105 - likewise

OWNER: Final = "seller@example.com"

# Today's shape comes from our own account, the older one from a connected account.
ACCOUNTS: Final[dict[Shape, str | None]] = {"endive": None, "acacia": "acct_1Demo00000000000"}

TOLD: Final = ("card", "subscription", "refunded", "dispute_won")


@dataclass(frozen=True)
class Scenario:
    """Everything that is sent, and in which order."""

    run: str
    lives: list[Life]
    poison: Json
    forged: Json

    def genuine(self) -> list[Json]:
        """The events that must be accepted, each once."""
        return [*(sent for each in self.lives for sent in each.events), self.poison]

    def deliveries(self, seed: int) -> list[bytes]:
        """Each accepted event twice, in an order that `seed` shuffles."""
        bodies = [body(sent) for sent in self.genuine() for _ in range(2)]
        random.Random(seed).shuffle(bodies)  # noqa: S311 - an order, no secret
        return bodies


def scenario(run: str) -> Scenario:
    """The demo's quotes, named after `run`; paid some days ago, so that the last step of the longest life is past."""
    now = int(time.time())
    lives = []
    for days, (name, shape) in enumerate((name, shape) for name in TOLD for shape in SHAPES):
        number = days + 1
        lives.append(
            life(
                name,
                f"{run}-{number}",
                shape=shape,
                account=ACCOUNTS[shape],
                begins=now - (6 + days) * DAY,
                quote_id=f"Q-{run}-{number}",
                owner_email=OWNER,
                currency="eur" if days % 2 else "usd",
            )
        )
    return Scenario(run, lives, poison_event(run, now), _forged_event(run, now))


def poison_event(run: str, now: int) -> Json:
    """Signed and well formed, but its amount is a text: it can never be handled."""
    story = Story(purchase(f"{run}-poison", quote_id=f"Q-{run}-poison", begins=now - DAY))
    session = story.open_session()
    session["amount_total"] = "twelve"
    story.complete(session, payment_status="unpaid")
    return story.events[0]


def _forged_event(run: str, now: int) -> Json:
    return life("card", f"{run}-forged", begins=now - DAY, quote_id=f"Q-{run}-forged").events[-2]


def run_name() -> str:
    """A short name that makes this run's quotes its own."""
    return token(str(time.time_ns()), 4).upper()


def paid_at(told: Life) -> int | None:
    """The least time of an event that shows an object of the first purchase paid (S2), in Unix seconds."""
    times = [int(sent["created"]) for sent in told.events if _shows_paid(sent["data"]["object"])]
    return min(times, default=None)


def _shows_paid(subject: Json) -> bool:
    kind = subject["object"]
    if kind == "checkout.session":
        return subject["payment_status"] in ("paid", "no_payment_required")
    if kind == "charge":
        return bool(subject["status"] == "succeeded" and subject["amount_captured"] > 0)
    return bool(kind == "invoice" and subject["status"] == "paid")
