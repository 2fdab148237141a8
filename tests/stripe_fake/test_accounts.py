"""Connected accounts: how they come, what may be seen of them, how they go."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
import stripe

from tests.fakes.stripe import StripeApi
from tests.fakes.stripe.oauth import CODE_LIFE
from tests.stripe_fake.conftest import SELLER, Client

BACK = "http://127.0.0.1:8081/connect/return?x=1"


def authorize(fake: StripeApi, **params: str) -> dict[str, str]:
    """What a platform puts into the address of the page."""
    asked = {"response_type": "code", "client_id": fake.oauth.client_ids[False], "scope": "read_write"}
    return {**asked, "state": "s1", "redirect_uri": BACK, **params}


async def exchange(client: Client, code: str) -> Any:
    """POST /oauth/token."""
    return await client.stripe._requestor.request_async(
        "post",
        "/oauth/token",
        params={"grant_type": "authorization_code", "code": code},
        options={},
        base_address="connect",
    )


async def deauthorize(client: Client, client_id: str, account: str) -> Any:
    """POST /oauth/deauthorize."""
    params = {"client_id": client_id, "stripe_user_id": account}
    return await client.stripe._requestor.request_async(
        "post", "/oauth/deauthorize", params=params, options={}, base_address="connect"
    )


async def test_a_user_connects(client: Client, fake: StripeApi, http: aiohttp.ClientSession) -> None:
    """INVARIANT: page, consent, code with the state, exchange: then the account is there, in that mode."""
    url = client.stripe.oauth.authorize_url(authorize(fake))  # type: ignore[arg-type]
    assert url.startswith(f"{fake.url}/oauth/authorize?")
    async with http.get(url) as page:
        assert page.status == 200
        html = await page.text()
    assert '<label for="account">' in html
    assert "read and write" in html
    form = {**authorize(fake), "account": SELLER, "action": "connect"}
    async with http.post(f"{fake.url}/oauth/authorize", data=form, allow_redirects=False) as answer:
        back = urlsplit(answer.headers["Location"])
        assert answer.status == 303
    query = dict(parse_qsl(back.query))
    assert (query["x"], query["state"], query["scope"]) == ("1", "s1", "read_write")
    given = await exchange(client, query["code"])
    assert (given.stripe_user_id, given.livemode, given.scope) == (SELLER, False, "read_write")
    assert [account.id for account in (await client.v1.accounts.list_async()).data] == [SELLER]
    found = await client.v1.accounts.retrieve_async(SELLER)
    assert (found.id, found.charges_enabled) == (SELLER, True)
    current = await client.v1.accounts.retrieve_current_async(None, {"stripe_account": SELLER})
    assert current.id == SELLER
    assert (await client.v1.accounts.retrieve_current_async()).id != SELLER


async def test_a_user_denies(fake: StripeApi, http: aiohttp.ClientSession) -> None:
    """INVARIANT: back with the error and the state, without a code."""
    form = {**authorize(fake), "account": SELLER, "action": "deny"}
    async with http.post(f"{fake.url}/oauth/authorize", data=form, allow_redirects=False) as answer:
        query = dict(parse_qsl(urlsplit(answer.headers["Location"]).query))
    assert (query["error"], query["state"]) == ("access_denied", "s1")
    assert "code" not in query


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": "ca_other"},
        {"response_type": "token"},
        {"redirect_uri": "http://attacker.example.com/"},
        {"client_id": "ca_LiveQuittance"},
    ],
)
async def test_a_page_that_leads_nowhere(fake: StripeApi, http: aiohttp.ClientSession, wrong: dict[str, str]) -> None:
    """INVARIANT: an unknown platform or address is never redirected to; live mode wants https."""
    fake.oauth.redirect_uris = {BACK}
    form = {**authorize(fake, **wrong), "account": SELLER, "action": "connect"}
    async with http.get(f"{fake.url}/oauth/authorize", params=form) as page:
        assert page.status == 400
    async with http.post(f"{fake.url}/oauth/authorize", data=form, allow_redirects=False) as answer:
        assert answer.status == 400
    assert fake.oauth.codes == {}


async def test_a_code_is_good_for_once(client: Client, fake: StripeApi) -> None:
    """INVARIANT: a second use takes away what the first gave."""
    code = fake.oauth.consent(SELLER)
    await exchange(client, code)
    with pytest.raises(stripe.oauth_error.InvalidGrantError, match="already been used"):
        await exchange(client, code)
    assert (await client.v1.accounts.list_async()).data == []
    assert fake.webhooks.types() == ["account.application.deauthorized"]


async def test_codes_that_are_no_good(client: Client, live_client: Client, fake: StripeApi) -> None:
    """INVARIANT: unknown, of the other mode, or older than five minutes."""
    for caller, code in ((client, "ac_unknown"), (live_client, fake.oauth.consent(SELLER))):
        with pytest.raises(stripe.oauth_error.InvalidGrantError):
            await exchange(caller, code)
    late = fake.oauth.consent(SELLER)
    await fake.advance(CODE_LIFE + 1)
    with pytest.raises(stripe.oauth_error.InvalidGrantError, match="expired"):
        await exchange(client, late)


async def test_the_platform_gives_an_account_back(client: Client, fake: StripeApi) -> None:
    """INVARIANT: told, and not possible twice, nor for another platform."""
    await exchange(client, fake.oauth.consent(SELLER))
    ours = fake.oauth.client_ids[False]
    with pytest.raises(stripe.oauth_error.InvalidClientError):
        await deauthorize(client, "ca_other", SELLER)
    assert (await deauthorize(client, ours, SELLER)).stripe_user_id == SELLER
    with pytest.raises(stripe.oauth_error.InvalidClientError, match="not connected"):
        await deauthorize(client, ours, SELLER)
    (event,) = fake.events
    assert (event["type"], event["account"]) == ("account.application.deauthorized", SELLER)
    assert event["data"]["object"]["id"] == ours


async def test_the_user_takes_it_away(client: Client, live_client: Client, fake: StripeApi) -> None:
    """INVARIANT: from then on every call for the account is refused (403), in that mode, until it connects again."""
    fake.revoke(SELLER)
    with pytest.raises(stripe.PermissionError) as refused:
        await client.session(account=SELLER)
    assert refused.value.http_status == 403
    assert refused.value.error is not None
    assert refused.value.error.code == "account_invalid"
    with pytest.raises(stripe.PermissionError):
        await client.v1.accounts.retrieve_async(SELLER)
    await live_client.session(account=SELLER)
    await exchange(client, fake.oauth.consent(SELLER))
    await client.session(account=SELLER)


async def test_an_account_changes(client: Client, fake: StripeApi) -> None:
    """INVARIANT: `account.updated`, with what it was before, of the mode that was meant."""
    fake.change_account(SELLER, charges_enabled=False, livemode=True)
    (event,) = fake.events
    assert (event["type"], event["account"], event["livemode"]) == ("account.updated", SELLER, True)
    assert event["data"]["previous_attributes"] == {"charges_enabled": True}
    assert event["data"]["object"]["requirements"]["disabled_reason"] == "requirements.past_due"
    with pytest.raises(stripe.InvalidRequestError) as unknown:
        await client.v1.accounts.retrieve_async("acct_unknown")
    assert unknown.value.http_status == 404
