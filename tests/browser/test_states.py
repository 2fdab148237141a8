"""Every quote that can not be checked out says why, in words, and has nothing to press."""

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Route, expect

from tests.browser.buyers import Visit
from tests.browser.pages import CHECK_OUT, PAID, PROCESSING, offers_nothing, says
from tests.browser.shop import Quote, Shop

Ending = Callable[[Shop], Awaitable[Quote]]


async def paid(shop: Shop) -> Quote:
    quote = await shop.publish()
    await shop.pays(quote)
    await shop.becomes(quote, "paid")
    return quote


async def processing(shop: Shop) -> Quote:
    quote = await shop.publish()
    await shop.pays(quote, "debit")
    await shop.becomes(quote, "processing")
    return quote


async def refunded(shop: Shop, amount: int | None = None) -> Quote:
    quote = await shop.publish()
    session = await shop.pays(quote)
    await shop.becomes(quote, "paid")
    await shop.stripe.refund(session, amount)
    await shop.becomes(quote, "refunded" if amount is None else "partially_refunded")
    return quote


async def partially_refunded(shop: Shop) -> Quote:
    return await refunded(shop, 20_000)


async def disputed(shop: Shop, *, lost: bool = False) -> Quote:
    quote = await shop.publish()
    payment = shop.stripe.payment(await shop.pays(quote))
    await shop.becomes(quote, "paid")
    payment.story.goes_on()
    assert payment.charge is not None
    dispute = payment.story.open_dispute(payment.charge)
    await shop.becomes(quote, "disputed")
    if lost:
        payment.story.close_dispute(dispute, "lost")
        await shop.becomes(quote, "dispute_lost")
    return quote


async def dispute_lost(shop: Shop) -> Quote:
    return await disputed(shop, lost=True)


async def recalled(shop: Shop) -> Quote:
    quote = await shop.publish()
    await shop.recall(quote)
    return quote


async def expired(shop: Shop) -> Quote:
    quote = await shop.publish()
    await shop.expire(quote)
    return quote


async def not_enabled(shop: Shop) -> Quote:
    return await shop.publish(payment_enabled=False)


async def not_activated(shop: Shop) -> Quote:
    """R4: the account was activated when the quote was published, and is no more."""
    quote = await shop.publish(account="acct_1NotActivated0000")
    shop.stripe.change_account(quote.account, charges_enabled=False)
    await shop.shows(quote, "unavailable")
    return quote


async def disconnected(shop: Shop) -> Quote:
    """R6: its owner has taken away the platform's access."""
    quote = await shop.publish(account="acct_1Disconnected0000")
    shop.stripe.revoke(quote.account)
    await shop.shows(quote, "unavailable")
    return quote


ENDINGS: dict[Ending, tuple[str | re.Pattern[str], str]] = {
    paid: (PAID, "€1,200.00"),
    processing: (PROCESSING, "a few working days"),
    refunded: ("Refunded", "€1,200.00"),
    partially_refunded: ("Partly refunded", "€200.00 of €1,200.00"),
    disputed: ("The payment is disputed", "cannot be paid"),
    dispute_lost: ("The payment was reversed", "taken the payment back"),
    recalled: ("This quote has been withdrawn", "no longer be paid"),
    expired: ("This quote has expired", "31 December 2099"),
    not_enabled: ("This quote is not paid online", "The seller will tell you"),
    not_activated: ("Payment is not available at the moment", "Nothing has been charged"),
    disconnected: ("Payment is not available at the moment", "Nothing has been charged"),
}


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
async def test_r4_r7_r28_it_says_why_and_has_no_button(shop: Shop, visit: Visit, ending: Ending) -> None:
    headline, reason = ENDINGS[ending]
    quote = await ending(shop)
    before = len(shop.sessions_of(quote))
    page = await visit(quote.url)
    await says(page, headline)
    await expect(page.get_by_role("status")).to_contain_text(reason)
    await offers_nothing(page)
    await expect(page.locator("form")).to_have_count(0)
    # Who has the page still open as it was, and clicks, is led to the same sentence, and no session is made.
    async with shop.http.post(f"{quote.url}/checkout", allow_redirects=False) as answer:
        assert (answer.status, urlsplit(answer.headers["Location"]).path) == (303, urlsplit(quote.url).path)
    assert len(shop.sessions_of(quote)) == before


async def test_an_address_that_leads_nowhere_tells_nothing(shop: Shop, visit: Visit) -> None:
    """A token that was never given out, and one that is none, are answered alike."""
    said = []
    for token in ("A" * 32, "no-token"):
        page = await visit(f"{shop.running.public_url}/q/{token}", expected=["404"])
        await expect(page.get_by_role("heading", level=1)).to_have_text("There is no quote at this address")
        await offers_nothing(page)
        said.append(await page.locator("main").inner_text())
    assert said[0] == said[1]


async def test_stripe_is_away_then_back(shop: Shop, visit: Visit) -> None:
    """The click is answered with a page that tries again by itself, and leads on once Stripe answers."""
    quote = await shop.publish()
    page = await visit(quote.url, expected=["502", "503"])
    with shop.stripe_away():
        await page.get_by_role("button", name=CHECK_OUT).first.click()
        await expect(page.get_by_role("button", name="Try again")).to_be_visible()
    await page.wait_for_url(f"{shop.stripe.url}/pay/**")
    assert len(shop.sessions_of(quote, "open")) == 1


async def test_a_form_on_another_website_checks_nothing_out(shop: Shop, visit: Visit) -> None:
    quote = await shop.publish()
    page = await visit(expected=["403"])
    form = f'<form method="post" action="{quote.url}/checkout"><button>Win a prize</button></form>'

    async def elsewhere(route: Route) -> None:
        await route.fulfill(content_type="text/html", body=form)

    await page.route("http://evil.example/**", elsewhere)
    await page.goto("http://evil.example/")
    await page.get_by_role("button").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("This click came from another website")
    assert not shop.sessions_of(quote)
