"""The event in a delivery; a message that is none of ours gets a name to be filed by."""

import time
from hashlib import sha256

from quittance.errors import Rejected
from quittance.event import OWN_ACCOUNT, Cause, Event, from_message
from quittance.wire import Delivery
from workers.runtime import failures


def event_in(delivery: Delivery) -> Event:
    """The event, or for a message that is none of ours a stand-in: named by its message id, or by what it says."""
    try:
        return from_message(delivery.headers, delivery.type, delivery.body)
    except Rejected:
        name = failures.storable(delivery.message_id or f"body:{sha256(delivery.body).hexdigest()}", 255)
        event_type = failures.storable(delivery.type or "unknown", 255)
    return Event(
        id=name,
        type=event_type,
        account=OWN_ACCOUNT,
        livemode=False,
        created=0,
        received_at=time.time(),
        body=delivery.body,
        cause=Cause(name, event_type),
    )
