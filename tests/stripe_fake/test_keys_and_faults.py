"""Idempotency keys, and everything that goes wrong between us and Stripe."""

import asyncio
import time
from typing import Any

import aiohttp
import pytest
import stripe

from tests.fakes.stripe import Fault, StripeApi
from tests.stripe_fake.conftest import SELLER, Client, line
from tests.support.polling import eventually

SESSIONS = "/v1/checkout/sessions"
ENDS = int(time.time()) + 3_600  # the same parameters need the same end


async def opened(client: Client, key: str = "k", **params: Any) -> Any:
    """A session made with a key."""
    return await client.session(key=key, expires_at=ENDS, **params)


async def test_a_key_is_executed_once(client: Client, fake: StripeApi) -> None:
    """INVARIANT: the same answer again, and said to be one."""
    first = await opened(client)
    again = await opened(client)
    assert again.id == first.id
    assert first.last_response.headers.get("Idempotent-Replayed") is None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert len(fake.sessions_of()) == 1
    assert (await opened(client, "other")).id != first.id


async def test_a_replay_is_the_answer_of_then(client: Client, fake: StripeApi) -> None:
    """INVARIANT: an open session is still said to be open after it was paid: only a retrieval tells."""
    first = await opened(client)
    await fake.pay(first.id)
    again = await opened(client)
    assert (again.status, again.url) == ("open", first.url)
    assert (await client.v1.checkout.sessions.retrieve_async(first.id)).status == "complete"


async def test_a_key_with_other_parameters(client: Client, fake: StripeApi) -> None:
    """INVARIANT: 400 idempotency_error; also at another address."""
    await opened(client)
    with pytest.raises(stripe.IdempotencyError) as refused:
        await opened(client, line_items=[line(1_501)])
    assert refused.value.http_status == 400
    with pytest.raises(stripe.IdempotencyError):
        await client.v1.customers.create_async({"email": "ann@example.com"}, {"idempotency_key": "k"})
    assert len(fake.sessions_of()) == 1


async def test_two_calls_with_a_key_at_once(client: Client, fake: StripeApi) -> None:
    """INVARIANT: the second is refused (409) while the first is under way."""
    fake.faults.append(Fault("POST", after=0.2))
    first = asyncio.create_task(opened(client))
    await eventually(lambda: bool(fake.calls))
    with pytest.raises(stripe.StripeError) as busy:
        await opened(client)
    assert busy.value.http_status == 409
    assert busy.value.error is not None
    assert busy.value.error.code == "idempotency_key_in_use"
    assert (await first).id == (await opened(client)).id
    assert len(fake.sessions_of()) == 1


async def test_a_key_is_of_one_account_and_mode(client: Client, live_client: Client, fake: StripeApi) -> None:
    """INVARIANT: the same key elsewhere is another key."""
    made = {(await opened(client)).id, (await opened(client, account=SELLER)).id, (await opened(live_client)).id}
    assert len(made) == 3


@pytest.mark.parametrize("executes", [False, True])
async def test_a_failure_is_kept(client: Client, fake: StripeApi, executes: bool) -> None:
    """INVARIANT: a 500 is said again, whether it had its effect or not; another key begins anew."""
    fake.faults.append(Fault("POST", status=500, executes=executes))
    for replayed in (None, "true"):
        with pytest.raises(stripe.APIError) as failed:
            await opened(client)
        assert failed.value.http_status == 500
        assert failed.value.headers is not None
        assert failed.value.headers.get("Idempotent-Replayed") == replayed
    assert len(fake.sessions_of()) == executes
    await opened(client, "other")
    assert len(fake.sessions_of()) == executes + 1


async def test_after_a_day_a_key_is_new(client: Client, fake: StripeApi) -> None:
    """INVARIANT: Stripe forgets keys after 24 hours at the earliest."""
    await opened(client)
    fake.keys.forget()
    await opened(client)
    assert len(fake.sessions_of()) == 2


async def test_what_is_refused_before_it_is_executed_is_not_kept(client: Client, fake: StripeApi) -> None:
    """INVARIANT: a parameter that fails validation, a limit, a wrong key: the same idempotency key may be used again."""
    with pytest.raises(stripe.InvalidRequestError):
        await opened(client, payment_method_types=["card"])
    fake.faults += [
        Fault("POST", status=429, code="rate_limit", headers={"Retry-After": "2"}),
        Fault("POST", status=401),
    ]
    with pytest.raises(stripe.RateLimitError) as limited:
        await opened(client)
    assert limited.value.headers is not None
    assert limited.value.headers["Retry-After"] == "2"
    with pytest.raises(stripe.AuthenticationError):
        await opened(client)
    assert (await opened(client)).last_response.headers.get("Idempotent-Replayed") is None


async def test_what_is_refused_when_executed_is_kept(client: Client, fake: StripeApi) -> None:
    """INVARIANT: a customer that was not there is not there for this key, though somebody adds one since."""
    for replayed in (None, "true"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await opened(client, customer="cus_late")
        assert refused.value.code == "resource_missing"
        assert refused.value.headers is not None
        assert refused.value.headers.get("Idempotent-Replayed") == replayed
        fake.add("ann@example.com", id="cus_late")
    await opened(client, "other", customer="cus_late")


async def test_reading_and_deleting_know_no_keys(client: Client) -> None:
    """INVARIANT: GET and DELETE are executed each time."""
    made = await client.session()
    options: Any = {"idempotency_key": "k"}
    assert (await client.v1.checkout.sessions.retrieve_async(made.id, options=options)).status == "open"
    await client.v1.checkout.sessions.expire_async(made.id)
    assert (await client.v1.checkout.sessions.retrieve_async(made.id, options=options)).status == "expired"


async def test_an_answer_after_the_client_gave_up(client: Client, fake: StripeApi) -> None:
    """INVARIANT: what was begun is done, and the key knows its answer."""
    fake.faults.append(Fault("POST", executes=True, after=0.3, path=SESSIONS))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await opened(client)
    assert len(fake.sessions_of()) == 1
    with pytest.raises(stripe.StripeError) as busy:
        await opened(client)
    assert busy.value.http_status == 409
    await eventually(lambda: fake.calls[0].status == 200)
    again = await opened(client)
    assert again.id == fake.sessions_of()[0]["id"]


@pytest.mark.parametrize("executes", [False, True])
async def test_a_connection_that_breaks(client: Client, fake: StripeApi, executes: bool) -> None:
    """INVARIANT: no answer, whether it was executed or not; what never arrived, no key knows of."""
    fake.faults.append(Fault("POST", drops=True, executes=executes))
    with pytest.raises(stripe.APIConnectionError):
        await opened(client)
    assert len(fake.sessions_of()) == executes
    again = await opened(client)
    assert again.last_response.headers.get("Idempotent-Replayed") == ("true" if executes else None)
    assert len(fake.sessions_of()) == 1


async def test_a_fault_meets_what_it_is_for(client: Client, fake: StripeApi) -> None:
    """INVARIANT: only its method and path, as often as it says."""
    fake.faults.append(Fault("POST", status=503, path="/v1/coupons", times=2))
    await client.session()
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            await client.v1.coupons.create_async({"percent_off": 5})
    await client.v1.coupons.create_async({"percent_off": 5})
    assert fake.faults == []


async def test_nonsense_instead_of_json(client: Client, fake: StripeApi) -> None:
    """INVARIANT: a proxy's page, with whatever status."""
    fake.faults.append(Fault("POST", status=200, executes=True, body="<html>"))
    with pytest.raises(stripe.APIError):
        await client.session()


async def test_every_call_is_on_record(client: Client, fake: StripeApi) -> None:
    """INVARIANT: with its account, mode, key, parameters and answer."""
    await opened(client, account=SELLER, customer_email="ann@example.com")
    (call,) = fake.calls_of("POST", SESSIONS)
    assert (call.account, call.livemode, call.key, call.status) == (SELLER, False, "k", 200)
    assert call.params["customer_email"] == "ann@example.com"
    assert call.params["line_items[0][price_data][unit_amount]"] == "1500"


async def test_a_key_may_not_be_too_long(fake: StripeApi, http: aiohttp.ClientSession) -> None:
    """INVARIANT: 255 characters."""
    headers = {"Authorization": "Bearer sk_test_quittance", "Idempotency-Key": "k" * 256}
    async with http.post(f"{fake.url}/v1/customers", headers=headers) as answer:
        assert answer.status == 400
