"""Every way in which connecting an account must not go (R5, R6, S1): stale, stolen, forged, refused, somebody else's."""

import asyncio
import json
import secrets
from typing import Any

import pytest
from asyncpg.pool import Pool

from quittance.stripe_client import StripeSettings
from tests.accounts.account_events import EPOCH, authorised, updated
from tests.fakes.stripe import KEY, Fault, StripeApi
from tests.support.handling import run_handler
from tests.support.polling import eventually
from tests.web.conftest import Api, Caller, make_token, settings_with
from tests.web.connect.browser import Browser, begun, state_in
from tests.web.connect.conftest import Serve
from web import connect, connect_pages, connect_states
from workers import accounts

SELLER = "acct_1SellerOne00000000"
OTHER = "acct_1SellerTwo00000000"
OVER = "UPDATE oauth_states SET expires_at = clock_timestamp() - interval '1 second'"


def exchanges(stripe: StripeApi) -> int:
    """How often a code was taken to Stripe."""
    return len(stripe.calls_of("POST", "/oauth/token"))


async def connected(database: Pool) -> list[tuple[str, bool]]:
    """The accounts that stand connected."""
    rows = await database.fetch(
        "SELECT account, livemode FROM accounts WHERE connected_at IS NOT NULL AND deauthorised_at IS NULL ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


async def outcomes(database: Pool) -> list[tuple[str, str | None]]:
    """What became of each attempt."""
    return [tuple(row) for row in await database.fetch("SELECT outcome, connected FROM oauth_states ORDER BY id")]


# The address, the state and the browser ------------------------------------------------------------------------------


async def test_r6_an_address_is_good_for_one_browser_once(caller: Caller, browser: Browser, stranger: Browser) -> None:
    url = await begun(await caller(SELLER))
    assert (await browser.get(url)).status == 303
    again = [await somebody.get(url) for somebody in (browser, stranger)]
    assert [(page.status, page.outcome) for page in again] == [(404, "not_valid")] * 2
    unknown = await stranger.get(f"{stranger.base}/connect/{secrets.token_urlsafe(32)}")
    assert (unknown.status, unknown.words) == (404, again[0].words), "nobody learns which addresses there were"


async def test_r6_an_address_is_good_for_ten_minutes(caller: Caller, browser: Browser, database: Pool) -> None:
    url = await begun(await caller(SELLER))
    life = await database.fetchval("SELECT extract(epoch FROM expires_at - created_at) FROM oauth_states")
    assert 590 < life < 601  # the two clocks of one statement are read a moment apart
    await database.execute(OVER)
    assert (await browser.get(url)).outcome == "not_valid"


async def test_nothing_but_a_person_uses_an_address_up(caller: Caller, browser: Browser) -> None:
    url = await begun(await caller(SELLER))
    for headers in ({"Sec_Purpose": "prefetch;prerender"}, {"Purpose": "prefetch"}, {"Sec_Fetch_Dest": "iframe"}):
        ahead = await browser.get(url, **headers)
        assert (ahead.status, ahead.outcome) == (403, "open_it_yourself")
    async with browser.session.head(url.replace("https://quotes.example.com", browser.base)) as answer:
        assert answer.status == 405
    assert (await browser.get(url, Sec_Fetch_Dest="document")).status == 303


async def test_r6_the_cookie_is_for_this_host_over_tls_and_for_no_script(caller: Caller, browser: Browser) -> None:
    await browser.to_stripe(await caller(SELLER))
    ((name, morsel),) = browser.cookies.items()
    assert name.startswith("__Host-quittance-connect-")
    assert (morsel["secure"], morsel["httponly"], morsel["samesite"], morsel["path"], morsel["domain"]) == (
        True,
        True,
        "Lax",
        "/",
        "",
    )
    assert morsel["max-age"] == "600"
    assert len(morsel.value) == 43


async def test_r6_a_state_is_used_once(caller: Caller, browser: Browser, stripe: StripeApi) -> None:
    back = await browser.at_stripe(await browser.to_stripe(await caller(SELLER)), SELLER)
    cookies = dict(browser.cookies)
    assert (await browser.get(back)).outcome == "connected"
    browser.cookies = cookies
    again = await browser.get(back)
    assert (again.status, again.outcome) == (410, "used")
    assert exchanges(stripe) == 1, "a code that comes twice would end the connection at Stripe"


async def test_r6_of_two_who_come_back_at_once_one_goes_on(caller: Caller, browser: Browser, stripe: StripeApi) -> None:
    back = await browser.at_stripe(await browser.to_stripe(await caller(SELLER)), SELLER)
    pages = await asyncio.gather(*(browser.get(back) for _ in range(5)))
    assert sorted(page.outcome for page in pages) == ["connected", "used", "used", "used", "used"]
    assert exchanges(stripe) == 1


async def test_r6_a_state_is_good_for_ten_minutes(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    back = await browser.at_stripe(await browser.to_stripe(await caller(SELLER)), SELLER)
    await database.execute(OVER)
    page = await browser.get(back)
    assert (page.status, page.outcome) == (410, "over")
    assert exchanges(stripe) == 0


async def test_r6_only_the_browser_that_began_comes_back(
    caller: Caller, browser: Browser, stranger: Browser, stripe: StripeApi, database: Pool
) -> None:
    api = await caller(SELLER)
    back = await browser.at_stripe(await browser.to_stripe(api), SELLER)
    ((name, morsel),) = browser.cookies.items()
    await stranger.to_stripe(api)
    ((_, other),) = stranger.cookies.items()
    for cookies in ({}, {name: other}, stranger.cookies):
        stranger.cookies = cookies
        page = await stranger.get(back)
        assert (page.status, page.outcome) == (403, "other_browser")
    assert (exchanges(stripe), await connected(database)) == (0, [])
    assert browser.cookies == {name: morsel}
    assert (await browser.get(back)).outcome == "connected", "a stranger uses nothing up"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?code=ac_1",
        "?code=ac_1&state=",
        "?code=ac_1&state=short",
        "?code=ac_1&state={unknown}",
        "?code=ac_1&state={mine}&state={mine}",
        "?code=ac_1&state=%00{mine}",
        "?error=access_denied&state={unknown}",
    ],
)
async def test_r6_a_state_that_we_did_not_give_leads_nowhere(
    caller: Caller, browser: Browser, stripe: StripeApi, query: str
) -> None:
    mine = state_in(await browser.to_stripe(await caller(SELLER)))
    filled = query.format(mine=mine, unknown=secrets.token_urlsafe(32))
    page = await browser.get(f"{browser.base}/connect/return{filled}")
    assert (page.status, page.outcome) == (404, "not_valid")
    assert exchanges(stripe) == 0


async def test_no_answer_leads_where_the_request_says(caller: Caller, browser: Browser) -> None:
    url = await begun(await caller(SELLER))
    evil = "redirect_uri=https://evil.example&next=https://evil.example&return_to=//evil.example"
    sent = await browser.get(f"{url}?{evil}", Host="evil.example", X_Forwarded_Host="evil.example")
    assert "evil" not in sent.location
    back = await browser.at_stripe(sent.location, SELLER)
    page = await browser.get(f"{back}&{evil}", Host="evil.example")
    assert page.outcome == "connected"
    assert "Location" not in page.headers
    assert "evil" not in page.text


# The token behind it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["revoked_at = now()", "permissions = '{read}'"])
async def test_r5_a_token_that_may_no_longer_connect_leads_nowhere(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool, how: str
) -> None:
    api = await caller(SELLER)
    url, back = await begun(api), await browser.at_stripe(await browser.to_stripe(api), SELLER)
    await database.execute(f"UPDATE api_tokens SET {how}")
    assert (await browser.get(url)).outcome == "not_valid"
    page = await browser.get(back)
    assert (page.status, page.outcome) == (403, "not_allowed")
    assert (exchanges(stripe), await connected(database)) == (0, [])


async def test_a_token_that_connects_too_often_is_told_when_to_come_back(caller: Caller) -> None:
    api, other = await caller(SELLER), await caller(SELLER)
    answers = [await api.ask("POST", "/v1/connect") for _ in range(connect.AT_ONCE + 1)]
    assert {answer.status for answer in answers[:-1]} == {201}
    assert answers[-1].status == 429
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert (await other.ask("POST", "/v1/connect")).status == 201


async def test_whoever_tries_addresses_is_slowed_down(caller: Caller, browser: Browser) -> None:
    pages = [await browser.get(f"{browser.base}/connect/{'A' * 43}") for _ in range(connect_pages.AT_ONCE + 1)]
    assert pages[0].status == 404
    assert (pages[-1].status, pages[-1].outcome) == (429, "too_often")
    assert int(pages[-1].headers["Retry-After"]) >= 1


# What Stripe says ----------------------------------------------------------------------------------------------------


async def test_r6_the_user_says_no(caller: Caller, browser: Browser, stripe: StripeApi, database: Pool) -> None:
    back = await browser.at_stripe(await browser.to_stripe(await caller(SELLER)), SELLER, press="deny")
    page = await browser.get(back)
    assert (page.status, page.outcome) == (403, "access_denied")
    assert "did not allow" in page.words
    assert browser.cookies == {}
    assert (exchanges(stripe), await outcomes(database)) == (0, [("access_denied", None)])


@pytest.mark.parametrize(
    "query", ["error=server_error&error_description=<script>x</script>", "", "code=ac_1&error=x", "code=a&code=b"]
)
async def test_what_stripes_page_says_is_not_said_again(
    caller: Caller, browser: Browser, stripe: StripeApi, query: str
) -> None:
    state = state_in(await browser.to_stripe(await caller(SELLER)))
    page = await browser.get(f"{browser.base}/connect/return?{query}&state={state}")
    assert (page.status, page.outcome) == (400, "stripe_says_no")
    assert "script" not in page.text
    assert exchanges(stripe) == 0


async def test_r6_a_code_that_is_too_old(caller: Caller, browser: Browser, stripe: StripeApi, database: Pool) -> None:
    back = await browser.at_stripe(await browser.to_stripe(await caller(SELLER)), SELLER)
    await stripe.advance(301)
    page = await browser.get(back)
    assert (page.status, page.outcome) == (400, "code_refused")
    assert await connected(database) == []


@pytest.mark.parametrize(
    ("fault", "status", "outcome"),
    [
        (Fault("POST", status=500, path="/oauth/token"), 503, "stripe_away"),
        (Fault("POST", status=429, path="/oauth/token"), 503, "stripe_away"),
        (Fault("POST", drops=True, executes=True, path="/oauth/token"), 503, "stripe_away"),
        (Fault("POST", body="<html>", path="/oauth/token"), 503, "stripe_away"),
        (Fault("POST", status=401, path="/oauth/token"), 502, "not_set_up"),
        (Fault("POST", body='{"livemode": false}', path="/oauth/token"), 502, "not_set_up"),
        (Fault("POST", body='{"livemode": "no", "stripe_user_id": "acct_1"}', path="/oauth/token"), 502, "not_set_up"),
        (Fault("POST", body='{"livemode": false, "stripe_user_id": "../x"}', path="/oauth/token"), 502, "not_set_up"),
    ],
)
async def test_an_exchange_that_fails_connects_nothing_and_is_not_tried_again(
    caller: Caller,
    browser: Browser,
    stripe: StripeApi,
    database: Pool,
    fault: Fault,
    status: int,
    outcome: str,
) -> None:
    stripe.faults.append(fault)
    page = await browser.connect(await caller(SELLER), SELLER)
    assert (page.status, page.outcome) == (status, outcome)
    assert (exchanges(stripe), await connected(database)) == (1, [])
    assert (await browser.connect(await caller(SELLER), SELLER)).outcome == "connected"


async def test_r6_another_mode_than_the_tokens(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    body = json.dumps({"stripe_user_id": SELLER, "livemode": True, "access_token": "sk_live_x", "scope": "read_write"})
    stripe.faults.append(Fault("POST", path="/oauth/token", body=body))
    page = await browser.connect(await caller(SELLER), SELLER)
    assert (page.status, page.outcome) == (409, "other_mode")
    assert await connected(database) == []
    assert await outcomes(database) == [("other_mode", SELLER)]


async def test_r6_a_platform_of_test_mode_connects_nothing_for_a_token_of_live_mode(
    caller: Caller, serve: Serve, database: Pool, stripe: StripeApi
) -> None:
    live = await caller(SELLER, live=True)
    answer = await live.ask("POST", "/v1/connect")
    assert (answer.status, answer.json["code"]) == (409, "connect_not_set_up")
    assert "other mode" in answer.json["detail"]
    bare = await serve(settings_with(stripe=StripeSettings(KEY, stripe.url, stripe.url)))
    answer = await Api(live.session, bare, await make_token(database, SELLER)).ask("POST", "/v1/connect")
    assert (answer.status, answer.json["code"]) == (409, "connect_not_set_up")
    assert "STRIPE_CONNECT_CLIENT_ID" in answer.json["detail"]


# Another's account ---------------------------------------------------------------------------------------------------


async def test_s1_a_token_connects_its_own_account_alone(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    page = await browser.connect(await caller(SELLER), OTHER)
    assert (page.status, page.outcome) == (403, "other_account")
    assert OTHER not in page.text, "who began need not know whose account it was"
    assert stripe.accounts.connected == set(), "the leave that was given by mistake was given back"
    assert await connected(database) == []
    assert await outcomes(database) == [("other_account", OTHER)]


async def test_s1_a_connection_that_stood_before_is_not_ended_by_anothers_mistake(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    await browser.connect(await caller(OTHER), OTHER)
    await database.execute("UPDATE accounts SET first_seen_at = first_seen_at - interval '1 minute'")
    assert (await browser.connect(await caller(SELLER), OTHER)).outcome == "other_account"
    assert stripe.accounts.connected == {(OTHER, False)}
    assert await connected(database) == [(OTHER, False)]


async def test_s1_nor_is_one_that_only_webhooks_have_told_of(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    await run_handler(accounts, [updated(True, at=0, account=OTHER)], database)
    assert (await browser.connect(await caller(SELLER), OTHER)).outcome == "other_account"
    assert stripe.accounts.connected == {(OTHER, False)}


async def test_s1_nor_one_that_somebody_else_has_connected_meanwhile(
    caller: Caller, browser: Browser, stranger: Browser, stripe: StripeApi, database: Pool
) -> None:
    back = await browser.at_stripe(await browser.to_stripe(await caller(SELLER)), OTHER)
    assert (await stranger.connect(await caller("self"), OTHER)).outcome == "connected"
    assert (await browser.get(back)).outcome == "other_account"
    assert await connected(database) == [(OTHER, False)]
    assert stripe.accounts.connected == {(OTHER, False)}


async def test_s1_webhooks_of_the_mistake_itself_do_not_make_it_stand(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    """Stripe's own word of the new connection may come before the browser does."""
    now = await database.fetchval("SELECT extract(epoch FROM now())::int")
    back = await browser.at_stripe(await browser.to_stripe(await caller(SELLER)), OTHER)
    told = [authorised(at=now + 1 - EPOCH, account=OTHER), updated(True, at=now + 1 - EPOCH, account=OTHER)]
    await run_handler(accounts, told, database)
    assert await connected(database) == [(OTHER, False)]
    assert (await browser.get(back)).outcome == "other_account"
    assert stripe.accounts.connected == set()


async def test_s1_nor_does_a_connection_that_was_taken_back_long_ago(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    facts = {"connections": [EPOCH], "deauthorised": EPOCH + 1, "readings": {}}
    await database.execute(
        "INSERT INTO accounts (account, livemode, facts, first_seen_at, deauthorised_at) "
        "VALUES ($1, false, $2, '2026-01-01', '2026-01-02')",
        OTHER,
        json.dumps(facts),
    )
    assert (await browser.connect(await caller(SELLER), OTHER)).outcome == "other_account"
    assert stripe.accounts.connected == set()
    assert await connected(database) == []


async def test_s1_where_taking_back_fails_it_is_refused_all_the_same(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    stripe.faults.append(Fault("POST", status=500, path="/oauth/deauthorize"))
    assert (await browser.connect(await caller(SELLER), OTHER)).outcome == "other_account"
    assert await connected(database) == []


async def test_s1_what_a_token_sees_ends_at_its_account_and_mode(
    caller: Caller, browser: Browser, database: Pool
) -> None:
    await browser.connect(await caller(SELLER), SELLER)
    await run_handler(accounts, [updated(False, at=0, account=SELLER, live=True, name="Live")], database)
    test, live, other = await caller(SELLER), await caller(SELLER, live=True), await caller(OTHER)
    seen = [(await api.ask("GET", "/v1/account")).json for api in (test, live, other)]
    assert [each["charges_enabled"] for each in seen] == [True, False, None]
    assert [each["connected"] for each in seen] == [True, None, None]
    for api in (test, live, other):
        answer = await api.ask("GET", "/v1/accounts")
        assert (answer.status, answer.json["code"]) == (403, "not_the_platform")
    platform, live_platform = await caller("self"), await caller("self", live=True)
    listed = [(await api.ask("GET", "/v1/accounts")).json["accounts"] for api in (platform, live_platform)]
    assert [[(each["account"], each["livemode"]) for each in part] for part in listed] == [
        [(SELLER, False)],
        [(SELLER, True)],
    ]


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "code"),
    [
        ("POST", "/v1/connect", {"json": {"account": SELLER}}, 422, "request_refused"),
        ("POST", "/v1/connect", {"json": []}, 422, "request_refused"),
        ("POST", "/v1/connect", {"data": b"{"}, 415, "not_json"),
        ("POST", "/v1/connect?return_to=https://evil.example", {}, 400, "unknown_parameter"),
        ("POST", "/v1/disconnect", {}, 422, "request_refused"),
        ("POST", "/v1/disconnect", {"json": {"account": "self"}}, 422, "request_refused"),
        ("POST", "/v1/disconnect", {"json": {"account": "acct_1/../x"}}, 422, "request_refused"),
        ("POST", "/v1/disconnect", {"json": {"account": ["acct_1"]}}, 422, "request_refused"),
        ("POST", "/v1/disconnect", {"json": {"acount": "acct_1"}}, 422, "request_refused"),
        ("GET", "/v1/account?account=acct_2", {}, 400, "unknown_parameter"),
        ("GET", "/v1/accounts?limit=201", {}, 400, "malformed_limit"),
        ("GET", "/v1/accounts?cursor=%00", {}, 400, "malformed_cursor"),
        ("GET", "/v1/accounts?cursor=AA", {}, 400, "malformed_cursor"),
    ],
)
async def test_what_is_no_request_is_said_so(
    caller: Caller, method: str, path: str, given: dict[str, Any], status: int, code: str
) -> None:
    answer = await (await caller("self")).ask(method, path, **given)
    assert (answer.status, answer.json["code"]) == (status, code)


async def test_r6_one_waits_for_the_other_who_came_with_the_same_state(
    caller: Caller, browser: Browser, database: Pool
) -> None:
    """The first holds its transaction open; the second finds the state used, once it may look."""
    state = state_in(await browser.to_stripe(await caller(SELLER)))
    ((_, cookie),) = browser.cookies.items()

    async def used() -> object:
        async with database.acquire() as db, db.transaction():
            return await connect_states.use(db, state, cookie.value)

    async with database.acquire() as one:
        begun_by_first = one.transaction()
        await begun_by_first.start()
        assert isinstance(await connect_states.use(one, state, cookie.value), connect_states.Attempt)
        second = asyncio.create_task(used())

        async def waits() -> bool:
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            return bool(await database.fetchval(waiting)) or second.done()

        await eventually(waits)
        await begun_by_first.commit()
    assert await second == "used"
