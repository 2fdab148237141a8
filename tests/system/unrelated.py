"""What happens on a Stripe account besides quotes: events by the hundred thousand, real in shape, small in bytes."""

import json
import re
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

from dev.lives import life
from dev.stripe_events import SHAPES
from quittance.event import Event
from tests.support.handling import accepted

# Charges, intents, sessions, refunds, disputes, invoices, subscriptions; no `customer.*`: those are the address book.
NAMES = ("card", "refunded", "dispute_lost", "declined_then_expired", "debit_settles", "free", "subscription_renewed")
DIGITS = 9

_ID = re.compile(r'"((?:evt|cs_test|pi|ch|re|du|txn|in|inpay|il|sub|si|price|prod|pm|cus|req)_[0-9A-Za-z]{12,})"')
# Half of an event's bytes, and nothing that any worker reads.
_BULK = {
    "payment_method_details", "payment_method_options", "billing_details", "outcome", "evidence", "automatic_tax",
    "invoice_settings", "status_transitions", "request", "shipping_address_collection", "custom_text", "address",
}  # fmt: skip

# Sessions that say something, but not that they are for a quote of ours (S1).
NOT_QUITE: tuple[dict[str, Any], ...] = (
    {},
    {"client_reference_id": "order-4711"},
    {"client_reference_id": "Q-4711", "payment_link": "plink_1Unrelated000000"},  # what a buyer wrote into an address
    {"metadata": {"order_id": "Q-4711", "owner_email": "somebody@example.com"}},
    {"metadata": {"quote_id": ""}, "client_reference_id": "see Q-4711"},
)


def templates(begins: int) -> list[str]:
    """Bodies with a mark where each id has its number."""
    found: list[str] = []
    for number, (name, shape) in enumerate((name, shape) for name in NAMES for shape in SHAPES):
        told = life(name, f"unrelated-{number}", shape=shape, begins=begins, carriers=frozenset())
        for sent in told.events:
            if sent["type"] == "customer.created":
                continue
            subject = _small(sent["data"]["object"])
            if sent["type"].startswith("checkout.session."):
                subject |= NOT_QUITE[len(found) % len(NOT_QUITE)]
            found.append(_marked(_small(sent) | {"data": {"object": subject}}))
    return found


def _small(given: Any) -> Any:
    """Without what is null or bulky, as Stripe's older and thinner events are."""
    if isinstance(given, dict):
        return {key: _small(value) for key, value in given.items() if value is not None and key not in _BULK}
    return [_small(each) for each in given] if isinstance(given, list) else given


def _marked(sent: Any) -> str:
    text = json.dumps(sent, separators=(",", ":"))
    return _ID.sub(lambda found: f'"{found[1][:-DIGITS]}{"#" * DIGITS}"', text)


def unrelated(number: int, begins: int) -> Iterator[Event]:
    """So many events, each with an id of its own; copies of a life have ids of their own throughout."""
    marked = templates(begins)
    for position, text in enumerate(islice(cycle(marked), number)):
        yield accepted(text.replace("#" * DIGITS, f"{position // len(marked):0{DIGITS}}").encode())
