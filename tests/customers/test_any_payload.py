"""Payloads of any age and shape: read, or rejected; never another error."""

import json
from pathlib import Path
from typing import Any

import pytest
from asyncpg.pool import Pool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quittance.errors import Rejected
from quittance.event import Event
from tests.customers.address_events import event
from tests.support.handling import accepted, run_handler
from workers import customers
from workers.runtime import batch

TYPES = customers.QUEUE.bindings["stripe.events"]

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(["ann@example.com", "A@b", "cus_1", "Q-1", "paid", "a\x00@b", "\ud800@b", "x" * 300, ""])
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
FIELDS = (
    "id",
    "email",
    "customer",
    "customer_details",
    "customer_email",
    "metadata",
    "client_reference_id",
    "payment_link",
    "payment_status",
    "status",
    "mode",
    "amount_total",
    "currency",
    "created",
    "parent",
    "subscription_details",
    "lines",
    "collected_information",
)
# Close to what Stripe sends: the right fields, mostly of the right type.
LIKELY = {
    "id": st.sampled_from(["cus_1", "cus_2", "cs_1"]),
    "customer": st.sampled_from(["cus_1", None]),
    "customer_details": st.fixed_dictionaries(
        {}, optional={"email": SCALARS, "name": SCALARS, "business_name": ANYTHING}
    ),
    "metadata": st.fixed_dictionaries(
        {}, optional={"quote_id": st.sampled_from(["Q-1", 7]), "quote_revision": SCALARS}
    ),
    "payment_status": st.sampled_from(["paid", "unpaid", "new word"]),
}
OBJECTS = st.fixed_dictionaries(
    {}, optional={field: LIKELY[field] | ANYTHING if field in LIKELY else ANYTHING for field in FIELDS}
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(st.tuples(st.sampled_from(TYPES), OBJECTS, OBJECTS | st.none()), min_size=1, max_size=3))
async def test_any_object_is_read_or_rejected(database: Pool, told: list[tuple[str, Any, Any]]) -> None:
    """INVARIANT: whatever a payload holds, the handler takes it or raises Rejected. Anything else would be retried in vain."""
    events: list[Event] = []
    for event_type, subject, previous in told:
        try:
            events.append(event(event_type, subject, previous=previous))
        except ValueError:  # no body could have brought this through the ingress
            continue
    for one in events:
        try:
            await run_handler(customers, [one], database)
        except Rejected:
            continue


@pytest.mark.parametrize("body", ['{"id":"e","type":"customer.updated"}', '{"id":"e","type":"invoice.paid","data":[]}'])
async def test_an_event_without_an_object_is_rejected(database: Pool, body: str) -> None:
    """INVARIANT: nothing to read is unreadable, not nothing to do."""
    with pytest.raises(Rejected):
        await run_handler(customers, [accepted(body.encode())], database)


async def test_recorded_payloads_of_every_age_are_taken(database: Pool, payloads: Path) -> None:
    """INVARIANT: none of the real payloads that the queue gets fails, alone or in one batch."""
    events = []
    for number, path in enumerate(sorted(payloads.glob("*.json"))):
        body = json.loads(path.read_text())
        if isinstance(body, dict) and body.get("type") in TYPES and isinstance(body.get("id"), str):
            events.append(replace(accepted(body), id=f"evt_recorded_{number}"))
    assert len(events) > 10
    for one in events:
        await run_handler(customers, [one], database)
    again = [replace(one, replay_id="again") for one in events]
    handled = await batch.run(database, "customers", customers.handle, again)
    assert handled.emitted == []
