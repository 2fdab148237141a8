"""Refunds: create, retrieve, list."""

from tests.fakes.stripe.errors import Invalid, Refused, no_such
from tests.fakes.stripe.payments import Payment
from tests.fakes.stripe.shapes import Asked, JsonObject, Place
from tests.fakes.stripe.world import World


def create(world: World, asked: Asked) -> JsonObject:
    """POST /v1/refunds of a charge or an intent: whole, or `amount` of it."""
    p = asked.params
    if ("charge" in p) == ("payment_intent" in p):
        raise Invalid("You must pass exactly one of `charge` or `payment_intent`.", param="charge")
    name = "charge" if "charge" in p else "payment_intent"
    payment = _paid_with(world, asked.place, name, p[name])
    made = refund(world, payment, p.get("amount"), request_id=asked.request_id)
    made.update(metadata=p.get("metadata") or {}, reason=p.get("reason"))
    return made


def refund(world: World, payment: Payment, amount: int | None, *, request_id: str | None) -> JsonObject:
    """Give `amount` (None: all that is left) back. Raises Refused."""
    charge = payment.charge
    if charge is None or charge["status"] != "succeeded":
        raise Refused(400, "This PaymentIntent does not have a successful charge to refund.", param="payment_intent")
    left = charge["amount_captured"] - charge["amount_refunded"]
    if left == 0:
        message = f"Charge {charge['id']} has already been refunded."
        raise Refused(400, message, code="charge_already_refunded")
    if amount is not None and not 0 < amount <= left:
        message = f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
        raise Refused(400, message, param="amount")
    payment.story.goes_on(request_id)
    made = payment.story.refund(charge, amount)
    world.refunds.at(payment.place)[made["id"]] = made
    return made


def retrieve(world: World, asked: Asked) -> JsonObject:
    """GET /v1/refunds/{id}."""
    found = world.refunds.at(asked.place).get(asked.object_id)
    if found is None:
        raise no_such("refund", asked.object_id)
    return found


def listed(world: World, asked: Asked) -> JsonObject:
    """GET /v1/refunds, of a charge or an intent."""
    p = asked.params
    names = [name for name in ("charge", "payment_intent") if name in p]
    held = reversed(world.refunds.at(asked.place).values())
    data = [one for one in held if all(one[name] == p[name] for name in names)]
    most = p.get("limit", 10)
    return {"object": "list", "url": "/v1/refunds", "has_more": len(data) > most, "data": data[:most]}


def _paid_with(world: World, place: Place, name: str, wanted: str) -> Payment:
    for payment in world.payments.values():
        found = payment.charge if name == "charge" else payment.intent
        if payment.place == place and found is not None and found["id"] == wanted:
            return payment
    raise no_such(name, wanted, param=name)
