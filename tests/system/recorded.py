"""Recorded payloads (STRIPE_PAYLOADS): whole events as they are, and objects of API answers made into events here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from quittance.event import Event
from tests.support.handling import accepted

Json = dict[str, Any]

API_VERSIONS = {"acacia": "2025-02-24.acacia", "clover": "2025-10-29.clover", "dahlia": "2026-03-25.dahlia"}

# The event that would show such an object, where its name and status do not say.
TYPES = {
    ("charge", "succeeded"): "charge.succeeded",
    ("checkout.session", "open"): "checkout.session.expired",  # Stripe tells of an open session only when it ends
    ("customer", None): "customer.updated",
    ("invoice", "draft"): "invoice.created",
    ("payment_intent", "requires_capture"): "payment_intent.amount_capturable_updated",
    ("refund", "succeeded"): "refund.created",
    ("subscription", "active"): "customer.subscription.updated",
}


def whole_events(folder: Path) -> list[Event]:
    """The recorded events, each under an id of its own: the first of several with one id keeps it, and with it its
    bytes; the others are written anew with another.
    """
    seen: set[str] = set()
    events = []
    for number, path in enumerate(sorted(folder.glob("*.json"))):
        body = path.read_bytes()
        sent = json.loads(body)
        if sent.get("object") != "event":
            continue
        if sent["id"] in seen:
            body = json.dumps({**sent, "id": f"{sent['id']}_{number}"}, indent=2).encode()
        seen.add(sent["id"])
        events.append(accepted(body))
    return events


class Answer(NamedTuple):
    """An object as Stripe's API answered it."""

    name: str
    release: str
    object: Json


def answers(folder: Path) -> Iterator[Answer]:
    """Every recorded answer of the versions of 2025 and 2026."""
    for path in sorted((folder / "api_responses").glob("*.json")):
        release = path.name.removeprefix("pay_").partition("_")[0]
        yield Answer(path.name, release, json.loads(path.read_bytes()))


def answer(folder: Path, name: str) -> Answer:
    """One of them."""
    (found,) = (one for one in answers(folder) if one.name == f"pay_{name}.json")
    return found


def wrapped(given: Answer, event_type: str = "", **changes: Any) -> Event:
    """An event about the object: derived, for no such event was recorded. `changes` are set in the object."""
    obj = {**given.object, **changes}
    kind, status = str(obj["object"]), obj.get("status")
    sent = {
        "id": f"evt_derived_{given.name.removesuffix('.json')}_{event_type or 'as_it_is'}",
        "object": "event",
        "api_version": API_VERSIONS[given.release],
        "created": obj.get("created") or 1_790_000_000,
        "data": {"object": obj},
        "livemode": False,
        "type": event_type or TYPES.get((kind, status)) or f"{kind}.{status or 'updated'}",
    }
    return accepted(json.dumps(sent, indent=2).encode())
