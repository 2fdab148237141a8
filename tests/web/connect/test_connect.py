"""Connecting a Stripe account (R1, R4, R5, R6): the whole way, and what is known of accounts at its end."""

import json
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import aiohttp
from asyncpg.pool import Pool

from quittance.stripe_client import StripeSettings
from tests.accounts.account_events import EPOCH
from tests.accounts.account_events import deauthorised as deauthorised_event
from tests.fakes.stripe import KEY, Fault, StripeApi
from tests.support.handling import accepted, run_handler
from tests.web.conftest import PUBLIC_URL, Api, Caller, line, make_token, quote, settings_with
from tests.web.connect.browser import Browser, begun
from tests.web.connect.conftest import CLIENT_ID, Serve
from workers import accounts

SELLER = "acct_1SellerOne00000000"
OTHER = "acct_1SellerTwo00000000"


async def account(api: Api) -> dict[str, object]:
    """What the token may know of its account."""
    answer = await api.ask("GET", "/v1/account")
    assert answer.status == 200, answer.json
    assert isinstance(answer.json, dict)
    return answer.json


async def hear(stripe: StripeApi, database: Pool) -> None:
    """Every event that Stripe has told of so far comes to the accounts worker."""
    events = [one for one in stripe.webhooks.events if one["type"] in accounts.QUEUE.bindings["stripe.events"]]
    await run_handler(accounts, [accepted(one) for one in events], database)


async def a_minute_passes(database: Pool) -> None:
    """Stripe's times are whole seconds, and what happens within one has no order: all that is known is a minute older."""
    for row in await database.fetch("SELECT account, livemode, facts FROM accounts"):
        facts = json.loads(row["facts"])
        facts["connections"] = [at - 60 for at in facts["connections"]]
        facts["deauthorised"] = facts["deauthorised"] and facts["deauthorised"] - 60
        for reading in facts["readings"].values():
            reading["at"] -= 60
        await database.execute(
            "UPDATE accounts SET facts = $3 WHERE account = $1 AND livemode = $2",
            row["account"],
            row["livemode"],
            json.dumps(facts),
        )


async def test_r6_an_account_is_connected_by_authorising_at_stripe(
    caller: Caller, browser: Browser, stripe: StripeApi
) -> None:
    stripe.oauth.redirect_uris = {f"{PUBLIC_URL}/connect/return"}
    api = await caller(SELLER)
    before = await account(api)
    assert (before["connected"], before["charges_enabled"], before["name"]) == (None, None, None)

    url = await begun(api)
    assert url.startswith(f"{PUBLIC_URL}/connect/")
    sent = await browser.get(url)
    assert sent.status == 303
    assert sent.location.startswith(f"{stripe.url}/oauth/authorize?")
    asked = dict(parse_qsl(urlsplit(sent.location).query))
    state = asked.pop("state")
    assert len(state) == 43
    assert asked == {
        "client_id": CLIENT_ID,
        "response_type": "code",
        "scope": "read_write",
        "redirect_uri": f"{PUBLIC_URL}/connect/return",
    }

    page = await browser.get(await browser.at_stripe(sent.location, SELLER))
    assert (page.status, page.outcome) == (200, "connected")
    assert SELLER in page.words
    assert "test mode" in page.words
    known = await account(api)
    assert known["connected_at"] is not None
    assert {name: known[name] for name in known if not name.endswith("_at")} == {
        "account": SELLER,
        "livemode": False,
        "connected": True,
        "deauthorised": False,
        "charges_enabled": True,
        "name": "Example 0000",
        "country": "SE",
    }
    (exchange,) = stripe.calls_of("POST", "/oauth/token")
    assert exchange.status == 200
    assert exchange.account == "self"


async def test_r4_an_account_that_is_not_activated_is_connected_and_cannot_be_paid(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    api = await caller(SELLER)
    stripe.change_account(SELLER, charges_enabled=False)
    page = await browser.connect(api, SELLER)
    assert (page.status, page.outcome) == (200, "connected_not_activated")
    assert (await account(api))["charges_enabled"] is False
    assert (await api.publish("Q-1", quote())).faults == [("R4", "account_not_activated", None)]
    await a_minute_passes(database)
    stripe.change_account(SELLER, charges_enabled=True)
    await hear(stripe, database)
    assert (await account(api))["charges_enabled"] is True
    assert (await api.publish("Q-1", quote())).status == 201


async def test_r2_r5_only_who_has_the_permission_may_connect(caller: Caller) -> None:
    for permissions in (("publish", "read", "operate"), ("read",)):
        api = await caller("self", *permissions)
        for method, path in (("POST", "/v1/connect"), ("POST", "/v1/disconnect"), ("GET", "/v1/accounts")):
            answer = await api.ask(method, path)
            assert (answer.status, answer.json["code"]) == (403, "no_permission"), path
    connector = await caller("self", "connect")
    assert (await connector.ask("POST", "/v1/connect")).status == 201
    assert (await connector.ask("GET", "/v1/account")).status == 403
    nobody = Api(connector.session, connector.base, None)
    assert (await nobody.ask("POST", "/v1/connect")).status == 401


async def test_r6_the_user_takes_the_connection_back_and_connects_anew(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    api = await caller(SELLER)
    await browser.connect(api, SELLER)
    await a_minute_passes(database)
    stripe.revoke(SELLER)
    await hear(stripe, database)
    known = await account(api)
    assert (known["connected"], known["deauthorised"]) == (False, True)
    refused = await api.publish("Q-1", quote())
    assert (refused.status, refused.faults) == (422, [("R4", "account_disconnected", None)])
    assert "connect it again" in refused.json["errors"][0]["message"]
    assert (await api.publish("Q-2", quote(payment_enabled=False))).status == 201

    await a_minute_passes(database)
    assert (await browser.connect(api, SELLER)).outcome == "connected"
    late = deauthorised_event(at=-1, account=SELLER)
    assert late.created < EPOCH
    await run_handler(accounts, [late], database)
    known = await account(api)
    assert (known["connected"], known["deauthorised"]) == (True, False)
    assert (await api.publish("Q-1", quote())).status == 201


async def test_r6_several_accounts_side_by_side(caller: Caller, browser: Browser) -> None:
    platform, one, two = await caller("self"), await caller(SELLER), await caller(OTHER)
    assert (await browser.connect(platform, SELLER)).outcome == "connected"
    assert (await browser.connect(two, OTHER)).outcome == "connected"
    assert (await account(one))["connected"] is (await account(two))["connected"] is True
    assert (await account(platform))["connected"] is True, "the key's own account needs nobody's leave"

    listed = await platform.ask("GET", "/v1/accounts")
    assert [each["account"] for each in listed.json["accounts"]] == [SELLER, OTHER]
    assert listed.json["next_cursor"] is None
    first = await platform.ask("GET", "/v1/accounts", params={"limit": 1})
    assert [each["account"] for each in first.json["accounts"]] == [SELLER]
    second = await platform.ask("GET", "/v1/accounts", params={"cursor": first.json["next_cursor"], "limit": 1})
    assert [each["account"] for each in second.json["accounts"]] == [OTHER]
    assert second.json["next_cursor"] is None


async def test_r6_two_tabs_of_one_browser_do_not_take_each_others_way(caller: Caller, browser: Browser) -> None:
    one, two = await caller(SELLER), await caller(OTHER)
    first, second = await browser.to_stripe(one), await browser.to_stripe(two)
    back = [await browser.at_stripe(first, SELLER), await browser.at_stripe(second, OTHER)]
    assert len(browser.cookies) == 2
    assert [(await browser.get(url)).outcome for url in back] == ["connected", "connected"]
    assert browser.cookies == {}


async def test_r6_what_stripe_does_not_describe_is_connected_all_the_same(
    caller: Caller, browser: Browser, stripe: StripeApi
) -> None:
    api = await caller(SELLER)
    stripe.faults.append(Fault("GET", status=500, path="/v1/accounts/"))
    assert (await browser.connect(api, SELLER)).outcome == "connected"
    known = await account(api)
    assert (known["connected"], known["charges_enabled"]) == (True, None)


async def test_it_works_without_tls_where_somebody_tries_it_out(
    serve: Serve, database: Pool, session: aiohttp.ClientSession, stripe: StripeApi
) -> None:
    settings = settings_with(stripe=StripeSettings(KEY, stripe.url, stripe.url), connect_client_id=CLIENT_ID)
    base = await serve(replace(settings, public_url="http://localhost:8081"))
    browser = Browser(session, base, stripe)
    api = Api(session, base, await make_token(database, SELLER))
    sent = await browser.get((await begun(api)).replace("http://localhost:8081", base))
    ((name, morsel),) = browser.cookies.items()
    assert name.startswith("quittance-connect-")
    assert (morsel["secure"], morsel["httponly"], morsel["samesite"]) == ("", True, "Lax")
    back = await browser.at_stripe(sent.location, SELLER)
    assert (await browser.get(back.replace("http://localhost:8081", base))).outcome == "connected"


async def test_connecting_again_does_no_harm(caller: Caller, browser: Browser) -> None:
    api = await caller(SELLER)
    await browser.connect(api, SELLER)
    since = (await account(api))["connected_at"]
    assert (await browser.connect(api, SELLER)).outcome == "connected"
    assert (await account(api))["connected_at"] == since


async def test_r13_check_out_is_of_the_connected_account_and_ends_with_the_connection(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    api = await caller(SELLER)
    await browser.connect(api, SELLER)
    await a_minute_passes(database)
    page = (await api.publish("Q-1", quote(line(), currency="EUR"))).json["url"]
    assert 'data-offer="open"' in (await browser.get(page)).text
    stripe.revoke(SELLER)
    await hear(stripe, database)
    assert 'data-offer="unavailable"' in (await browser.get(page)).text
    assert await check_out(browser, page) == page.replace(PUBLIC_URL, "")
    assert stripe.sessions_of(None) == []
    await a_minute_passes(database)
    assert (await browser.connect(api, SELLER)).outcome == "connected"
    assert (await check_out(browser, page)).startswith(f"{stripe.url}/pay/")
    assert {call.account for call in stripe.calls_of("POST", "/v1/checkout/sessions")} == {SELLER}


async def check_out(browser: Browser, page: str) -> str:
    """Click on Check out; where that leads."""
    where = f"{page.replace(PUBLIC_URL, browser.base)}/checkout"
    async with browser.session.post(where, allow_redirects=False) as answer:
        assert answer.status == 303, await answer.text()
        return answer.headers["Location"]
