"""Taking a connection back (R6), by us; and what is kept, said and logged of all this."""

import io
import re

import pytest
import structlog
from asyncpg.pool import Pool

from tests.fakes.stripe import Fault, StripeApi
from tests.web.conftest import Api, Caller, quote
from tests.web.connect.browser import Browser, Page, begun

SELLER = "acct_1SellerOne00000000"
OTHER = "acct_1SellerTwo00000000"
DEAUTHORISED = "SELECT deauthorised_at IS NOT NULL FROM accounts WHERE account = $1 AND NOT livemode"


async def taken_back(database: Pool, account: str = SELLER) -> bool:
    return bool(await database.fetchval(DEAUTHORISED, account))


async def test_r6_an_account_disconnects_itself(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    api = await caller(SELLER)
    await browser.connect(api, SELLER)
    answer = await api.ask("POST", "/v1/disconnect")
    assert answer.status == 200
    assert (answer.json["account"], answer.json["connected"], answer.json["deauthorised"]) == (SELLER, False, True)
    assert answer.json["deauthorised_at"] is not None
    assert stripe.accounts.connected == set()
    assert (await api.publish("Q-1", quote())).faults == [("R4", "account_disconnected", None)]
    again = await api.ask("POST", "/v1/disconnect", json={"account": SELLER})
    assert (again.status, again.json) == (200, answer.json)
    assert len(stripe.calls_of("POST", "/oauth/deauthorize")) == 1


async def test_r6_the_platform_disconnects_any(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    platform = await caller("self")
    for account in (SELLER, OTHER):
        await browser.connect(platform, account)
    answer = await platform.ask("POST", "/v1/disconnect", json={"account": OTHER})
    assert (answer.status, answer.json["connected"]) == (200, False)
    assert stripe.accounts.connected == {(SELLER, False)}
    assert [await taken_back(database, account) for account in (SELLER, OTHER)] == [False, True]


async def test_s1_nobody_disconnects_anothers(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    await browser.connect(await caller(SELLER), SELLER)
    other, live = await caller(OTHER), await caller("self", live=True)
    there = await other.ask("POST", "/v1/disconnect", json={"account": SELLER})
    nowhere = await other.ask("POST", "/v1/disconnect", json={"account": "acct_none"})
    assert (there.status, there.json["detail"]) == (nowhere.status, nowhere.json["detail"])
    assert there.status == 404
    assert (await live.ask("POST", "/v1/disconnect", json={"account": SELLER})).status == 404, "another mode's"
    assert (await (await caller("self")).ask("POST", "/v1/disconnect", json={"account": "acct_none"})).status == 404
    assert stripe.calls_of("POST", "/oauth/deauthorize") == []
    assert not await taken_back(database)


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 429}, {"drops": True, "executes": True}])
async def test_what_stripe_does_not_answer_is_not_known(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool, fault: dict[str, int | bool]
) -> None:
    api = await caller(SELLER)
    await browser.connect(api, SELLER)
    stripe.faults.append(Fault("POST", path="/oauth/deauthorize", **fault))  # type: ignore[arg-type]
    answer = await api.ask("POST", "/v1/disconnect")
    assert (answer.status, answer.json["code"]) == (503, "stripe_away")
    assert int(answer.headers["Retry-After"]) >= 1
    assert not await taken_back(database)
    assert (await api.ask("POST", "/v1/disconnect")).status == 200
    assert await taken_back(database)


async def test_what_is_gone_at_stripe_is_gone(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    """Its owner took it back, and the webhook has not come: Stripe does not know the connection any more."""
    api = await caller(SELLER)
    await browser.connect(api, SELLER)
    stripe.revoke(SELLER)
    assert (await api.ask("POST", "/v1/disconnect")).json["deauthorised"] is True
    assert await taken_back(database)


async def test_a_client_id_that_is_not_ours_disconnects_nobody(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    """Stripe words it as it does a connection that is not there."""
    api = await caller(SELLER)
    await browser.connect(api, SELLER)
    stripe.oauth.client_ids[False] = "ca_AnotherOne"
    answer = await api.ask("POST", "/v1/disconnect")
    assert (answer.status, answer.json["code"]) == (502, "stripe_refused")
    assert not await taken_back(database)


async def test_a_key_that_may_not_look_disconnects_nobody(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool
) -> None:
    api = await caller(SELLER)
    await browser.connect(api, SELLER)
    stripe.oauth.client_ids[False] = "ca_AnotherOne"
    stripe.faults.append(Fault("GET", status=403, path="/v1/accounts/"))
    assert (await api.ask("POST", "/v1/disconnect")).status == 502
    assert not await taken_back(database)


async def test_an_account_connected_by_other_means_disconnects_itself(
    caller: Caller, stripe: StripeApi, database: Pool
) -> None:
    stripe.accounts.connect(SELLER, livemode=False)
    assert (await (await caller(SELLER)).ask("POST", "/v1/disconnect")).json["deauthorised"] is True
    assert stripe.accounts.connected == set()


# What is kept, logged and shown --------------------------------------------------------------------------------------

EVERYTHING = """
SELECT string_agg(t, E'\\n') FROM (
    SELECT oauth_states::text AS t FROM oauth_states UNION ALL SELECT accounts::text FROM accounts
    UNION ALL SELECT api_tokens::text FROM api_tokens UNION ALL SELECT outbox::text FROM outbox
) AS everything
"""


async def test_no_secret_is_kept_or_logged(
    caller: Caller, browser: Browser, stripe: StripeApi, database: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INVARIANT: start, state, cookie and code, and the tokens in Stripe's answer, stand in no table and no line."""
    lines = io.StringIO()
    given: list[str] = []
    token = stripe.oauth.token

    def listening(*arguments: object) -> dict[str, object]:
        answer = token(*arguments)  # type: ignore[arg-type]
        given.extend(str(answer[name]) for name in ("access_token", "refresh_token", "stripe_publishable_key"))
        return answer

    monkeypatch.setattr(stripe.oauth, "token", listening)
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(lines), wrapper_class=structlog.BoundLogger)
    try:
        api = await caller(SELLER)
        url = await begun(api)
        sent = await browser.get(url)
        ((_, cookie),) = browser.cookies.items()
        back = await browser.at_stripe(sent.location, SELLER)
        page = await browser.get(back)
        await browser.connect(api, OTHER)
        await api.ask("POST", "/v1/disconnect")
    finally:
        structlog.configure(**before)
    (code,) = re.findall(r"code=([^&]+)", back)
    (state,) = re.findall(r"state=([^&]+)", back)
    secrets = [url.rpartition("/")[2], cookie.value, code, state, str(api.token), *given]
    assert len(secrets) == 5 + 6
    logged, kept = lines.getvalue(), await database.fetchval(EVERYTHING)
    assert "connect.connected" in logged
    assert "disconnect" in logged
    for secret in secrets:
        assert secret not in logged
        assert secret not in kept
        assert secret not in page.text


async def test_every_page_is_guarded_and_tells_no_other_site_its_address(caller: Caller, browser: Browser) -> None:
    pages: list[Page] = [
        await browser.get(f"{browser.base}/connect/nothing"),
        await browser.get(await begun(await caller(SELLER))),
        await browser.connect(await caller(SELLER), SELLER),
    ]
    assert [page.status for page in pages] == [404, 303, 200]
    for page in pages:
        headers = page.headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe-inline" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Strict-Transport-Security"].startswith("max-age=")
        assert "<script" not in page.text
        assert "style=" not in page.text


async def test_a_name_from_stripe_is_shown_as_text(caller: Caller, browser: Browser, stripe: StripeApi) -> None:
    stripe.change_account(SELLER, business_profile={"name": "<img src=x onerror=alert(1)>"})
    page = await browser.connect(await caller(SELLER), SELLER)
    assert "&lt;img src=x" in page.text
    assert "<img" not in page.text


async def test_a_database_that_is_away_is_a_page_too(caller: Caller, browser: Browser, database: Pool) -> None:
    url = await begun(await caller(SELLER))
    await database.execute("ALTER TABLE oauth_states RENAME TO gone")
    page = await browser.get(url)
    assert (page.status, page.outcome) == (500, "our_fault")
    await database.execute("ALTER TABLE gone RENAME TO oauth_states")
    assert (await browser.get(url)).status == 303


async def test_attempts_are_forgotten_after_thirty_days(caller: Caller, database: Pool) -> None:
    api: Api = await caller(SELLER)
    await begun(api)
    await database.execute("UPDATE oauth_states SET expires_at = now() - interval '29 days'")
    await begun(api)
    assert await database.fetchval("SELECT count(*) FROM oauth_states") == 2
    await database.execute("UPDATE oauth_states SET expires_at = now() - interval '31 days'")
    await begun(api)
    assert await database.fetchval("SELECT count(*) FROM oauth_states") == 1
