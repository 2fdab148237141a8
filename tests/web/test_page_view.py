"""What a buyer reads on the quote's page: every figure, every state, in every language."""

from typing import Any, get_args

import pytest

from quittance.domain.publishing.content import FREQUENCIES
from quittance.domain.publishing.offer import AttemptState, Offer
from tests.web.conftest import line
from tests.web.html import Element
from tests.web.showing import TOKEN, page, page_text, return_page, shown
from web.page.words import languages
from web.page.writing import MINUS

OFFERS: tuple[Offer, ...] = get_args(Offer)
LANGUAGES = sorted(languages())


def rows(seen: Element) -> list[str]:
    """The totals, one text each."""
    return [plain(row) for row in seen.one("dl", class_="totals").children if isinstance(row, Element)]


def cells(seen: Element) -> list[list[str]]:
    """The items' figures as a screen reader has them."""
    body = seen.one("tbody")
    return [[plain(cell) for cell in row.all("td")] for row in body.all("tr")]


def plain(seen: Element) -> str:
    """Its text, with the minus of every keyboard."""
    return seen.text.replace(MINUS, "-")


def notice(seen: Element) -> Element:
    return seen.by_id("notice")


def test_r9_check_out_stands_at_the_top_and_at_the_bottom_and_needs_no_script() -> None:
    seen = page(shown())
    forms = seen.all("form")
    assert [(form["method"], form["action"]) for form in forms] == [("post", f"/q/{TOKEN}/checkout")] * 2
    assert [form.one("button").text for form in forms] == ["Check out", "Check out"]
    main = list(seen.one("main").walk())
    table = main.index(seen.one("table"))
    assert main.index(forms[0]) < table < main.index(forms[1])
    assert seen.one("main")["data-offer"] == "open"
    assert not [one for one in seen.walk() if one.get("role") == "status"]


@pytest.mark.parametrize("offer", [offer for offer in OFFERS if offer != "open"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_r9_a_button_that_would_fail_is_not_there_but_the_reason_is(offer: Offer, language: str) -> None:
    given = shown(line(billing_frequency="monthly"), offer=offer, locale=language, expires_on="2026-12-31")
    seen = page(given)
    assert not seen.all("form")
    assert not seen.all("button")
    said = notice(seen)
    assert said["role"] == "status"
    assert said["data-state"] == offer
    assert said.one("h2").text
    assert said.by_id("notice-text").text
    assert said.one("h2").text in seen.one("title").text


def test_r20_paid_with_its_day_in_the_quotes_own_time_zone() -> None:
    stockholm = shown(offer="paid", time_zone="Europe/Stockholm")
    assert notice(page(stockholm)).one("h2").text == "Paid on November 23, 2026"
    assert notice(page(shown(offer="paid", time_zone="UTC"))).one("h2").text == "Paid on November 22, 2026"
    swedish = shown(offer="paid", time_zone="Europe/Stockholm", locale="sv-SE")
    assert notice(page(swedish)).one("h2").text == "Betald 23 november 2026"
    unknown = shown(offer="paid", payment={"paid_at": None})
    assert notice(page(unknown)).one("h2").text == "Paid"
    assert "$100.00" in notice(page(unknown)).text


def test_the_sums_of_a_payment_are_told_only_in_the_quotes_own_currency() -> None:
    foreign = shown(offer="paid", payment={"currency": "jpy", "amount_captured": 15_000})
    assert notice(page(foreign)).by_id("notice-text").text == "Thank you."
    half = shown(offer="partially_paid", payment={"amount_captured": 2_500})
    assert notice(page(half)).by_id("notice-text").text == "$25.00 of $100.00 has been paid."
    back = shown(offer="partially_refunded", payment={"amount_refunded": 2_500})
    assert notice(page(back)).by_id("notice-text").text == "$25.00 of $100.00 has been paid back."
    unknown = shown(offer="partially_refunded", payment={"amount_refunded": None})
    assert notice(page(unknown)).by_id("notice-text").text == "A part of the payment has been paid back."


def test_who_sells_to_whom_what_and_until_when() -> None:
    given = shown(
        contact={"first_name": "Berta", "last_name": "Buyer", "email": "berta@private.example"},
        company={"name": "Buyer & Sons"},
        expires_on="2026-12-31",
        time_zone="Europe/Stockholm",
    )
    seen = page(given)
    assert seen.one("p", class_="seller").text == "Nordlicht Studio AB"
    assert seen.one("p", class_="number").text == "Quote 2026-17"
    assert seen.one("h1").text == "A quote"
    facts = seen.one("dl", class_="facts").text
    assert "Prepared for Buyer & Sons Berta Buyer" in facts
    assert "Prepared by Sal Seller" in facts
    assert "Valid until December 31, 2026 end of the day, Central European Time" in facts
    assert "private.example" not in page_text(given), "whoever has the link need not know the buyer's own address"
    assert {link["href"] for link in seen.all("a")} == {"mailto:sal@example.com"}


def test_a_seller_of_whom_only_a_person_is_known_and_a_quote_with_nothing_but_a_line() -> None:
    seen = page(shown(account_name=None))
    assert seen.one("p", class_="seller").text == "Sal Seller"
    bare = page(shown(account_name=None, owner={}, number=None))
    assert not bare.all("p", class_="seller")
    assert not bare.all("dl", class_="facts")
    assert bare.one("p", class_="number").text == "Quote"


def test_the_lines_with_quantity_price_own_discount_and_net() -> None:
    seen = page(
        shown(
            line(
                name="Design",
                description="Twelve\ntemplates",
                quantity=2,
                unit_amount=5_000,
                discount={"percent": "7.5"},
            ),
            line(name="Support", quantity=1_200, unit_amount=99, discount={"amount": 800, "name": "Loyalty"}),
            line(name="Plain", quantity=1, unit_amount=1),
        )
    )
    assert [cell.text for cell in seen.one("thead").all("th")] == [
        "Description",
        "Quantity",
        "Price",
        "Discount",
        "Amount",
    ]
    assert cells(seen) == [
        ["Quantity 2", "Price $50.00", "Discount -$7.507.5%", "Amount $92.50"],
        ["Quantity 1,200", "Price $0.99", "Discount -$8.00Loyalty", "Amount $1,180.00"],
        ["Quantity 1", "Price $0.01", "", "Amount $0.01"],
    ]
    assert seen.one("tbody").all("th")[0].text == "Design Twelve templates"
    plain = page(shown())
    assert "Discount" not in plain.one("thead").text


def test_discounts_fees_and_taxes_in_the_order_in_which_they_are_computed() -> None:
    seen = page(
        shown(
            line(unit_amount=100_000),
            discounts=[{"name": "Welcome", "percent": "10"}, {"amount": 1_000}],
            fees=[{"name": "Travel", "amount": 5_000}, {"percent": "1"}],
            taxes=[{"name": "VAT", "percent": "25"}],
        )
    )
    assert rows(seen) == [
        "Subtotal $1,000.00",
        "Discount Welcome, 10% · $10.00 -$110.00",
        "Travel $50.00",
        "Fee 1% $8.90",
        "VAT 25% $237.23",
        "Total $1,186.13",
    ]
    assert rows(page(shown())) == ["Total $100.00"]


def test_r23_r26_what_is_charged_now_only_and_what_from_then_on() -> None:
    seen = page(
        shown(
            line(name="Setup", unit_amount=50_000),
            line(name="Hosting", unit_amount=4_900, billing_frequency="monthly"),
            currency="EUR",
            fees=[{"name": "Travel", "amount": 5_000}],
            taxes=[{"name": "VAT", "percent": "25"}],
            discounts=[{"percent": "10"}],
        )
    )
    assert rows(seen) == [
        "Subtotal €549.00",
        "Discount 10% · first payment only -€54.90",
        "Travel first payment only €50.00",
        "VAT 25% · first payment only €136.03",
        "Due now €680.13",
        "After that then €49.00 every month",
    ]
    assert seen.by_id("due-top").text == "Due now €680.13 then €49.00 every month"
    assert [often.text for often in seen.all("span", class_="often")] == ["charged once", "every month"]
    lasting = page(shown(line(billing_frequency="annually"), discounts=[{"percent": "10", "duration": "forever"}]))
    assert "Discount 10% · every payment -$10.00" in rows(lasting)
    assert "then $90.00 every year" in lasting.by_id("due-top").text


def test_r27_r29_it_is_said_that_it_goes_on_until_it_is_cancelled() -> None:
    recurring = page(shown(line(billing_frequency="quarterly")))
    assert "From then on $100.00 is charged every 3 months, until it is cancelled" in recurring.one("footer").text
    assert "day of check out" in recurring.one("footer").text
    assert "until it is cancelled" not in page(shown()).one("footer").text


def test_r28_what_is_said_after_the_last_day() -> None:
    seen = notice(page(shown(offer="expired", expires_on="2026-11-30")))
    assert seen.one("h2").text == "This quote has expired"
    assert "It was valid until November 30, 2026, and can no longer be paid." in seen.text
    assert "Questions? Write to Sal Seller" in seen.text


@pytest.mark.parametrize(
    ("frequency", "english", "german"),
    [
        ("weekly", "every week", "jede Woche"),
        ("biweekly", "every 2 weeks", "alle 2 Wochen"),
        ("monthly", "every month", "jeden Monat"),
        ("quarterly", "every 3 months", "alle 3 Monate"),
        ("biannually", "every 6 months", "alle 6 Monate"),
        ("per_six_months", "every 6 months", "alle 6 Monate"),
        ("annually", "every year", "jedes Jahr"),
        ("per_two_years", "every 2 years", "alle 2 Jahre"),
        ("per_three_years", "every 3 years", "alle 3 Jahre"),
    ],
)
def test_r27_every_frequency_has_words(frequency: str, english: str, german: str) -> None:
    assert f"then $100.00 {english}" in page(shown(line(billing_frequency=frequency))).by_id("due-top").text
    assert german in page(shown(line(billing_frequency=frequency), locale="de-AT")).by_id("due-top").text


def test_no_frequency_that_can_be_published_is_without_words() -> None:
    for frequency in FREQUENCIES:
        assert "then" in page(shown(line(billing_frequency=frequency))).by_id("due-top").text


@pytest.mark.parametrize(
    ("locale", "currency", "minor", "written"),
    [
        ("en-US", "EUR", 4_900, "€49.00"),
        ("sv-SE", "SEK", 123_450, "1 234,50 kr"),
        ("de-DE", "EUR", 123_450, "1.234,50 €"),
        ("fr-FR", "EUR", 123_450, "1 234,50 €"),
        ("en-US", "JPY", 12_000, "¥12,000"),
        ("en-US", "KWD", 12_340, "KWD 12.340"),
        ("hu-HU", "HUF", 123_450, "1 234,50 Ft"),
        ("is-IS", "ISK", 50_000, "500,00 kr."),
    ],
)
def test_money_is_written_as_the_locale_does_with_the_decimals_that_stripe_counts(
    locale: str, currency: str, minor: int, written: str
) -> None:
    seen = page(shown(line(unit_amount=minor), currency=currency, locale=locale))
    assert seen.by_id("due-bottom").text == written


def test_a_language_that_we_do_not_speak_gets_english_words_with_its_own_figures() -> None:
    seen = page(shown(line(unit_amount=123_450), locale="es-ES", currency="EUR", expires_on="2026-12-31"))
    assert seen.one("html").attributes == {"lang": "en", "dir": "ltr"}
    assert seen.one("h1").get("lang") == "es-ES", "what the seller wrote is not English"
    assert seen.by_id("due-bottom").text == "1.234,50 €"
    assert "31 de diciembre de 2026" in seen.one("dl", class_="facts").text
    arabic = page_text(shown(offer="expired", expires_on="2026-12-31", locale="ar"))
    assert "It was valid until \u206831 ديسمبر 2026\u2069, and" in arabic, "a date keeps its own direction"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_says_in_which_language_it_speaks(language: str) -> None:
    seen = page(shown(locale=f"{language}_XX" if language == "en" else language))
    assert seen.one("html")["lang"] == language
    assert seen.one("h1").get("lang") is None
    assert seen.one("h1")["dir"] == "auto"


def test_what_sellers_write_is_text_and_never_markup() -> None:
    evil = '<script>alert("1")</script><img src=x onerror=alert(1)>"\''
    given = shown(
        line(name=evil, description=evil, discount={"percent": "1", "name": evil}),
        title=evil,
        number=evil,
        account_name=evil,
        owner={"name": evil, "email": "sal'&?subject=x@example.com"},
        contact={"first_name": evil},
        company={"name": evil},
        fees=[{"name": evil, "percent": "1"}],
        taxes=[{"name": evil, "percent": "1"}],
        discounts=[{"name": evil, "percent": "1"}],
    )
    for offer in OFFERS:
        seen = page(shown_as(given, offer))
        assert len(seen.all("script")) == 1
        assert not seen.all("img")
        assert seen.one("h1").text == evil
        assert {link["href"] for link in seen.all("a")} == {"mailto:sal%27%26%3Fsubject%3Dx@example.com"}
    assert not return_page(given).all("img")


def shown_as(given: Any, offer: Offer) -> Any:
    return type(given)(**{**vars(given), "offer": offer})


def test_test_mode_is_said() -> None:
    assert "no real money" in page(shown(livemode=False)).text
    assert "no real money" not in page(shown(livemode=True)).text
    assert "no real money" in return_page(shown(livemode=False)).text


NOT_MONEY: list[Offer] = ["open", "recalled", "expired", "not_enabled", "unavailable"]


@pytest.mark.parametrize("offer", NOT_MONEY)
def test_the_page_after_stripe_never_claims_a_payment_before_our_record_has_it(offer: Offer) -> None:
    seen = return_page(shown(offer=offer))
    assert seen.one("h1").text == "Waiting for confirmation of the payment"
    assert notice(seen)["data-ask"] == f"/q/{TOKEN}/state?at=return"
    assert "Thank you" not in seen.text
    assert "received" not in seen.text
    assert not seen.all("form")


def test_the_page_after_stripe_tells_what_our_record_has() -> None:
    assert return_page(shown(offer="confirming")).one("h1").text == "The payment is being confirmed"
    processing = return_page(shown(offer="processing"))
    assert processing.one("h1").text == "The payment is being processed"
    assert notice(processing).get("data-ask")
    paid = return_page(shown(offer="paid"))
    assert paid.one("h1").text == "Paid on November 22, 2026"
    assert notice(paid).get("data-ask") is None
    assert [link["href"] for link in paid.all("a")] == [f"/q/{TOKEN}"]
    assert return_page(shown(offer="refunded")).one("h1").text == "Refunded"


@pytest.mark.parametrize(
    ("attempt", "state"),
    [("closed", "failed"), (None, "failed"), ("open", "waiting"), ("creating", "waiting"), ("closing", "waiting")],
)
def test_a_failure_is_told_on_the_way_back_unless_a_newer_attempt_is_under_way(
    attempt: AttemptState | None, state: str
) -> None:
    seen = return_page(shown(attempt=attempt, payment={"status": "payment_failed"}))
    assert seen.by_id("notice")["data-state"] == state
