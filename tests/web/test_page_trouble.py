"""The pages for what goes wrong: what they say, and how they try again."""

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from tests.web.showing import renderer, trouble
from web.page import onward
from web.page.rendering import RENDERER, Renderer
from web.page.trouble import MOST_AGAIN
from web.page.words import words_for


@pytest.mark.parametrize(
    ("status", "heading"),
    [
        (400, "That did not work"),
        (403, "This click came from another website"),
        (404, "There is no quote at this address"),
        (405, "That did not work"),
        (429, "One moment, please"),
        (500, "Something went wrong on our side"),
        (502, "Stripe did not accept this quote"),
        (503, "We cannot answer just now"),
    ],
)
def test_each_trouble_has_its_words_and_its_status(status: int, heading: str) -> None:
    response, seen = trouble(status)
    assert response.status == status
    assert response.content_type == "text/html"
    assert seen.one("h1").text == heading
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]


def test_a_page_without_a_quote_speaks_the_browsers_language_and_one_with_it_the_quotes() -> None:
    assert trouble(404, language="sv,en;q=0.5")[1].one("h1").text == "Det finns ingen offert på den här adressen"
    response, seen = trouble(503, language="sv", locale="fr-FR")
    assert seen.one("html")["lang"] == response.headers["Content-Language"] == "fr"


def test_a_page_that_could_not_be_shown_loads_itself_again_each_time_later() -> None:
    seconds = []
    assert not trouble(503)[1].all("form")
    for count in range(3):
        response, seen = trouble(503, path=f"/q/x?again={count}", retry_after=7.2)
        assert response.headers["Retry-After"] == "8"
        refresh = seen.one("meta", http_equiv="refresh")["content"]
        delay, _, target = refresh.partition("; url=")
        assert target == f"?again={count + 1}"
        seconds.append(int(delay))
    assert seconds == [8, 11, 15]


@pytest.mark.parametrize("given", ["-1", "x", "999", "٣", "1&again=2", ""])
def test_a_count_that_is_none_begins_anew(given: str) -> None:
    _, seen = trouble(503, path=f"/q/x?again={given}")
    assert seen.one("meta", http_equiv="refresh")["content"] in {"5; url=?again=1", "8; url=?again=2"}


def test_a_click_that_failed_is_sent_again_by_itself_a_few_times_and_by_a_button_always() -> None:
    _, seen = trouble(503, path="/q/tok/checkout", token="tok", again="checkout", retry_after=3)
    form = seen.one("form")
    assert (form["method"], form["action"], form["data-again"]) == ("post", "/q/tok/checkout?again=1", "5")
    assert form.one("button").text == "Try again"
    assert not seen.all("meta", http_equiv="refresh"), "a GET would lose the click"
    assert [link["href"] for link in seen.all("a")] == ["/q/tok"]
    _, seen = trouble(503, path=f"/q/tok/checkout?again={MOST_AGAIN}", token="tok", again="checkout")
    assert seen.one("form").get("data-again") is None
    assert "in a few minutes" in seen.text
    _, seen = trouble(502, path="/q/tok/checkout", token="tok", again="checkout")
    assert seen.one("form").get("data-again") is None
    assert seen.one("button").text == "Try again"


def test_nothing_leads_to_a_quote_that_may_not_be() -> None:
    for status in (404, 429, 500, 503):
        _, seen = trouble(status)
        assert not seen.all("a")
        assert not seen.all("form")


def test_below_a_folder_all_addresses_are() -> None:
    below = Renderer("https://example.com/quotes/", ["https://checkout.stripe.com"])
    given = {"title": "t", "text": "t", "token": "tok", "again": "checkout", "retry": None}
    text = below.html("trouble.html", words_for("en"), **given)
    assert 'action="/quotes/q/tok/checkout?again=0"' in text
    assert 'href="/quotes/static/page.' in text
    assert 'href="/quotes/q/tok"' in text


def onward_to(url: str) -> web.Response:
    app = web.Application()
    app[RENDERER] = renderer
    return onward(make_mocked_request("POST", "/q/t/checkout", app=app), url, locale="de")


def test_the_way_to_stripe_is_a_redirect_where_the_policy_lets_a_form_lead_there() -> None:
    response = onward_to("https://checkout.stripe.com/c/pay/cs_1#fid")
    assert response.status == 303
    assert response.headers["Location"] == "https://checkout.stripe.com/c/pay/cs_1#fid"


@pytest.mark.parametrize(
    "url", ["https://pay.example.com/c/pay/cs_1?a=1&b=2", "https://checkout.stripe.com.evil.example/"]
)
def test_to_a_merchants_own_domain_a_page_leads_which_the_policy_does_not_hinder(url: str) -> None:
    response = onward_to(url)
    assert response.status == 200
    assert response.text is not None
    assert f'content="0; url={url.replace("&", "&amp;")}"' in response.text
    assert f'href="{url.replace("&", "&amp;")}"' in response.text
    assert "Weiter" in response.text


@pytest.mark.parametrize("path", ["/", "/q", "/q/"])
async def test_an_address_that_was_cut_short_gets_a_page(session: aiohttp.ClientSession, base: str, path: str) -> None:
    async with session.get(f"{base}{path}") as answer:
        assert (answer.status, answer.content_type) == (404, "text/html")
