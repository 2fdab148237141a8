"""What Stripe's answers mean; and that the stand-in for Stripe behaves as Stripe's documentation says."""

import asyncio

import pytest
import stripe
from stripe import StripeClient

from quittance.errors import SettingsError
from quittance.settings import Reader
from quittance.stripe_client import StripeSettings
from tests.fakes.stripe import Fault, StripeApi
from workers.customers import outside_settings
from workers.runtime.outcomes import Failed, Outcome, Refused, Unavailable
from workers.stripe_customers import connected, idempotency_key, outcome_of


def answered(kind: type[stripe.StripeError], status: int | None, **headers: str) -> stripe.StripeError:
    """An error as the library makes it of an answer."""
    body = {"error": {"type": "invalid_request_error", "code": "a_code", "message": "Invalid: ann@example.com"}}
    about = {"http_status": status, "json_body": body, "headers": {"request-id": "req_1", **headers}}
    if kind in (stripe.InvalidRequestError, stripe.CardError):
        return kind("Invalid: ann@example.com", "email", code="a_code", **about)
    return kind("Invalid: ann@example.com", **about)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (answered(stripe.RateLimitError, 429, **{"Retry-After": "7"}), Unavailable("", 7.0)),
        (answered(stripe.RateLimitError, 400), Unavailable("", None)),
        (answered(stripe.RateLimitError, 429, **{"retry-after": "soon"}), Unavailable("", None)),
        (answered(stripe.APIError, 500), Unavailable("", None)),
        (answered(stripe.APIError, 503, **{"Retry-After": "9"}), Unavailable("", 9.0)),
        (answered(stripe.APIConnectionError, None), Unavailable("", None)),
        (answered(stripe.AuthenticationError, 401), Refused("account_refused", "")),
        (answered(stripe.PermissionError, 403), Refused("account_refused", "")),
        (answered(stripe.InvalidRequestError, 400), Refused("stripe_refused", "")),
        (answered(stripe.InvalidRequestError, 404), Refused("stripe_refused", "")),
        (answered(stripe.CardError, 402), Refused("stripe_refused", "")),
        (answered(stripe.IdempotencyError, 400), Refused("stripe_refused", "")),
        (answered(stripe.APIError, 409), Failed("")),
        (answered(stripe.APIError, 418), Failed("")),
    ],
)
def test_what_an_answer_means(error: stripe.StripeError, meaning: Outcome) -> None:
    """INVARIANT: down or limiting is waited for, a refusal is final, anything else is tried again; no address in a text."""
    outcome = outcome_of(error)
    assert type(outcome) is type(meaning)
    assert getattr(outcome, "reason", None) == getattr(meaning, "reason", None)
    assert getattr(outcome, "retry_after", None) == getattr(meaning, "retry_after", None)
    detail = outcome.detail if isinstance(outcome, Refused | Unavailable | Failed) else ""
    assert detail
    assert "@" not in detail


def test_r18_the_idempotency_key_is_deterministic_and_its_own_for_each_address() -> None:
    """INVARIANT: the same in every process; another for another account, mode, address or round; short enough."""
    first = idempotency_key("self", False, "ann@example.com", 1)
    assert first == idempotency_key("self", False, "ann@example.com", 1)
    others = {
        idempotency_key("acct_1", False, "ann@example.com", 1),
        idempotency_key("self", True, "ann@example.com", 1),
        idempotency_key("self", False, "bob@example.com", 1),
        idempotency_key("self", False, "ann@example.com", 2),
    }
    assert len(others | {first}) == 5
    assert len(first) < 250
    assert "ann" not in first


@pytest.mark.parametrize(
    ("key", "test", "live"),
    [("", False, False), ("sk_test_1", True, False), ("rk_test_1", True, False), ("sk_live_1", False, True)],
)
def test_a_key_is_of_one_mode(key: str, test: bool, live: bool) -> None:
    """INVARIANT: Stripe is called only for events of the key's own mode."""
    settings = StripeSettings.read(Reader({"STRIPE_API_KEY": key}))
    assert (settings.silent(False) is None, settings.silent(True) is None) == (test, live)


@pytest.mark.parametrize("key", ["pk_live", "whatever", "rk_live_ ", "sk_test_ä", "sk_test_a b"])
def test_what_is_no_secret_key_is_a_fault(key: str) -> None:
    """INVARIANT: a wrong key is said at the start, not by the first 401; and it is not repeated in the message."""
    reader = Reader({"STRIPE_API_KEY": key})
    outside_settings(reader)
    with pytest.raises(SettingsError) as fault:
        reader.check()
    assert key not in str(fault.value)


async def test_the_stand_in_keeps_keys_as_stripe_does(stripe_api: StripeApi) -> None:
    """INVARIANT: what the tests of retries rest on: one key, one execution; other parameters 400; at the same time 409."""
    settings = StripeSettings("sk_test_quittance", stripe_api.url)
    async with connected(settings) as accounts:
        client: StripeClient = accounts._client

        async def make(email: str) -> str:
            made = await client.v1.customers.create_async({"email": email}, {"idempotency_key": "one"})
            return str(made.id)

        stripe_api.faults.append(Fault("POST", executes=True, after=0.2))
        first = asyncio.create_task(make("ann@example.com"))
        await asyncio.sleep(0.1)
        with pytest.raises(stripe.StripeError) as busy:
            await make("ann@example.com")
        assert busy.value.http_status == 409
        assert await first == await make("ann@example.com")
        with pytest.raises(stripe.IdempotencyError):
            await make("bob@example.com")
        assert stripe_api.made() == 1
        assert (await client.v1.customers.list_async({"email": "Ann@example.com"})).data == []
        with pytest.raises(stripe.InvalidRequestError):
            await client.v1.customers.update_async("cus_1", {"name": "Another"})


async def test_nobody_listens(stripe_api: StripeApi) -> None:
    """INVARIANT: no connection means that Stripe is away, in seconds."""
    async with connected(StripeSettings("sk_test_quittance", "http://127.0.0.1:9")) as accounts:
        with pytest.raises(stripe.APIConnectionError) as away:
            await accounts.customer("self", "ann@example.com", None, "key")
    assert isinstance(outcome_of(away.value), Unavailable)
