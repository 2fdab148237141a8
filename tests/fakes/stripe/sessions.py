"""Checkout sessions: create, retrieve, list, expire."""

import math
from typing import Any, Final
from urllib.parse import urlsplit

from dev.stripe_checkout import checkout_session
from dev.stripe_events import Ids
from dev.stripe_objects import Purchase, purchase
from tests.fakes.stripe import coupons, customers
from tests.fakes.stripe.accounts import check_charges
from tests.fakes.stripe.errors import Invalid, Refused, no_such
from tests.fakes.stripe.payments import LiveStory, Payment
from tests.fakes.stripe.pricing import Price, lines_of, priced
from tests.fakes.stripe.shapes import Asked, JsonObject
from tests.fakes.stripe.world import World

SHORTEST: Final = 30 * 60
LONGEST: Final = 24 * 3_600
# What belongs to one mode only.
OF_MODE: Final = {
    "payment": ("payment_intent_data", "invoice_creation", "customer_creation"),
    "subscription": ("subscription_data",),
    "setup": ("setup_intent_data",),
}


def create(world: World, asked: Asked) -> JsonObject:
    """POST /v1/checkout/sessions."""
    p = asked.params
    _check(world, p)
    check_charges(world, asked.place.account)
    lines = lines_of(p)
    customer = _customer(world, asked)
    coupon = _coupon(world, asked, lines[0].currency)
    price = priced(lines, coupon)

    seed = f"{world.seed}/{next(world.numbers)}"
    owner = _purchase(seed, asked, price)
    story = LiveStory(world, owner, price)
    story.goes_on(asked.request_id)
    session = _session(world, asked, owner, price)
    session.update(
        customer=None if customer is None else customer["id"],
        customer_details=_prefilled(p.get("customer_email") if customer is None else customer["email"]),
        discounts=[] if coupon is None else [{"coupon": coupon["id"], "promotion_code": None}],
    )
    world.sessions.at(asked.place)[session["id"]] = session
    world.payments[session["id"]] = Payment(asked.place, price, session, story, p["success_url"], coupon)
    return session


def retrieve(world: World, asked: Asked) -> JsonObject:
    """GET /v1/checkout/sessions/{id}."""
    return expanded(world, _found(world, asked), asked.params.get("expand", []))


def lines(world: World, asked: Asked) -> JsonObject:
    """GET /v1/checkout/sessions/{id}/line_items."""
    return line_items(world.payments[_found(world, asked)["id"]])


def listed(world: World, asked: Asked) -> JsonObject:
    """GET /v1/checkout/sessions: newest first."""
    p = asked.params
    data = [one for one in reversed(world.sessions.at(asked.place).values()) if _matches(one, p)]
    ids = [one["id"] for one in data]
    if "starting_after" in p:
        data = data[_index(ids, p["starting_after"], "starting_after") + 1 :]
    if "ending_before" in p:
        data = data[: _index(ids, p["ending_before"], "ending_before")]
    most = p.get("limit", 10)
    if not 1 <= most <= 100:
        raise Invalid("Invalid integer: limit must be between 1 and 100", param="limit")
    page = data[-most:] if "ending_before" in p else data[:most]
    return {"object": "list", "url": "/v1/checkout/sessions", "has_more": len(data) > most, "data": page}


def expire(world: World, asked: Asked) -> JsonObject:
    """POST /v1/checkout/sessions/{id}/expire: only what is open can be expired."""
    found = _found(world, asked)
    if found["status"] != "open":
        raise Refused(
            400,
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of '
            f"`{found['status']}`.",
        )
    end(world.payments[found["id"]], asked.request_id)
    return found


def expire_due(world: World) -> None:
    """Expire what nobody paid in time."""
    for payment in world.payments.values():
        if payment.session["status"] == "open" and payment.session["expires_at"] <= world.now():
            end(payment, None)


def end(payment: Payment, request_id: str | None) -> None:
    """The session expires, with whatever was begun to pay it."""
    story = payment.story
    story.goes_on(request_id)
    story.expire(payment.session)
    if payment.subscription is not None and payment.invoice is not None:
        story.change("customer.subscription.updated", payment.subscription, status="incomplete_expired")
        story.change("invoice.voided", payment.invoice, status="void")


# Creating ------------------------------------------------------------------------------------------------------------


def _check(world: World, p: JsonObject) -> None:
    for name in ("mode", "success_url"):
        if name not in p:
            raise Invalid(f"Missing required param: {name}.", code="parameter_missing", param=name)
    if p["mode"] == "setup":
        raise Invalid("This stand-in has no setup mode", param="mode")
    for mode, names in OF_MODE.items():
        for name in names:
            if mode != p["mode"] and name in p:
                raise Invalid(f"You can not pass `{name}` in `{p['mode']}` mode.", param=name)
    for name in ("success_url", "cancel_url"):
        if name in p and (urlsplit(p[name]).scheme not in ("http", "https") or not urlsplit(p[name]).netloc):
            raise Invalid("Not a valid URL", code="url_invalid", param=name)
    if len(p.get("client_reference_id", "")) > 200:
        raise Invalid("Invalid string: client_reference_id takes up to 200 characters", param="client_reference_id")
    _check_buyer(p)
    _check_end(p.get("expires_at"), world.now())


def _check_buyer(p: JsonObject) -> None:
    if p.get("customer_email") and p.get("customer"):
        raise Invalid("You may only specify one of these parameters: customer, customer_email.", param="customer")
    if p.get("customer") and p.get("customer_creation"):
        raise Invalid("`customer_creation` can not be used with `customer`.", param="customer_creation")
    customers.check_email(p.get("customer_email"), "customer_email")


def _check_end(expires_at: int | None, now: float) -> None:
    if expires_at is None:
        return
    if expires_at < now + SHORTEST:
        message = "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation."
        raise Invalid(message, param="expires_at")
    if expires_at >= math.floor(now) + LONGEST:
        message = "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation."
        raise Invalid(message, param="expires_at")


def _customer(world: World, asked: Asked) -> JsonObject | None:
    customer_id = asked.params.get("customer")
    if not customer_id:
        return None
    found = world.customers_at(asked.place).get(customer_id)
    if found is None:
        raise no_such("customer", customer_id, param="customer")
    return found


def _coupon(world: World, asked: Asked, currency: str) -> JsonObject | None:
    discounts = asked.params.get("discounts") or []
    if not discounts:
        return None
    if asked.params.get("allow_promotion_codes"):
        message = "You may only specify one of these parameters: allow_promotion_codes, discounts."
        raise Invalid(message, param="allow_promotion_codes")
    if len(discounts) > 1:
        raise Invalid("You can only specify up to one discount.", param="discounts")
    if "coupon" not in discounts[0]:
        raise no_such("promotion code", str(discounts[0].get("promotion_code")), param="discounts[0][promotion_code]")
    return coupons.redeemable(world, asked.place, discounts[0]["coupon"], currency, "discounts[0][coupon]")


def _purchase(seed: str, asked: Asked, price: Price) -> Purchase:
    """What the story is about. Its metadata are those of the intent or the subscription."""
    p = asked.params
    carried = (p.get("payment_intent_data") or p.get("subscription_data") or {}).get("metadata") or {}
    return purchase(
        seed,
        currency=price.currency,
        amount=price.total,
        account=asked.place.of_event,
        livemode=asked.place.livemode,
        carriers=frozenset(),
        metadata=dict(carried),
    )


def _session(world: World, asked: Asked, owner: Purchase, price: Price) -> JsonObject:
    p, created = asked.params, int(world.now())
    session_id = Ids(f"{owner.seed}/session").draw("session")
    if asked.place.livemode:
        session_id = session_id.replace("cs_test_", "cs_live_", 1)
    discount = price.discount
    made = checkout_session(owner, session_id, created, mode=p["mode"], amount=price.total, discount=discount)
    kept = ("client_reference_id", "customer_email", "locale", "submit_type", "billing_address_collection")
    made.update({name: p.get(name) for name in kept})
    made.update(
        metadata=p.get("metadata") or {},
        success_url=p["success_url"],
        cancel_url=p.get("cancel_url"),
        expires_at=p.get("expires_at", created + LONGEST),
        url=f"{world.url}/pay/{session_id}",
    )
    if p["mode"] == "payment":
        made["customer_creation"] = p.get("customer_creation", None if p.get("customer") else "if_required")
    return made


def _prefilled(email: str | None) -> JsonObject | None:
    """What is known of the buyer before they come."""
    names = ("address", "business_name", "email", "individual_name", "name", "phone", "tax_ids")
    return {**dict.fromkeys(names), "email": email, "tax_exempt": "none"} if email else None


# Reading -------------------------------------------------------------------------------------------------------------


def _found(world: World, asked: Asked) -> JsonObject:
    expire_due(world)
    found = world.sessions.at(asked.place).get(asked.object_id)
    if found is None:
        raise no_such("checkout.session", asked.object_id)
    return found


def expanded(world: World, session: JsonObject, names: list[str]) -> JsonObject:
    """The session with what `expand` names in the place of ids."""
    payment = world.payments[session["id"]]
    there: dict[str, Any] = {
        "line_items": line_items(payment),
        "payment_intent": payment.intent,
        "subscription": payment.subscription,
        "invoice": payment.invoice,
        "customer": world.customers_at(payment.place).get(session["customer"]),
    }
    for name in names:
        if name.split(".")[0] not in there:
            raise Invalid(f"This property cannot be expanded ({name}).", param="expand")
    return {**session, **{name: there[name] for name in names if there.get(name) is not None}}


def line_items(payment: Payment) -> JsonObject:
    """The lines as Stripe lists them."""
    data = [
        {
            "id": f"li_{number}",
            "object": "item",
            "amount_subtotal": line.amount,
            "currency": line.currency,
            "description": line.name,
            "quantity": line.quantity,
        }
        for number, line in enumerate(payment.price.lines, 1)
    ]
    address = f"/v1/checkout/sessions/{payment.session['id']}/line_items"
    return {"object": "list", "data": data, "has_more": False, "url": address}


def _matches(session: JsonObject, p: JsonObject) -> bool:
    created = p.get("created", {})
    limits = {"gte": created, "lte": created} if isinstance(created, int) else created
    at = session["created"]
    within = limits.get("gte", at) <= at <= limits.get("lte", at) and limits.get("gt", at - 1) < at < limits.get(
        "lt", at + 1
    )
    same = all(
        session[name] == p[name] for name in ("customer", "payment_intent", "status", "subscription") if name in p
    )
    email = p.get("customer_details", {}).get("email")
    return within and same and email in (None, (session["customer_details"] or {}).get("email"))


def _index(ids: list[str], wanted: str, param: str) -> int:
    if wanted not in ids:
        raise no_such("checkout.session", wanted, param=param)
    return ids.index(wanted)
