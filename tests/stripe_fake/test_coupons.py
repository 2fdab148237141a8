"""Coupons, what they take off, and that they cannot be had twice under one id."""

from typing import Any

import pytest
import stripe

from tests.fakes.stripe import StripeApi
from tests.stripe_fake.conftest import SELLER, Client, line


async def coupon(client: Client, **given: Any) -> stripe.Coupon:
    """5.00 EUR off, once; changed by `given`."""
    params: Any = {"id": "q-1", "amount_off": 500, "currency": "eur", "duration": "once", **given}
    sent: Any = {name: value for name, value in params.items() if value is not None}
    return await client.v1.coupons.create_async(sent)


async def test_create_retrieve_delete(client: Client, fake: StripeApi) -> None:
    """INVARIANT: it is there as made, until deleted; each is told."""
    made = await coupon(client, name="Spring", metadata={"quote_id": "Q-1"})
    found = await client.v1.coupons.retrieve_async("q-1")
    assert found.to_dict() == made.to_dict()
    assert (found.amount_off, found.currency, found.duration, found.valid) == (500, "eur", "once", True)
    gone = await client.v1.coupons.delete_async("q-1")
    assert gone.deleted
    with pytest.raises(stripe.InvalidRequestError) as missing:
        await client.v1.coupons.retrieve_async("q-1")
    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")
    assert fake.webhooks.types() == ["coupon.created", "coupon.deleted"]


async def test_an_id_is_taken_once(client: Client) -> None:
    """INVARIANT: the same id is refused, also with the same content; in another account it is free."""
    await coupon(client)
    with pytest.raises(stripe.InvalidRequestError) as taken:
        await coupon(client)
    assert (taken.value.http_status, taken.value.code) == (400, "resource_already_exists")
    await client.v1.coupons.create_async({"id": "q-1", "percent_off": 5}, {"stripe_account": SELLER})


async def test_an_update_is_possible_and_seen(client: Client, fake: StripeApi) -> None:
    """INVARIANT: name and metadata only; a test that must prove that nobody does it would see it in `calls`."""
    await coupon(client, name="Spring")
    await client.v1.coupons.update_async("q-1", {"name": "Summer"})
    assert fake.events[-1]["type"] == "coupon.updated"
    assert fake.events[-1]["data"]["previous_attributes"] == {"name": "Spring"}
    assert fake.calls_of("POST", "/v1/coupons/q-1")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.coupons.update_async("q-1", {"amount_off": 1})  # type: ignore[arg-type]
    assert refused.value.code == "parameter_unknown"


@pytest.mark.parametrize(
    "given",
    [
        {"amount_off": None},
        {"percent_off": 5},
        {"currency": None},
        {"currency": "xyz"},
        {"amount_off": 0},
        {"amount_off": None, "percent_off": 101},
        {"duration": "for a while"},
        {"duration": "repeating"},
        {"duration_in_months": 3},
        {"name": "N" * 41},
    ],
)
async def test_what_is_no_coupon(client: Client, given: dict[str, Any]) -> None:
    """INVARIANT: Stripe's own rules."""
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await coupon(client, **given)
    assert refused.value.http_status == 400


@pytest.mark.parametrize(
    ("given", "total"),
    [
        ({"amount_off": 500}, 1_000),
        ({"amount_off": 9_999}, 0),
        ({"amount_off": None, "currency": None, "percent_off": 33.3}, 1_000),  # 499.5 is rounded up
        ({"amount_off": None, "currency": None, "percent_off": 100}, 0),
    ],
)
async def test_what_it_takes_off(client: Client, given: dict[str, Any], total: int) -> None:
    """INVARIANT: from what there is, never below nothing; rounded half up."""
    await coupon(client, **given)
    made = await client.session(discounts=[{"coupon": "q-1"}])
    assert (made.amount_subtotal, made.amount_total) == (1_500, total)
    assert made.total_details.amount_discount == 1_500 - total
    assert [each.coupon for each in made.discounts] == ["q-1"]


@pytest.mark.parametrize(("duration", "first", "later"), [("once", 5_900, 4_900), ("forever", 5_900, 4_400)])
async def test_once_or_for_ever(client: Client, fake: StripeApi, duration: str, first: int, later: int) -> None:
    """INVARIANT: the first invoice has all lines less the discount; a renewal the recurring ones, less it again or not."""
    await coupon(client, duration=duration)
    made = await client.subscription(discounts=[{"coupon": "q-1"}])
    assert made.amount_total == first
    await fake.pay(made.id)
    await fake.renew(made.id)
    bills = [event["data"]["object"] for event in fake.events if event["type"] == "invoice.paid"]
    assert [bill["amount_paid"] for bill in bills] == [first, later]
    assert [[each["amount"] for each in bill["lines"]["data"]] for bill in bills] == [[1_500, 4_900], [4_900]]


async def test_a_coupon_that_cannot_be_had(client: Client, fake: StripeApi) -> None:
    """INVARIANT: of another currency, used up, or over: no session."""
    await coupon(client, id="usd", currency="usd")
    await coupon(client, id="one", max_redemptions=1)
    await coupon(client, id="over", redeem_by=int(fake.now()) + 60)
    first = await client.session(discounts=[{"coupon": "one"}])
    await fake.pay(first.id)
    await fake.advance(61)
    for coupon_id in ("usd", "one", "over"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await client.session(discounts=[{"coupon": coupon_id}])
        assert refused.value.param == "discounts[0][coupon]"


async def test_a_deleted_coupon_leaves_open_sessions_alone(client: Client, fake: StripeApi) -> None:
    """INVARIANT: who has the discount keeps it."""
    await coupon(client)
    made = await client.session(discounts=[{"coupon": "q-1"}], line_items=[line(2_000)])
    await client.v1.coupons.delete_async("q-1")
    await fake.pay(made.id)
    assert fake.payment(made.id).charge is not None
    assert fake.payment(made.id).session["amount_total"] == 1_500
