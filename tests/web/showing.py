"""Quotes as a page gets them, without a database; and the pages made of them."""

import json
from typing import Any

from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from quittance.domain.publishing.content import read_content
from quittance.domain.publishing.faults import Faults
from quittance.domain.publishing.offer import AttemptState, Offer
from quittance.domain.publishing.policies import step
from quittance.domain.publishing.record import content_json, totals_json
from quittance.domain.publishing.totals import totals_of
from tests.web.conftest import PUBLIC_URL, quote
from tests.web.html import Element, tree
from web.page.notices import notice_of, notice_on_return
from web.page.rendering import RENDERER, Renderer
from web.page.trouble import render_trouble
from web.page.view import Shown, quote_of

TOKEN = "t0ken-t0ken-t0ken-t0ken-t0ken-32"
# 23:30 UTC: the next day in Stockholm.
PAID_AT = "2026-11-22T23:30:00.000Z"

renderer = Renderer(PUBLIC_URL, ["https://checkout.stripe.com"])


def shown(
    *lines: dict[str, Any],
    offer: Offer = "open",
    livemode: bool = True,
    account_name: str | None = "Nordlicht Studio AB",
    payment: dict[str, Any] | None = None,
    attempt: AttemptState | None = None,
    **given: Any,
) -> Shown:
    """What is known of a quote; `payment` is added to a payment of the whole."""
    faults = Faults()
    content = read_content(quote(*lines, **given), faults)
    assert content is not None, faults.found
    totals = totals_json(content, totals_of(content, step(content.currency)))
    paid = {
        "paid_at": PAID_AT,
        "currency": content.currency,
        "amount_due": totals["due"],
        "amount_captured": totals["due"],
        "amount_refunded": 0,
        "amount_lost": 0,
    }
    return Shown(
        token=TOKEN,
        content=json.loads(json.dumps(content_json(content))),
        totals=json.loads(json.dumps(totals)),
        offer=offer,
        livemode=livemode,
        account_name=account_name,
        payment=paid | (payment or {}),
        attempt=attempt,
    )


def page(shown: Shown, **values: Any) -> Element:
    """The quote's page."""
    return tree(page_text(shown, **values))


def page_text(shown: Shown, **values: Any) -> str:
    seen, notice = quote_of(shown), notice_of(shown)
    return renderer.html(
        "quote.html", seen.words, **{"quote": seen, "notice": notice, "ask": "state", "refresh": None} | values
    )


def return_page(shown: Shown, **values: Any) -> Element:
    """The page after Stripe."""
    seen, notice = quote_of(shown), notice_on_return(shown)
    given = {"quote": seen, "notice": notice, "ask": "state?at=return", "refresh": None, "late": False}
    return tree(renderer.html("return.html", seen.words, **given | values))


def trouble(
    status: int, *, path: str = f"/q/{TOKEN}", language: str = "", **given: Any
) -> tuple[web.Response, Element]:
    """The page for an answer that is none."""
    app = web.Application()
    app[RENDERER] = renderer
    request = make_mocked_request("GET", path, headers={"Accept-Language": language}, app=app)
    response = render_trouble(request, status, **given)
    assert response.text is not None
    return response, tree(response.text)
