"""From the quote to Stripe's page and back, as buyers go: every way to pay, and to leave it."""

import pytest
from playwright.async_api import expect

from tests.browser.buyers import Visit
from tests.browser.pages import (
    CHECK_OUT,
    DEBIT,
    DECLINED,
    PAID,
    PAY,
    PROCESSING,
    WAITING,
    goes_to_stripe,
    is_same,
    offers_check_out,
    offers_nothing,
    remembers,
    says,
    submits,
)
from tests.browser.shop import MIXED, Shop


@pytest.mark.parametrize("which", [0, 1], ids=["top", "bottom"])
async def test_r9_r12_r20_check_out_pay_come_back_see_paid(shop: Shop, visit: Visit, which: int) -> None:
    quote = await shop.publish(*MIXED, discounts=[{"name": "Autumn", "percent": "10"}])
    page = await visit(quote.url)
    await offers_check_out(page)
    await goes_to_stripe(page, shop, which)
    await expect(page.get_by_text("Due today")).to_contain_text("1,124.10")
    await submits(page)
    await page.wait_for_url(f"{quote.url}/return**")
    await says(page, PAID)
    await page.get_by_role("link", name="Back to the quote").click()
    await says(page, PAID)
    await offers_nothing(page)


async def test_r20_r21_the_seller_hears_what_the_buyer_sees(shop: Shop, visit: Visit) -> None:
    quote = await shop.publish(title="One that is told of", owner={"name": "Olle", "email": "olle@seller.example"})
    page = await visit(quote.url)
    await goes_to_stripe(page, shop)
    await submits(page)
    await says(page, PAID)
    await shop.becomes(quote, "paid")
    await shop.mailed("olle@seller.example")


async def test_the_page_after_stripe_updates_by_itself(shop: Shop, visit: Visit) -> None:
    """While the webhooks are late it says so; once they are there it says Paid, and is still the same page."""
    quote = await shop.publish(*MIXED)
    page = await visit(quote.url)
    await goes_to_stripe(page, shop)
    with shop.webhooks_held():
        await submits(page)
        await says(page, WAITING)
        await remembers(page)
    await says(page, PAID)
    assert await is_same(page)


async def test_without_javascript_it_updates_by_itself_too(shop: Shop, visit: Visit) -> None:
    quote = await shop.publish()
    page = await visit(quote.url, java_script_enabled=False)
    await offers_check_out(page)
    await goes_to_stripe(page, shop)
    with shop.webhooks_held():
        await submits(page)
        await says(page, WAITING)
    await says(page, PAID)
    await page.get_by_role("link", name="Back to the quote").click()
    await says(page, PAID)


async def test_who_hurries_back_to_the_quote_does_not_pay_twice(shop: Shop, visit: Visit) -> None:
    """Stripe knows of the payment and we do not yet: a second Check out leads nowhere where money could be taken."""
    quote = await shop.publish()
    page = await visit(quote.url)
    await goes_to_stripe(page, shop)
    with shop.webhooks_held():
        await submits(page)
        await says(page, WAITING)
        await page.get_by_role("link", name="Back to the quote").click()
        if await page.get_by_role("button", name=CHECK_OUT).count():
            await page.get_by_role("button", name=CHECK_OUT).first.click()
            await expect(page.get_by_role("button", name=PAY, exact=True)).to_have_count(0)
        assert not shop.sessions_of(quote, "open")
    await shop.becomes(quote, "paid")
    await page.goto(quote.url)
    await says(page, PAID)
    assert len(shop.sessions_of(quote)) == 1


async def test_a_bank_debit_is_processing_then_paid(shop: Shop, visit: Visit) -> None:
    quote = await shop.publish()
    page = await visit(quote.url)
    session = await goes_to_stripe(page, shop)
    await submits(page, DEBIT)
    await says(page, PROCESSING)
    other = await visit(quote.url)
    await says(other, PROCESSING)
    await offers_nothing(other)
    await shop.stripe.settle(session)
    await says(page, PAID)
    await says(other, PAID)


async def test_a_bank_debit_that_fails_can_be_paid_otherwise(shop: Shop, visit: Visit) -> None:
    """The page that waited offers Check out again by itself."""
    quote = await shop.publish()
    page = await visit(quote.url)
    session = await goes_to_stripe(page, shop)
    await submits(page, DEBIT)
    await says(page, PROCESSING)
    await page.goto(quote.url)
    await says(page, PROCESSING)
    await shop.stripe.settle(session, paid=False)
    await offers_check_out(page)
    assert await goes_to_stripe(page, shop) != session
    await submits(page)
    await says(page, PAID)


async def test_a_declined_card_then_another_one(shop: Shop, visit: Visit) -> None:
    quote = await shop.publish()
    page = await visit(quote.url, expected=["402"])
    session = await goes_to_stripe(page, shop)
    await submits(page, DECLINED)
    await expect(page.get_by_role("alert")).to_contain_text("declined")
    # Somebody else looks at the quote meanwhile: it is open, and leads to the same session.
    other = await visit(quote.url)
    await offers_check_out(other)
    assert await goes_to_stripe(other, shop) == session
    await submits(page)
    await says(page, PAID)


async def test_going_back_from_stripe_offers_the_quote_again(shop: Shop, visit: Visit) -> None:
    quote = await shop.publish()
    page = await visit(quote.url)
    session = await goes_to_stripe(page, shop)
    await page.get_by_role("link", name="Back").click()
    await page.wait_for_url(quote.url)
    await offers_check_out(page)
    assert await goes_to_stripe(page, shop) == session
    # The browser's own button, whose page may be one that it kept.
    await page.go_back()
    await offers_check_out(page)
    assert await goes_to_stripe(page, shop) == session


async def test_two_tabs_share_one_session_and_one_payment(shop: Shop, visit: Visit) -> None:
    quote = await shop.publish()
    first = await visit(quote.url, expected=["409"])
    second = await first.context.new_page()
    late = await first.context.new_page()
    for tab in (second, late):
        await tab.goto(quote.url)
    assert await goes_to_stripe(first, shop) == await goes_to_stripe(second, shop)
    await submits(first)
    await says(first, PAID)
    await submits(second)
    await expect(second.get_by_role("heading")).to_have_text("You're all done here")
    # The third tab still shows Check out: the click tells what became of it.
    await late.get_by_role("button", name=CHECK_OUT).first.click()
    await late.wait_for_url(quote.url)
    await says(late, PAID)
    assert len(shop.sessions_of(quote)) == 1


async def test_a_double_click_is_one_click(shop: Shop, visit: Visit) -> None:
    quote = await shop.publish()
    page = await visit(quote.url)
    await page.get_by_role("button", name=CHECK_OUT).first.dblclick(no_wait_after=True)
    await page.wait_for_url(f"{shop.stripe.url}/pay/**")
    assert len(shop.sessions_of(quote)) == 1


@pytest.mark.parametrize("end", ["recall", "expire"])
async def test_r28_a_quote_that_ends_while_the_buyer_is_at_stripe(shop: Shop, visit: Visit, end: str) -> None:
    quote = await shop.publish()
    page = await visit(quote.url, expected=["409"])
    await goes_to_stripe(page, shop)
    await (shop.recall(quote) if end == "recall" else shop.expire(quote))
    await shop.ends(quote)
    await submits(page)
    await expect(page.get_by_role("heading")).to_have_text("Something went wrong")
    await page.goto(quote.url)
    await says(page, "This quote has been withdrawn" if end == "recall" else "This quote has expired")
    await offers_nothing(page)


async def test_with_the_keyboard_alone(shop: Shop, visit: Visit) -> None:
    """Tab leads to Check out, whose focus can be seen; Enter presses it; and so on until Paid."""
    quote = await shop.publish()
    page = await visit(quote.url)
    for _ in range(12):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.matches('form.check-out button')"):
            break
    ring = await page.evaluate(
        "(({outlineStyle, outlineWidth}) => outlineStyle === 'none' ? 0 : parseFloat(outlineWidth))"
        "(getComputedStyle(document.activeElement))"
    )
    assert ring >= 2, "nobody sees where the keyboard is"
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"{shop.stripe.url}/pay/**")
    await page.get_by_label("E-mail").focus()
    await page.keyboard.type("bea@buyers.example")
    await page.keyboard.press("Tab")
    await page.keyboard.type("Bea Buyer")
    await page.keyboard.press("Enter")
    await says(page, PAID)
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.wait_for_url(quote.url)
    await says(page, PAID)
