"""Events to the broker, each confirmed by a majority of its queues' nodes before anybody is told that we have it."""

import time
from typing import Final, Literal

from ingest.connection import Absence, Connection
from ingest.metrics import CONFIRM_SECONDS, IN_FLIGHT
from quittance.broker import STRIPE_EVENTS, BrokerAway, NotInTime, NotTaken, Unroutable
from quittance.event import Event
from quittance.wire import Wire

Reason = (
    Absence
    | Literal[
        "too_many_waiting",
        "not_confirmed",  # in time; it may have been stored all the same
        "unroutable",  # no queue is bound
        "queue_refused",  # a queue is full
    ]
)

BUDGET: Final = 4.0  # seconds that a confirm may take: less than any load balancer waits, or Stripe
MOST_WAITING: Final = 500  # events without a confirm; a hundred are enough for full speed


class NotDurable(Exception):
    """The event is not known to be stored: whoever sent it must send it again."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class Publisher:
    """Publishes events to `stripe.events`: any number at once, on one channel, each waiting for its own confirm."""

    def __init__(self, connection: Connection, *, budget: float = BUDGET, most_waiting: int = MOST_WAITING) -> None:
        self._connection = connection
        self._budget = budget
        self._most_waiting = most_waiting
        self._waiting = 0
        IN_FLIGHT.set_function(lambda: self._waiting)

    @property
    def hindrance(self) -> Reason | None:
        """Why nothing can be published now; None when the broker can be used."""
        return self._connection.hindrance

    async def publish(self, event: Event) -> None:
        """Return when a majority of each target queue's nodes has stored `event`. Raises NotDurable otherwise."""
        link = self._connection.link
        if hindrance := self.hindrance:
            raise NotDurable(hindrance)
        if link is None:
            raise NotDurable("broker_away")
        if self._waiting >= self._most_waiting:
            raise NotDurable("too_many_waiting")
        self._waiting += 1
        started = time.perf_counter()
        try:
            await self._confirm(link, event)
        finally:
            self._waiting -= 1
        CONFIRM_SECONDS.observe(time.perf_counter() - started)

    async def _confirm(self, link: Wire, event: Event) -> None:
        try:
            await link.publish(STRIPE_EVENTS, event.type, event.body, event.headers(), event.type, timeout=self._budget)
        except NotInTime:
            raise NotDurable("not_confirmed") from None
        except BrokerAway:
            raise NotDurable("broker_away") from None
        except Unroutable:
            raise NotDurable("unroutable") from None
        except NotTaken:
            self._connection.refused(link)
            raise NotDurable("queue_refused") from None
