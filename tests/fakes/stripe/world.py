"""What Stripe knows: accounts, customers, coupons, sessions and what was paid on them, and its clock."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from dev.stripe_events import Ids, event
from tests.fakes.stripe.accounts import Accounts
from tests.fakes.stripe.shapes import JsonObject, Objects, Place
from tests.fakes.stripe.webhooks import Webhooks

if TYPE_CHECKING:
    from tests.fakes.stripe.payments import Payment


@dataclass
class World:
    """The state behind the API and the hosted page. Ids differ from one world to the next."""

    seed: str = field(default_factory=lambda: secrets.token_hex(8))
    url: str = ""
    webhooks: Webhooks = field(default_factory=Webhooks)
    customers: dict[tuple[str, bool], dict[str, JsonObject]] = field(default_factory=dict)
    deleted_customers: set[str] = field(default_factory=set)
    coupons: Objects = field(default_factory=Objects)
    sessions: Objects = field(default_factory=Objects)
    refunds: Objects = field(default_factory=Objects)
    payments: dict[str, "Payment"] = field(default_factory=dict)  # by session id
    accounts: Accounts = field(default_factory=Accounts)
    debits_settle_after: float | None = None  # seconds; None: when `settle` is called
    clock: Callable[[], float] = time.time
    ahead: float = 0.0  # seconds by which this clock is ahead of the machine's

    def __post_init__(self) -> None:
        """Ids begin."""
        self.ids = Ids(self.seed)
        self.numbers = count(1)

    def now(self) -> float:
        """Unix seconds by Stripe's clock."""
        return self.clock() + self.ahead

    def customers_at(self, place: Place) -> dict[str, JsonObject]:
        """The customers of one place."""
        return self.customers.setdefault(place, {})

    def emit(
        self,
        place: Place,
        event_type: str,
        subject: JsonObject,
        *,
        previous: JsonObject | None = None,
        request_id: str | None = None,
    ) -> JsonObject:
        """Something happened to `subject`, and the endpoints are told."""
        sent = event(
            self.ids.draw("event"),
            event_type,
            subject,
            created=int(self.now()),
            livemode=place.livemode,
            account=place.of_event,
            previous=previous,
            request_id=request_id,
        )
        self.webhooks.publish(sent)
        return sent
