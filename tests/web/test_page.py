"""The quote's page through the door: addresses, headers, limits, and what the page's own script is told."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest
import structlog
import yarl
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from asyncpg.pool import Pool
from structlog.testing import capture_logs

from tests.web.conftest import line
from tests.web.html import Element, tree
from tests.web.shop import ACCOUNT, Shop, open_shop
from web.page import handlers
from web.page.assets import assets
from web.security import FORWARDED_HOPS, checkout_origins, client_address

NOBODYS = "A" * 32

TOLD = """
INSERT INTO quotes (account, livemode, quote_id, sequence, facts, data, status, label)
VALUES ($1, false, $2, 1, '{}', $3::jsonb, $4, $4)
ON CONFLICT (account, livemode, quote_id) DO UPDATE SET data = excluded.data, status = excluded.status
"""


@pytest.fixture
async def shop(database: Pool) -> AsyncIterator[Shop]:
    async with open_shop(database, processes=1) as opened:
        yield opened


class Seen(NamedTuple):
    """What a browser got."""

    status: int
    headers: Any
    text: str

    @property
    def tree(self) -> Element:
        return tree(self.text)

    @property
    def json(self) -> Any:
        return json.loads(self.text)


async def get(shop: Shop, path: str, method: str = "GET", **headers: str) -> Seen:
    url = yarl.URL(f"{shop.bases[0]}{path}", encoded=True)
    async with shop.http.request(method, url, headers=headers, allow_redirects=False) as answer:
        return Seen(answer.status, answer.headers, await answer.text())


async def told(shop: Shop, status: str, **payment: Any) -> None:
    """What the quotes worker has concluded."""
    data = {"status": status, "paid_at": None, "currency": "usd", "amount_captured": 10_000, **payment}
    await shop.database.execute(TOLD, ACCOUNT, "Q-1", json.dumps(data), status)


async def test_r9_a_published_quote_has_a_page_with_check_out(shop: Shop) -> None:
    token = await shop.publish(locale="sv-SE")
    seen = await get(shop, f"/q/{token}")
    assert seen.status == 200
    assert seen.headers["Content-Type"] == "text/html; charset=utf-8"
    assert seen.headers["Content-Language"] == "sv"
    assert [button.text for button in seen.tree.all("button")] == ["Till betalning"] * 2
    assert {form["action"] for form in seen.tree.all("form")} == {f"/q/{token}/checkout"}
    assert (await get(shop, f"/q/{token}", "HEAD")).status == 200


async def test_the_account_is_named_where_it_is_known(shop: Shop) -> None:
    token = await shop.publish()
    assert (await get(shop, f"/q/{token}")).tree.one("p", class_="seller").text == "Sal Seller"
    await shop.database.execute(
        "INSERT INTO accounts (account, livemode, name) VALUES ($1, false, 'Nordlicht')", ACCOUNT
    )
    assert (await get(shop, f"/q/{token}")).tree.one("p", class_="seller").text == "Nordlicht"


async def test_what_has_become_of_a_quote_stands_in_place_of_the_button(shop: Shop) -> None:
    token = await shop.publish(time_zone="Europe/Stockholm")

    async def heading() -> str:
        seen = (await get(shop, f"/q/{token}")).tree
        assert not seen.all("button")
        return seen.by_id("notice-title").text

    await shop.pass_expiry()
    assert await heading() == "This quote has expired"
    await shop.recall()
    assert await heading() == "This quote has been withdrawn"
    await told(shop, "processing")
    assert await heading() == "The payment is being processed"
    await told(shop, "paid", paid_at="2026-11-22T23:30:00.000Z")
    assert await heading() == "Paid on November 23, 2026"
    await told(shop, "refunded")
    assert await heading() == "Refunded"


async def test_a_page_that_waits_is_told_and_one_that_need_not_wait_is_told_so(shop: Shop) -> None:
    token = await shop.publish()
    quote, returned = f"/q/{token}/state", f"/q/{token}/state?at=return"
    assert (await get(shop, quote)).json == {"offer": "open", "passing": False}
    waiting = (await get(shop, returned)).json
    assert (waiting["offer"], waiting["state"], waiting["passing"]) == ("open", "waiting", True)
    page = (await get(shop, f"/q/{token}/return")).tree
    assert page.by_id("notice")["data-ask"] == returned
    assert page.by_id("notice")["data-state"] == "waiting"
    await told(shop, "paid", paid_at="2026-11-22T23:30:00.000Z")
    for path in (quote, returned):
        paid = (await get(shop, path)).json
        assert paid == {
            "offer": "paid",
            "state": "paid",
            "passing": False,
            "tone": "good",
            "title": "Paid on November 22, 2026",
            "text": "Thank you. We have received $100.00.",
            "ask_seller": False,
        }
    page = (await get(shop, f"/q/{token}/return")).tree
    assert page.one("h1").text == "Paid on November 22, 2026"
    assert page.by_id("notice").get("data-ask") is None


async def test_without_javascript_a_page_that_waits_loads_itself_again_each_time_later(shop: Shop) -> None:
    token = await shop.publish()
    delays = []
    for count in range(0, 24, 4):
        page = (await get(shop, f"/q/{token}/return?again={count}")).text
        assert "<noscript><meta http-equiv" in page
        content = tree(page).one("meta", http_equiv="refresh")["content"]
        delays.append(int(content.partition(";")[0]))
        assert content.endswith(f"url=?again={min(count, 20) + 1}")
        assert (tree(page).by_id("late").get("hidden") is None) == (count >= handlers.LATE)
    assert delays == [4, 16, 64, 120, 120, 120]
    await told(shop, "paid")
    assert "http-equiv" not in (await get(shop, f"/q/{token}/return?again=3")).text


@pytest.mark.parametrize(
    "path",
    [
        f"/q/{NOBODYS}",
        "/q/short",
        f"/q/{NOBODYS}!",
        "/q/%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00",
        "/q/" + "A" * 4_000,
        f"/q/{NOBODYS}/return",
        f"/q/{NOBODYS}/no/such/page",
        "/q/",
        "/q/..%2F..%2Fetc%2Fpasswd",
        "/q/%F0%9F%92%A9",
    ],
)
async def test_an_address_that_leads_nowhere_says_the_same_whatever_it_is(shop: Shop, path: str) -> None:
    seen, other = await get(shop, path), await get(shop, f"/q/{NOBODYS[1:]}B")
    assert seen.status == other.status == 404
    assert seen.text == other.text
    assert seen.tree.one("h1").text == "There is no quote at this address"
    assert not seen.tree.all("a")


async def test_the_script_is_told_in_json_that_there_is_no_quote(shop: Shop) -> None:
    seen = await get(shop, f"/q/{NOBODYS}/state")
    assert seen.status == 404
    assert seen.headers["Content-Type"].startswith("application/problem+json")


async def test_who_loads_the_address_of_a_click_again_comes_to_the_quote(shop: Shop) -> None:
    token = await shop.publish()
    seen = await get(shop, f"/q/{token}/checkout")
    assert (seen.status, seen.headers["Location"]) == (303, f"/q/{token}")
    assert (await get(shop, "/q/no-token/checkout")).status == 404
    wrong = await get(shop, f"/q/{token}", "DELETE")
    assert wrong.status == 405
    assert wrong.headers["Allow"] == "GET, HEAD"
    assert wrong.tree.one("h1").text == "That did not work"


async def test_every_page_is_kept_to_itself(shop: Shop) -> None:
    token = await shop.publish()
    for path in (f"/q/{token}", f"/q/{token}/return", f"/q/{NOBODYS}"):
        headers = (await get(shop, path)).headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "style-src": "'self'",
            "script-src": "'self'",
            "connect-src": "'self'",
            "img-src": "'self'",
            "form-action": f"'self' https://checkout.stripe.com {shop.stripe.url}",
            "frame-ancestors": "'none'",
            "base-uri": "'none'",
        }
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["X-Robots-Tag"] == "noindex, nofollow"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Strict-Transport-Security"]
        assert "Set-Cookie" not in headers
    assert (await get(shop, f"/q/{token}/state")).headers["Cache-Control"] == "no-store"


def test_a_form_leads_to_stripes_page_and_in_a_test_to_where_stripe_is_played() -> None:
    assert checkout_origins("https://api.stripe.com") == ("https://checkout.stripe.com",)
    assert checkout_origins("https://api.stripe.com/") == ("https://checkout.stripe.com",)
    assert checkout_origins("http://127.0.0.1:12111/base") == ("https://checkout.stripe.com", "http://127.0.0.1:12111")


async def test_style_script_and_icon_may_be_kept_for_ever_because_their_address_changes(shop: Shop) -> None:
    for asset in assets().values():
        seen = await get(shop, f"/static/{asset.address}")
        assert seen.status == 200
        assert seen.text.encode() == asset.body
        assert seen.headers["Content-Type"].startswith(asset.content_type)
        assert seen.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    for name in ("page.css", "page.000000000000.css", "..%2Fsettings.py", "%00"):
        assert (await get(shop, f"/static/{name}")).status == 404


async def test_who_asks_too_often_waits_and_who_guesses_waits_longer(database: Pool) -> None:
    async with open_shop(database, processes=1) as shop:
        token = await shop.publish()
        answers = [(await get(shop, f"/q/{NOBODYS}")).status for _ in range(handlers.MISSES_AT_ONCE + 3)]
        assert answers[: handlers.MISSES_AT_ONCE] == [404] * handlers.MISSES_AT_ONCE
        assert answers[-1] == 429
        assert (await get(shop, f"/q/{token}")).status == 200, "an address that is good is not refused for bad ones"
    async with open_shop(database, processes=1) as shop:
        seen = [await get(shop, f"/q/{token}") for _ in range(handlers.CALLS_AT_ONCE * 2)][-1]
        assert seen.status == 429
        assert int(seen.headers["Retry-After"]) >= 1
        assert seen.tree.one("h1").text == "One moment, please"
        assert seen.tree.all("meta", http_equiv="refresh")


async def test_while_the_database_is_away_a_page_says_so_and_tries_again(database: Pool) -> None:
    async with open_shop(database, processes=1) as shop:
        token = await shop.publish()
        await database.execute("ALTER TABLE published_quotes RENAME TO away")
        broken = await get(shop, f"/q/{token}")
        assert broken.status == 500
        assert broken.tree.one("h1").text == "Something went wrong on our side"
        await database.close()
        seen = await get(shop, f"/q/{token}", **{"Accept-Language": "de"})
    assert seen.status == 503
    assert seen.headers["Retry-After"]
    assert seen.tree.one("h1").text == "Wir können gerade nicht antworten"
    assert seen.tree.one("meta", http_equiv="refresh")["content"].endswith("; url=?again=1")


@pytest.mark.parametrize(
    ("hops", "remote", "forwarded", "address"),
    [
        (0, "203.0.113.7", [], "203.0.113.7"),
        (0, "203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        (1, "10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        (1, "10.0.0.1", ["1.2.3.4, 198.51.100.1"], "198.51.100.1"),
        (1, "10.0.0.1", ["1.2.3.4", "198.51.100.1"], "198.51.100.1"),
        (2, "10.0.0.1", ["1.2.3.4, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        (2, "10.0.0.1", ["198.51.100.1"], "10.0.0.1"),
        (1, "10.0.0.1", [], "10.0.0.1"),
        (1, "10.0.0.1", ["unknown"], "10.0.0.1"),
        (1, "10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        (1, "10.0.0.1", ['"[2001:db8:1:2:3:4:5:6]:4711"'], "2001:db8:1:2::/64"),
        (0, "2001:db8:1:2::9", [], "2001:db8:1:2::/64"),
        (0, "::ffff:203.0.113.7", [], "203.0.113.7"),
        (0, "fe80::1%eth0", [], "fe80::/64"),
        (0, None, [], "unknown"),
    ],
)
def test_a_limit_counts_against_the_address_that_our_own_proxy_saw(
    hops: int, remote: str | None, forwarded: list[str], address: str
) -> None:
    app = web.Application()
    app[FORWARDED_HOPS] = hops
    headers = aiohttp.web.HTTPOk().headers.copy()
    for value in forwarded:
        headers.add("X-Forwarded-For", value)
    request = make_mocked_request("GET", "/", headers=headers, app=app).clone(remote=remote or "")
    assert client_address(request) == address


async def test_no_line_of_the_log_holds_a_pages_secret_or_a_person(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await shop.publish(line(), contact={"email": "berta@private.example"})
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    try:
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
            for path in (f"/q/{token}", f"/q/{token}/return", f"/q/{token}/state", f"/q/{NOBODYS}"):
                await get(shop, path)
            await shop.database.execute("ALTER TABLE published_quotes RENAME TO away")
            assert (await get(shop, f"/q/{token}")).status == 500
            monkeypatch.setattr(handlers, "TOKEN", None)  # any fault of ours
            assert (await get(shop, f"/q/{token}")).status == 500
    finally:
        structlog.configure(wrapper_class=before)
    assert [line["event"] for line in logs] == ["request.failed"] * 2
    for secret in (token, NOBODYS, "private.example", "sal@example.com"):
        assert secret not in str(logs)
