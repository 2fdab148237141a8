"""How the pages are for different people: telephones, languages, the dark, and those who hear them read out."""

import re
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from dev.samples import SAMPLES, sample
from tests.browser.buyers import PHONE, Visit, Visits
from tests.browser.pages import CHECK_OUT, PAID, goes_to_stripe, offers_check_out, says, submits
from tests.browser.shop import MIXED, Quote, Shop, line
from web.page.words import words_for

LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"

# The text of each element, its contrast with what is behind it, and how much it has to have (WCAG 2.2, 1.4.3).
FAINT = """() => {
  const parse = (text) => {
    const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1});
    const draw = canvas.getContext("2d", {willReadFrequently: true});
    draw.fillStyle = text;
    draw.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = draw.getImageData(0, 0, 1, 1).data;
    return {rgb: [r, g, b], alpha: a / 255};
  };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.alpha > 0.99) return found.rgb;
    }
    return parse("Canvas").rgb;
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const style = getComputedStyle(element);
    const {width, height} = element.getBoundingClientRect();
    if (!own || width < 2 || height < 2 || style.visibility === "hidden") continue;
    const pair = [light(parse(style.color).rgb), light(behind(element))].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if (contrast < least) faint.push(`${element.textContent.trim().slice(0, 40)}: ${contrast.toFixed(2)} < ${least}`);
  }
  return faint;
}"""

TOO_WIDE = """() => [...document.querySelectorAll("body *")]
  .filter((element) => element.getBoundingClientRect().right > document.documentElement.clientWidth + 1
    && getComputedStyle(element).position !== "absolute")
  .map((element) => `${element.tagName}.${element.className}: ${element.textContent.trim().slice(0, 40)}`)"""


async def fits(page: Page) -> None:
    """Nothing has to be moved sideways to be read."""
    wide, narrow = await page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= narrow, await page.evaluate(TOO_WIDE)


async def big_quote(shop: Shop) -> Quote:
    """With everything a quote can have, and words and amounts that are long."""
    lines: tuple[dict[str, Any], ...] = (
        line(name=LONG, description="Ein Satz. " * 30, quantity=12, discount={"percent": "7.5", "name": LONG}),
        line(unit_amount=87_654_321, quantity=9),
        line(name="Support", unit_amount=4_900, billing_frequency="monthly"),
    )
    more: dict[str, Any] = {
        "title": f"{LONG} {LONG}",
        "company": {"name": LONG},
        "contact": {"first_name": "Bea", "last_name": LONG},
        "owner": {"name": f"Sal {LONG}", "email": f"{LONG.lower().replace('ä', 'a')[:60]}@example.com"},
        "discounts": [{"name": "Autumn", "percent": "10"}, {"name": LONG, "amount": 500, "duration": "once"}],
        "fees": [{"name": "Travel", "amount": 12_000}],
        "taxes": [{"name": "VAT", "percent": "25"}],
    }
    return await shop.publish(*lines, **more)


@pytest.mark.parametrize("width", [360, 320])
async def test_on_a_telephone_nothing_is_wider_than_the_screen(shop: Shop, visit: Visit, width: int) -> None:
    quote = await big_quote(shop)
    screen: dict[str, Any] = {**PHONE, "viewport": {"width": width, "height": 640}}
    page = await visit(quote.url, **screen)
    await offers_check_out(page)
    await fits(page)
    for button in await page.get_by_role("button").all():
        box = await button.bounding_box()
        assert box is not None and box["height"] >= 44, box  # for a thumb
    await shop.recall(quote)
    await page.reload()
    await says(page, "This quote has been withdrawn")
    await fits(page)


async def test_on_a_telephone_from_the_quote_to_paid(shop: Shop, visit: Visit) -> None:
    quote = await shop.publish(*MIXED)
    page = await visit(quote.url, **PHONE)
    await page.get_by_role("button", name=CHECK_OUT).first.tap()
    await page.wait_for_url(f"{shop.stripe.url}/pay/**")
    await submits(page)
    await says(page, PAID)
    await fits(page)


@pytest.mark.parametrize("language", SAMPLES)
async def test_in_four_languages_from_the_quote_to_paid(shop: Shop, visit: Visit, language: str) -> None:
    quote = await shop.publish(**sample(language, f"L-{language}"))
    say = words_for(language).gettext
    page = await visit(quote.url)
    assert await page.locator("html").get_attribute("lang") == language
    pressed = page.get_by_role("button", name=say(CHECK_OUT), exact=True)
    await expect(pressed).to_have_count(2)
    if language != "en":
        assert say(CHECK_OUT) != CHECK_OUT
    await fits(page)
    await pressed.first.click()
    await page.wait_for_url(f"{shop.stripe.url}/pay/**")
    assert shop.sessions_of(quote)[0]["locale"] in (language, SAMPLES[language].locale)
    await submits(page)
    paid_on = re.escape(say("Paid on %(day)s")).replace(re.escape("%(day)s"), r".*\d{4}")
    await says(page, re.compile(paid_on))
    await page.get_by_role("link", name=say("Back to the quote")).click()
    await says(page, re.compile(paid_on))


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_what_is_written_can_be_read(shop: Shop, visit: Visit, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: the contrast of every text, by day and by night, on the page of every kind."""
    quote = await big_quote(shop)
    page = await visit(quote.url, color_scheme=scheme)
    assert await page.evaluate(FAINT) == []
    background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    await shop.recall(quote)
    await page.reload()
    assert await page.evaluate(FAINT) == []
    bought = await shop.publish()
    await shop.pays(bought)
    await page.goto(f"{bought.url}/return")
    await says(page, PAID)
    assert await page.evaluate(FAINT) == []
    other = await visit(quote.url, color_scheme="dark" if scheme == "light" else "light")
    assert await other.evaluate("getComputedStyle(document.body).backgroundColor") != background


async def assert_well_built(page: Page) -> None:
    """What a screen reader needs to find its way: a language, one main part, one first heading, none left out, names."""
    assert await page.locator("html").get_attribute("lang")
    assert (await page.title()).strip()
    await expect(page.get_by_role("main")).to_have_count(1)
    await expect(page.get_by_role("heading", level=1)).to_have_count(1)
    levels = await page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(one => Number(one.tagName[1]))")
    assert all(after <= before + 1 for before, after in zip([0, *levels], levels, strict=False)), levels
    tree = await page.locator("body").aria_snapshot()
    assert not re.search(r"^\s*- (button|link|img|table|textbox)(:| \[|$)", tree, re.MULTILINE), tree  # without a name


async def test_the_accessibility_tree_of_the_quote(shop: Shop, visit: Visit) -> None:
    quote = await shop.publish(*MIXED, discounts=[{"name": "Autumn", "percent": "10"}])
    page = await visit(quote.url)
    await assert_well_built(page)
    await expect(page.get_by_role("banner")).to_have_count(1)
    table = page.get_by_role("table")
    await expect(table.get_by_role("columnheader")).to_have_text(["Description", "Quantity", "Price", "Amount"])
    await expect(table.get_by_role("rowheader")).to_have_count(2)
    for place in ("top", "bottom"):
        # Which of the two it is: both say what it comes to.
        button = page.locator(f'button[aria-describedby="due-{place}"]')
        await expect(button).to_have_accessible_description(re.compile(r"€1,124\.10"))


async def test_the_accessibility_tree_of_other_pages(shop: Shop, visit: Visit) -> None:
    quote = await shop.publish()
    page = await visit(quote.url)
    await goes_to_stripe(page, shop)
    with shop.webhooks_held():
        await submits(page)
        await assert_well_built(page)
        # A change that nobody caused is read out.
        await expect(page.get_by_role("status")).to_have_attribute("aria-atomic", "true")
    await says(page, PAID)
    await assert_well_built(page)
    await page.goto(quote.url)
    await assert_well_built(page)
    lost = await visit(f"{shop.running.public_url}/q/{'B' * 32}", expected=["404"])
    await assert_well_built(lost)


async def test_large_letters_and_no_animation(shop: Shop, visit: Visit) -> None:
    """Twice the size of letters needs no moving sideways; who wants no motion gets none."""
    quote = await shop.publish(*MIXED)
    page = await visit(quote.url, reduced_motion="reduce", viewport={"width": 640, "height": 900})
    await page.evaluate("document.documentElement.style.setProperty('font-size', '200%')")
    await fits(page)
    moving = await page.evaluate("document.getAnimations().length")
    assert moving == 0


async def test_these_tests_would_notice(shop: Shop, browser: Browser) -> None:
    """What the policy forbids, what a script throws and what is not found is complained of."""
    quote = await shop.publish()
    visits = Visits(browser, shop.stripe.url)
    page = await visits.visit(quote.url)
    await page.evaluate("document.head.appendChild(document.createElement('script')).textContent = 'alert(1)'")
    await page.evaluate("setTimeout(() => { throw new Error('thrown') })")
    await page.evaluate("fetch('/static/nothing.css').then((answer) => answer.text())")
    with pytest.raises(AssertionError) as complained:
        await visits.end()
    for part in ("policy: script-src-elem forbids inline", "uncaught: ", "404 for GET"):
        assert part in str(complained.value)
