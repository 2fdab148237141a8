"""What buyers do on pages, and what they see there."""

import re

from playwright.async_api import Page, expect

from tests.browser.shop import Shop

CHECK_OUT = "Check out"
# Buttons of Stripe's page.
PAY, DEBIT, DECLINED = "Pay", "Pay by bank debit", "Card declined"

PAID = re.compile(r"^Paid on \d{1,2} \w+ \d{4}$")
PROCESSING = "The payment is being processed"
WAITING = "Waiting for confirmation of the payment"

# Everything behind a click: webhooks, two queues, the outbox, and a page that asks less and less often.
expect.set_options(timeout=30_000)


async def goes_to_stripe(page: Page, shop: Shop, which: int = 0) -> str:
    """Click Check out, at the top (0) or at the bottom (1); the address of Stripe's page."""
    await page.get_by_role("button", name=CHECK_OUT).nth(which).click()
    await page.wait_for_url(f"{shop.stripe.url}/pay/**")
    return page.url


async def submits(page: Page, button: str = PAY) -> None:
    """Fill in Stripe's page, and press one of its buttons."""
    if await page.get_by_label("E-mail").is_editable():
        await page.get_by_label("E-mail").fill("bea@buyers.example")
    await page.get_by_label("Name").fill("Bea Buyer")
    await page.get_by_role("button", name=button, exact=True).click()


async def says(page: Page, headline: str | re.Pattern[str]) -> None:
    """Wait until the page's notice has that headline."""
    await expect(page.get_by_role("status").get_by_role("heading")).to_have_text(headline)


async def offers_check_out(page: Page) -> None:
    """R9: at the top and at the bottom, and no notice instead."""
    await expect(page.get_by_role("button", name=CHECK_OUT)).to_have_count(2)
    await expect(page.get_by_role("status")).to_have_count(0)


async def offers_nothing(page: Page) -> None:
    """Nothing to press."""
    await expect(page.get_by_role("button")).to_have_count(0)


async def remembers(page: Page) -> None:
    """Mark the page, so that `same` can tell whether it was loaded again."""
    await page.evaluate("document.body.dataset.mark = 'same'")


async def is_same(page: Page) -> bool:
    """Whether the page is still the one that was marked."""
    return bool(await page.evaluate("document.body.dataset.mark === 'same'"))
