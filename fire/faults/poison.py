"""Events that nobody can handle, signed and well-formed, in the middle of the stream; and one that ends its worker."""

import asyncio
import time
from typing import Any, Final

import msgspec

from dev.stripe_events import token
from fire.parked import named, parked
from fire.row import Broken, Row
from fire.system import System

# By worker: a type that it takes, and an object that no Stripe object of that kind looks like.
UNREADABLE: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "checkout": (
        "checkout.session.completed",
        {
            "id": "cs_poison",
            "object": "checkout.session",
            "amount_total": "much",
            "currency": "usd",
            "mode": "payment",
            "payment_status": "paid",
            "status": "complete",
            "metadata": {"quote_id": "Q-poison"},
        },
    ),
    "customer": ("customer.updated", {"id": 17, "object": "customer", "email": {}}),
    "charge": ("charge.succeeded", {"id": "ch_poison", "object": "charge", "amount": "much"}),
}
# Nobody but customers takes it, so nobody else dies of it.
ENDS_ITS_WORKER: Final = (
    "customer.updated",
    {"id": "cus_Poison0000000", "object": "customer", "email": "a@example.com"},
)


def _event(kind: str, payload: tuple[str, dict[str, Any]]) -> tuple[str, bytes]:
    now = int(time.time())
    event_id = f"evt_{token(f'{kind}{time.time_ns()}', 24)}"
    body = {
        "id": event_id,
        "object": "event",
        "api_version": "2025-03-31.basil",
        "created": now,
        "livemode": False,
        "type": payload[0],
        "data": {"object": payload[1]},
    }
    return event_id, msgspec.json.encode(body)


async def _unreadable(system: System) -> None:
    """Post one for each worker; every queue that takes its type has to park it."""
    posted = set()
    for kind, payload in UNREADABLE.items():
        event_id, body = _event(kind, payload)
        await system.stream.post(body)
        posted.add(event_id)
    await asyncio.sleep(SETTLES)
    db = await system.database()
    try:
        found = await parked(db, posted)
    finally:
        await db.close()
    if {one.split()[1] for one in found} != posted or not all(one.endswith("(unreadable_payload)") for one in found):
        raise Broken(f"not parked as it should be: {found}")
    system.poison |= set(found)


SETTLES: Final = 5.0


async def _ends_its_worker(system: System) -> None:
    event_id, body = _event("ends", ENDS_ITS_WORKER)
    wanted = named("customers", event_id, "crashed_worker")
    system.poison.add(wanted)
    dying = asyncio.create_task(system.dying_of("customers", event_id, wanted))
    await system.stream.post(body)
    await dying


ROWS: Final = (
    Row(
        "poison",
        "what nobody can read is parked with its reason by each worker; its neighbours are handled",
        15.0,
        _unreadable,
    ),
    Row(
        "poison-kills",
        "what ends its worker is tried alone, then parked; its neighbours are handled",
        45.0,
        _ends_its_worker,
        repeats_mail=20,
    ),
)
