"""Customers: list by e-mail, create, retrieve."""

import re
from typing import Any

from tests.fakes.stripe.errors import Invalid, no_such
from tests.fakes.stripe.shapes import Asked, JsonObject, Place
from tests.fakes.stripe.world import World


def add(world: World, email: str | None, place: Place, **fields: Any) -> JsonObject:
    """A customer that is there without a call, and without an event."""
    customer: JsonObject = {
        "id": f"cus_{world.seed[:4]}{next(world.numbers):010d}",
        "object": "customer",
        "address": None,
        "created": int(world.now()),
        "currency": None,
        "description": None,
        "email": email,
        "livemode": place.livemode,
        "metadata": {},
        "name": None,
        "phone": None,
        **fields,
    }
    world.customers_at(place)[customer["id"]] = customer
    return customer


def listed(world: World, asked: Asked) -> JsonObject:
    """GET /v1/customers: newest first; the e-mail compares letter by letter, and sees what was just written."""
    held, email = world.customers_at(asked.place), asked.params.get("email")
    data = [one for one in reversed(held.values()) if email in (None, one["email"])]
    most = asked.params.get("limit", 10)
    return {"object": "list", "url": "/v1/customers", "has_more": len(data) > most, "data": data[:most]}


def create(world: World, asked: Asked) -> JsonObject:
    """POST /v1/customers. E-mails are not unique."""
    p = asked.params
    check_email(p.get("email"), "email")
    kept = {name: p[name] for name in ("name", "description", "phone", "metadata", "address") if p.get(name)}
    made = add(world, p.get("email") or None, asked.place, **kept)
    world.emit(asked.place, "customer.created", made, request_id=asked.request_id)
    return made


def retrieve(world: World, asked: Asked) -> JsonObject:
    """GET /v1/customers/{id}: one that was deleted says so, and nothing else."""
    if asked.object_id in world.deleted_customers:
        return {"id": asked.object_id, "object": "customer", "deleted": True}
    found = world.customers_at(asked.place).get(asked.object_id)
    if found is None:
        raise no_such("customer", asked.object_id)
    return found


def delete(world: World, customer_id: str, place: Place) -> None:
    """Somebody deletes a customer in Stripe."""
    found = world.customers_at(place).pop(customer_id)
    world.deleted_customers.add(customer_id)
    world.emit(place, "customer.deleted", found)


def check_email(email: str | None, param: str) -> None:
    """Raises Invalid for what Stripe does not take for an address."""
    if email and not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        raise Invalid(f"Invalid email address: {email}", code="email_invalid", param=param)
