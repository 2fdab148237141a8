"""Coupons: create, retrieve, delete; update too, so that a test can prove that it is never called."""

from tests.fakes.stripe import money
from tests.fakes.stripe.errors import Invalid, Refused, no_such
from tests.fakes.stripe.shapes import Asked, JsonObject, Place
from tests.fakes.stripe.world import World


def create(world: World, asked: Asked) -> JsonObject:
    """POST /v1/coupons. An id that is taken is refused, whatever it stands for."""
    p = asked.params
    _check(p)
    coupon_id = p.get("id") or world.ids.draw("coupon")
    held = world.coupons.at(asked.place)
    if coupon_id in held:
        raise Refused(400, "Coupon already exists.", code="resource_already_exists", param="id")
    made: JsonObject = {
        "id": coupon_id,
        "object": "coupon",
        "amount_off": p.get("amount_off"),
        "created": int(world.now()),
        "currency": p["currency"].lower() if "amount_off" in p else None,
        "duration": p.get("duration", "once"),
        "duration_in_months": p.get("duration_in_months"),
        "livemode": asked.place.livemode,
        "max_redemptions": p.get("max_redemptions"),
        "metadata": p.get("metadata") or {},
        "name": p.get("name"),
        "percent_off": float(p["percent_off"]) if "percent_off" in p else None,
        "redeem_by": p.get("redeem_by"),
        "times_redeemed": 0,
        "valid": True,
    }
    held[coupon_id] = made
    world.emit(asked.place, "coupon.created", made, request_id=asked.request_id)
    return made


def retrieve(world: World, asked: Asked) -> JsonObject:
    """GET /v1/coupons/{id}."""
    return _found(world, asked)


def update(world: World, asked: Asked) -> JsonObject:
    """POST /v1/coupons/{id}: name and metadata, all that Stripe lets anybody change."""
    found = _found(world, asked)
    changes: JsonObject = {name: asked.params[name] for name in ("name", "metadata") if name in asked.params}
    previous: JsonObject = {name: found[name] for name in changes}
    found.update(changes)
    world.emit(asked.place, "coupon.updated", found, previous=previous, request_id=asked.request_id)
    return found


def delete(world: World, asked: Asked) -> JsonObject:
    """DELETE /v1/coupons/{id}. Sessions that have it keep their discount; nobody else gets it."""
    found = _found(world, asked)
    del world.coupons.at(asked.place)[found["id"]]
    world.emit(asked.place, "coupon.deleted", {**found, "valid": False}, request_id=asked.request_id)
    return {"id": found["id"], "object": "coupon", "deleted": True}


def redeemable(world: World, place: Place, coupon_id: str, currency: str, param: str) -> JsonObject:
    """The coupon that a session in `currency` asks for. Raises Refused where it can't be had."""
    found = world.coupons.at(place).get(coupon_id)
    if found is None:
        raise no_such("coupon", coupon_id, param=param)
    if found["redeem_by"] is not None and found["redeem_by"] <= world.now():
        found["valid"] = False
    if not found["valid"]:
        raise Refused(400, f"Coupon expired: {coupon_id}", code="coupon_expired", param=param)
    if found["currency"] not in (None, currency):
        message = f"The coupon '{coupon_id}' is in {found['currency']} and can't be used with prices in {currency}."
        raise Refused(400, message, param=param)
    return found


def redeem(found: JsonObject) -> None:
    """A session that has the coupon is complete."""
    found["times_redeemed"] += 1
    found["valid"] = found["valid"] and found["times_redeemed"] != found["max_redemptions"]


def _found(world: World, asked: Asked) -> JsonObject:
    found = world.coupons.at(asked.place).get(asked.object_id)
    if found is None:
        raise no_such("coupon", asked.object_id)
    return found


def _check(p: JsonObject) -> None:
    if ("amount_off" in p) == ("percent_off" in p):
        raise Invalid("You must pass exactly one of `percent_off` or `amount_off`.", param="percent_off")
    if "amount_off" in p:
        if "currency" not in p:
            raise Invalid("You must pass `currency` when passing `amount_off`.", param="currency")
        currency = money.currency_of(p["currency"], "currency")
        if not 0 < p["amount_off"] <= money.MOST:
            raise Invalid("Invalid positive integer", code="parameter_invalid_integer", param="amount_off")
        money.check_multiple(p["amount_off"], currency, "amount_off")
    elif not 0 < p["percent_off"] <= 100:
        raise Invalid("Invalid percent_off: must be greater than 0 and less than or equal to 100", param="percent_off")
    if (p.get("duration") == "repeating") != ("duration_in_months" in p):
        raise Invalid("`duration_in_months` goes with `duration=repeating`.", param="duration_in_months")
    if len(p.get("name", "")) > 40:
        raise Invalid(
            "Invalid string: name must be at most 40 characters", code="parameter_invalid_string", param="name"
        )
