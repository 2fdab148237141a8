"""Checkout sessions: what Stripe itself allows, computes and remembers."""

import time
from typing import Any

import pytest
import stripe

from tests.fakes.stripe import StripeApi
from tests.stripe_fake.conftest import SELLER, Client, line, payment

MONTHLY: dict[str, Any] = {"recurring": {"interval": "month"}}


async def refusal(client: Client, **changed: Any) -> stripe.StripeError:
    """How a session with these parameters is refused."""
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.session(**changed)
    assert refused.value.http_status == 400
    return refused.value


async def test_what_is_asked_for_is_what_there_is(client: Client, fake: StripeApi) -> None:
    """INVARIANT: the session says what was asked, with the totals; no event goes out for it."""
    ends = int(time.time()) + 7_200
    made = await client.session(
        line_items=[line(1_500, 2), line(333, 3)],
        client_reference_id="Q-1",
        metadata={"quote_id": "Q-1"},
        customer_email="ann@example.com",
        locale="sv",
        expires_at=ends,
    )
    assert (made.object, made.status, made.payment_status, made.mode) == (
        "checkout.session",
        "open",
        "unpaid",
        "payment",
    )
    assert (made.amount_subtotal, made.amount_total, made.currency) == (3_999, 3_999, "eur")
    assert (made.client_reference_id, made.metadata.to_dict()) == ("Q-1", {"quote_id": "Q-1"})
    assert (made.customer_email, made.customer, made.locale, made.expires_at) == ("ann@example.com", None, "sv", ends)
    assert made.customer_details.email == "ann@example.com"
    assert made.url == f"{fake.url}/pay/{made.id}"
    assert made.id.startswith("cs_test_")
    assert not made.livemode
    assert fake.events == []
    same = await client.v1.checkout.sessions.retrieve_async(made.id, {"expand": ["line_items"]})
    assert (same.id, same.amount_total) == (made.id, 3_999)
    assert same.line_items is not None
    assert [item.amount_subtotal for item in same.line_items.data] == [3_000, 999]
    listed = await client.v1.checkout.sessions.line_items.list_async(made.id)
    assert [item.quantity for item in listed.data] == [2, 3]


async def test_it_lives_a_day_unless_told(client: Client) -> None:
    """INVARIANT: 24 hours by default."""
    made = await client.session(expires_at=None)
    assert made.expires_at == made.created + 86_400


@pytest.mark.parametrize("seconds", [-60, 0, 1_799, 86_401, 90_000])
async def test_it_lives_between_half_an_hour_and_a_day(client: Client, seconds: int) -> None:
    """INVARIANT: an end outside of that is refused, and no key keeps the refusal."""
    refused = await refusal(client, expires_at=int(time.time()) + seconds, key="k")
    assert refused.param == "expires_at"  # type: ignore[attr-defined]
    await client.session(expires_at=int(time.time()) + 1_860, key="k")


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"line_items": [line(), line(currency="usd")]}, "line_items"),
        ({"line_items": [line(**MONTHLY)]}, "line_items"),
        ({"line_items": [line()], "mode": "subscription"}, "line_items"),
        ({"line_items": [line()] * 101}, "line_items"),
        ({"line_items": [line(**MONTHLY)] * 21, "mode": "subscription"}, "line_items"),
        ({"line_items": [line(**MONTHLY)] + [line()] * 21, "mode": "subscription"}, "line_items"),
        ({"line_items": [line(**MONTHLY), line(recurring={"interval": "year"})], "mode": "subscription"}, "line_items"),
        ({"line_items": [{"price": "price_1", "quantity": 1}]}, "line_items[0][price]"),
        ({"line_items": [{"price_data": line()["price_data"]}]}, "line_items[0][quantity]"),
        ({"line_items": [line(quantity=0)]}, "line_items[0][quantity]"),
        ({"line_items": [line(-1)]}, "line_items[0][price_data][unit_amount]"),
        ({"line_items": [line(currency="sek"), line(currency="xyz")]}, "line_items[1][price_data][currency]"),
        ({"line_items": [line(550, currency="isk")]}, "line_items[0][price_data][unit_amount]"),
        ({"line_items": [line(5_123, currency="kwd")]}, "line_items[0][price_data][unit_amount]"),
        (
            {"line_items": [line(recurring={"interval": "month", "interval_count": 37})], "mode": "subscription"},
            "line_items[0][price_data][recurring][interval_count]",
        ),
        ({"line_items": None}, "line_items"),
        ({"subscription_data": {"metadata": {"quote_id": "Q"}}}, "subscription_data"),
        (
            {
                "mode": "subscription",
                "line_items": [line(**MONTHLY)],
                "payment_intent_data": {"metadata": {"quote_id": "Q"}},
            },
            "payment_intent_data",
        ),
        ({"customer": "cus_nobody"}, "customer"),
        ({"customer": "cus_nobody", "customer_email": "ann@example.com"}, "customer"),
        ({"discounts": [{"coupon": "none"}]}, "discounts[0][coupon]"),
        ({"discounts": [{"coupon": "a"}, {"coupon": "b"}]}, "discounts"),
        ({"discounts": [{"coupon": "a"}], "allow_promotion_codes": True}, "allow_promotion_codes"),
        ({"client_reference_id": "Q" * 201}, "client_reference_id"),
    ],
)
async def test_stripes_own_rules(client: Client, fake: StripeApi, changed: dict[str, Any], param: str) -> None:
    """INVARIANT: what Stripe would refuse is refused, with the parameter named; nothing is made."""
    refused = await refusal(client, **changed)
    assert refused.param == param  # type: ignore[attr-defined]
    assert fake.sessions_of() == []


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [(49, "eur", "amount_too_small"), (299, "sek", "amount_too_small"), (999_999_999_999, "eur", "amount_too_large")],
)
async def test_the_smallest_and_the_largest_charge(client: Client, amount: int, currency: str, code: str) -> None:
    """INVARIANT: limits by currency, on the total: one line below them is fine with another."""
    many = 1 if code == "amount_too_small" else 2
    refused = await refusal(client, line_items=[line(amount, many, currency=currency)])
    assert refused.code == code
    if code == "amount_too_small":
        await client.session(line_items=[line(amount, 3, currency=currency)])


async def test_the_largest_sessions(client: Client) -> None:
    """INVARIANT: 100 lines of a payment; 20 recurring and 20 one-time lines of a subscription."""
    assert (await client.session(line_items=[line()] * 100)).amount_total == 150_000
    lines = [line(**MONTHLY)] * 20 + [line()] * 20
    assert (await client.session(mode="subscription", line_items=lines)).amount_total == 60_000


async def test_a_customer_is_given_not_guessed(client: Client, fake: StripeApi) -> None:
    """INVARIANT: the customer must be there, in the same account; deleted is not there."""
    there = fake.add("ann@example.com")
    elsewhere = fake.add("ann@example.com", account=SELLER)
    made = await client.session(customer=there["id"])
    assert (made.customer, made.customer_email, made.customer_details.email) == (there["id"], None, "ann@example.com")
    assert (await refusal(client, customer=elsewhere["id"])).code == "resource_missing"
    fake.delete(there["id"])
    assert (await refusal(client, customer=there["id"])).code == "resource_missing"
    gone = await client.v1.customers.retrieve_async(there["id"])
    assert gone.to_dict() == {"id": there["id"], "object": "customer", "deleted": True}


async def test_a_session_is_of_one_account_and_mode(client: Client, live_client: Client) -> None:
    """INVARIANT: elsewhere it does not exist: 404, and not in the list."""
    made = await client.session(account=SELLER)
    with pytest.raises(stripe.InvalidRequestError) as own:
        await client.v1.checkout.sessions.retrieve_async(made.id)
    with pytest.raises(stripe.InvalidRequestError) as live:
        await live_client.v1.checkout.sessions.expire_async(made.id, options={"stripe_account": SELLER})
    for refused in (own, live):
        assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
    assert (await client.v1.checkout.sessions.list_async()).data == []
    found = await client.v1.checkout.sessions.retrieve_async(made.id, options={"stripe_account": SELLER})
    assert found.id == made.id
    live_made = await live_client.session()
    assert live_made.id.startswith("cs_live_")
    assert live_made.livemode


async def test_an_account_that_may_not_charge(client: Client, fake: StripeApi) -> None:
    """INVARIANT: no session, until it may again."""
    fake.change_account(SELLER, charges_enabled=False)
    assert "cannot currently make live charges" in str(await refusal(client, account=SELLER))
    fake.change_account(SELLER, charges_enabled=True)
    await client.session(account=SELLER)


async def test_expire(client: Client, fake: StripeApi) -> None:
    """INVARIANT: what is open is expired, and that is told; anything else is refused."""
    made = await client.session()
    expired = await client.v1.checkout.sessions.expire_async(made.id)
    assert (expired.status, expired.url) == ("expired", None)
    assert [(event["type"], event["data"]["object"]["id"]) for event in fake.events] == [
        ("checkout.session.expired", made.id)
    ]
    for status in ("expired", "complete"):
        if status == "complete":
            made = await client.session()
            await fake.pay(made.id)
        with pytest.raises(stripe.InvalidRequestError, match=f"has a status of `{status}`") as refused:
            await client.v1.checkout.sessions.expire_async(made.id)
        assert refused.value.http_status == 400


async def test_time_expires_a_session(client: Client, fake: StripeApi) -> None:
    """INVARIANT: at expires_at, and not a moment before; once."""
    made = await client.session(expires_at=int(time.time()) + 1_860)
    await fake.advance(1_800)
    assert (await client.v1.checkout.sessions.retrieve_async(made.id)).status == "open"
    await fake.advance(61)
    assert (await client.v1.checkout.sessions.retrieve_async(made.id)).status == "expired"
    await fake.advance(90_000)
    assert fake.webhooks.types() == ["checkout.session.expired"]


async def test_the_list(client: Client, fake: StripeApi) -> None:
    """INVARIANT: newest first, by what is asked, page by page."""
    made = [(await client.session(metadata={"n": str(n)})).id for n in range(5)]
    await fake.advance(100)
    made.append((await client.session(customer_email="ann@example.com")).id)
    await fake.pay(made[0])

    async def ids(**asked: Any) -> list[str]:
        page = await client.v1.checkout.sessions.list_async(asked)  # type: ignore[arg-type]
        return [one.id for one in page.data]

    newest = made[::-1]
    assert await ids() == newest
    assert await ids(limit=2) == newest[:2]
    assert await ids(limit=2, starting_after=newest[1]) == newest[2:4]
    assert await ids(limit=2, ending_before=newest[4]) == newest[2:4]
    assert await ids(status="complete") == [made[0]]
    assert await ids(created={"gte": int(time.time()) + 50}) == [made[5]]
    assert await ids(created={"lt": int(time.time()) + 50}) == newest[1:]
    assert await ids(customer_details={"email": "ann@example.com"}) == [made[5]]
    assert (await client.v1.checkout.sessions.list_async({"limit": 5})).has_more


async def test_what_is_nowhere(client: Client) -> None:
    """INVARIANT: an unknown session and an unknown address are 404."""
    with pytest.raises(stripe.InvalidRequestError) as unknown:
        await client.v1.checkout.sessions.retrieve_async("cs_test_unknown")
    assert unknown.value.http_status == 404
    with pytest.raises(stripe.InvalidRequestError) as nowhere:
        await client.v1.products.list_async()
    assert nowhere.value.http_status == 404


async def test_a_wrong_key(fake: StripeApi) -> None:
    """INVARIANT: 401, whatever is asked."""
    stranger = Client(fake.url, "sk_test_stranger")
    with pytest.raises(stripe.AuthenticationError):
        await stranger.session(**payment())
    await stranger.http.close_async()  # type: ignore[no-untyped-call]
