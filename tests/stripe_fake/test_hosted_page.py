"""The page on which a buyer pays, and what follows from each of its buttons."""

import asyncio
import re
import time
from typing import Any

import aiohttp
import pytest
import stripe

from tests.fakes.stripe import NotOpen, StripeApi
from tests.stripe_fake.conftest import SELLER, Client, Listener, line
from tests.support.polling import eventually

ANN = {"email": "ann@example.com", "name": "Ann Other"}


async def press(http: aiohttp.ClientSession, url: str, action: str, **fields: str) -> tuple[int, str, str]:
    """Submit the page: status, where to, and the page that came instead."""
    async with http.post(url, data={**ANN, "action": action, **fields}, allow_redirects=False) as answer:
        return answer.status, answer.headers.get("Location", ""), await answer.text()


async def page(http: aiohttp.ClientSession, url: str) -> str:
    """The page as a browser gets it."""
    async with http.get(url) as answer:
        assert answer.content_type == "text/html"
        return await answer.text()


async def test_the_page_is_a_form_that_anybody_can_use(client: Client, http: aiohttp.ClientSession) -> None:
    """INVARIANT: labels, buttons, the way back, what is to be paid; text from outside is text."""
    lines = [line(1_500, 2, product_data={"name": "<b>Thing</b>"}), line(4_900, recurring={"interval": "month"})]
    made = await client.session(mode="subscription", line_items=lines)
    html = await page(http, made.url)
    for label in ("email", "name"):
        assert f'<label for="{label}">' in html
    assert re.findall(r'<button name="action" value="\w+">([^<]+)</button>', html) == [
        "Pay",
        "Pay by bank debit",
        "Card declined",
    ]
    assert '<a href="https://quotes.example.com/q/t">Back</a>' in html
    assert "2 x &lt;b&gt;Thing&lt;/b&gt;" in html
    assert "49.00 EUR every month" in html
    assert "79.00 EUR" in html


async def test_a_card(client: Client, http: aiohttp.ClientSession, listener: Listener, fake: StripeApi) -> None:
    """INVARIANT: sent on at once; the events of a one-time payment by a guest, with the metadata where they were put."""
    made = await client.session(
        client_reference_id="Q-1", metadata={"quote_id": "Q-1"}, payment_intent_data={"metadata": {"quote_id": "Q-1i"}}
    )
    status, onward, _ = await press(http, made.url, "pay")
    assert (status, onward) == (303, f"https://quotes.example.com/q/t/return?session={made.id}")
    await fake.webhooks.delivered()
    assert listener.types() == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
        "charge.updated",
    ]
    intent, charge, _, session, _ = (event["data"]["object"] for event in listener.events)
    assert (intent["metadata"], charge["metadata"]) == ({"quote_id": "Q-1i"}, {"quote_id": "Q-1i"})
    assert (session["metadata"], session["client_reference_id"]) == ({"quote_id": "Q-1"}, "Q-1")
    assert (session["status"], session["payment_status"], session["payment_intent"]) == (
        "complete",
        "paid",
        intent["id"],
    )
    assert (session["customer"], session["customer_details"]["email"]) == (None, "ann@example.com")
    assert charge["amount_captured"] == session["amount_total"] == 1_500
    assert session["id"] == made.id


async def test_a_session_is_paid_once(client: Client, http: aiohttp.ClientSession, fake: StripeApi) -> None:
    """INVARIANT: two clicks, two tabs, two buyers at once: one payment; the page says that it is done."""
    made = await client.session()
    answers = await asyncio.gather(*(press(http, made.url, "pay") for _ in range(5)))
    assert sorted(status for status, _, _ in answers) == [303, 409, 409, 409, 409]
    assert fake.webhooks.types().count("charge.succeeded") == 1
    assert "all done here" in await page(http, made.url)
    with pytest.raises(NotOpen):
        await fake.pay(made.id)


async def test_a_declined_card_may_be_followed_by_another(
    client: Client, http: aiohttp.ClientSession, fake: StripeApi
) -> None:
    """INVARIANT: the session stays open, with one intent for all tries."""
    made = await client.session()
    status, _, html = await press(http, made.url, "decline")
    assert status == 402
    assert 'role="alert"' in html
    assert 'value="ann@example.com"' in html
    assert (await client.v1.checkout.sessions.retrieve_async(made.id)).status == "open"
    assert fake.webhooks.types() == ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]
    assert (await press(http, made.url, "pay"))[0] == 303
    assert fake.webhooks.types().count("payment_intent.created") == 1


@pytest.mark.parametrize("paid", [True, False])
async def test_a_debit_is_decided_later(
    client: Client, http: aiohttp.ClientSession, fake: StripeApi, paid: bool
) -> None:
    """INVARIANT: complete and unpaid until the bank decides, once."""
    made = await client.session()
    assert (await press(http, made.url, "debit"))[0] == 303
    waiting = await client.v1.checkout.sessions.retrieve_async(made.id)
    assert (waiting.status, waiting.payment_status) == ("complete", "unpaid")
    await fake.settle(made.id, paid=paid)
    settled = await client.v1.checkout.sessions.retrieve_async(made.id)
    assert settled.payment_status == ("paid" if paid else "unpaid")
    word = "succeeded" if paid else "failed"
    assert fake.webhooks.types()[-1] == f"checkout.session.async_payment_{word}"
    with pytest.raises(Exception, match="no debit"):
        await fake.settle(made.id)


async def test_a_debit_may_settle_by_itself(client: Client) -> None:
    """INVARIANT: for a person who clicks through a demo."""
    async with StripeApi.running(debits_settle_after=0.05) as fake:
        there = Client(fake.url)
        made = await there.session()
        await fake.pay(made.url, "debit")
        await eventually(lambda: "checkout.session.async_payment_succeeded" in fake.webhooks.types())
        await there.http.close_async()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("how", ["card", "debit"])
async def test_a_subscription(client: Client, fake: StripeApi, how: Any) -> None:
    """INVARIANT: a customer, a subscription with the recurring lines, a first invoice with all, tied to its intent."""
    made = await client.subscription(subscription_data={"metadata": {"quote_id": "Q-1"}})
    await fake.pay(made.id, how, email="ann@example.com")
    if how == "debit":
        await fake.settle(made.id)
    at = fake.payment(made.id)
    assert at.subscription is not None and at.invoice is not None and at.intent is not None
    assert [item["price"]["unit_amount"] for item in at.subscription["items"]["data"]] == [4_900]
    assert (at.subscription["status"], at.subscription["metadata"]) == ("active", {"quote_id": "Q-1"})
    assert (at.invoice["status"], at.invoice["amount_paid"], len(at.invoice["lines"]["data"])) == ("paid", 6_400, 2)
    assert (at.session["subscription"], at.session["invoice"]) == (at.subscription["id"], at.invoice["id"])
    assert (at.session["payment_intent"], at.session["payment_status"]) == (None, "paid")
    assert fake.customers["self", False][at.session["customer"]]["email"] == "ann@example.com"
    (tie,) = (event["data"]["object"] for event in fake.events if event["type"] == "invoice_payment.paid")
    assert (tie["invoice"], tie["payment"]["payment_intent"]) == (at.invoice["id"], at.intent["id"])
    assert fake.webhooks.types().count("charge.succeeded") == 1


async def test_a_known_buyer_cannot_be_somebody_else(
    client: Client, http: aiohttp.ClientSession, fake: StripeApi
) -> None:
    """INVARIANT: with a customer or an e-mail given, the page's field is fixed, and what is posted in it is ignored."""
    there = fake.add("Known@example.com")
    for given in ({"customer": there["id"]}, {"customer_email": "Known@example.com"}):
        made = await client.session(**given)
        assert 'value="Known@example.com" readonly' in await page(http, made.url)
        assert (await press(http, made.url, "pay"))[0] == 303
        session = fake.payment(made.id).session
        assert (session["customer"], session["customer_details"]["email"]) == (
            given.get("customer"),
            "Known@example.com",
        )
    assert fake.made() == 1


async def test_a_quote_for_nothing(client: Client, fake: StripeApi) -> None:
    """INVARIANT: a discount of everything: no payment required, no charge."""
    await client.v1.coupons.create_async({"id": "all", "percent_off": 100})
    made = await client.session(discounts=[{"coupon": "all"}])
    assert await fake.pay(made.id) is not None
    assert fake.payment(made.id).session["payment_status"] == "no_payment_required"
    assert "charge.succeeded" not in fake.webhooks.types()


@pytest.mark.parametrize("fields", [{"name": ""}, {"email": "ann"}, {"action": "steal"}])
async def test_a_form_that_is_not_filled_in(
    client: Client, http: aiohttp.ClientSession, fake: StripeApi, fields: dict[str, str]
) -> None:
    """INVARIANT: said, and nothing happens."""
    made = await client.session()
    status, _, html = await press(http, made.url, **{"action": "pay", **fields})
    assert status == 400
    assert 'role="alert"' in html
    assert fake.events == []


async def test_a_session_that_ended(client: Client, http: aiohttp.ClientSession, fake: StripeApi) -> None:
    """INVARIANT: expired by API or by time, with its page open: the page says so, and nobody can pay."""
    by_api = await client.session()
    await client.v1.checkout.sessions.expire_async(by_api.id)
    by_time = await client.session(expires_at=int(time.time()) + 1_860)
    fake.ahead += 1_900
    for made in (by_api, by_time):
        status, _, html = await press(http, made.url, "pay")
        assert status == 409
        assert "has expired" in html
        assert "has expired" in await page(http, made.url)
    assert fake.webhooks.types() == ["checkout.session.expired"] * 2
    async with http.get(f"{fake.url}/pay/cs_test_unknown") as unknown:
        assert unknown.status == 404


async def test_refunds(client: Client, fake: StripeApi) -> None:
    """INVARIANT: a part, the rest, and no more; by API or in the Dashboard."""
    made = await client.session(account=SELLER)
    await fake.pay(made.id)
    intent = fake.payment(made.id).intent
    assert intent is not None
    options: Any = {"stripe_account": SELLER}
    with pytest.raises(stripe.InvalidRequestError) as elsewhere:
        await client.v1.refunds.create_async({"payment_intent": intent["id"]})
    assert (elsewhere.value.http_status, elsewhere.value.code) == (400, "resource_missing")
    part = await client.v1.refunds.create_async({"payment_intent": intent["id"], "amount": 500}, options)
    assert (part.amount, part.status) == (500, "succeeded")
    await fake.refund(made.id)
    charges = [event["data"]["object"] for event in fake.events if event["type"] == "charge.refunded"]
    assert [(one["amount_refunded"], one["refunded"]) for one in charges] == [(500, False), (1_500, True)]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.refunds.create_async({"payment_intent": intent["id"]}, options)
    assert refused.value.code == "charge_already_refunded"
    found = await client.v1.refunds.retrieve_async(part.id, options=options)
    assert found.id == part.id
    assert len((await client.v1.refunds.list_async({"payment_intent": intent["id"]}, options)).data) == 2
    assert (await client.v1.refunds.list_async()).data == []
