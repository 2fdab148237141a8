"""What Stripe is asked for at Check out, and when it is asked; each rule by its number. Pure."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stripe.params.checkout import SessionCreateParams

from quittance.domain.claims import claim_of
from quittance.domain.publishing.checkout import (
    LOCALES,
    Buyer,
    Revision,
    Words,
    checkout_locale,
    coupon_id,
    coupon_params,
    idempotency_key,
    session_end,
    session_params,
)
from quittance.domain.publishing.content import FREQUENCIES, Content, read_content
from quittance.domain.publishing.faults import Faults
from quittance.domain.publishing.offer import Circumstances, Offer, offer_of
from quittance.domain.publishing.policies import STRIPE_2026, step
from quittance.domain.publishing.record import totals_json
from quittance.domain.publishing.rules import Draft, faults_of
from quittance.domain.publishing.totals import totals_of
from quittance.domain.status import Status
from tests.fakes.stripe.pricing import Price, lines_of, priced

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
PAGE = "https://quotes.example.com/q/a-secret-token"


def line(**given: Any) -> dict[str, Any]:
    return {"name": "Consulting", "unit_amount": 10_000, **given}


def quote(*lines: dict[str, Any], **given: Any) -> dict[str, Any]:
    return {"title": "A quote", "currency": "EUR", "line_items": list(lines) or [line()], **given}


def read(body: Any) -> Content:
    faults = Faults()
    content = read_content(body, faults)
    assert content is not None, faults.found
    return content


def revision(body: Any, **about: Any) -> Revision:
    content = read(body)
    totals = totals_json(content, totals_of(content, step(content.currency)))
    known = {"account": "acct_1", "livemode": False, "quote_id": "Q-1", "revision": 2, "checkout_key": "k" * 32}
    return Revision(**{"content": content, "totals": totals, **known, **about})


def params(body: Any, buyer: Buyer = Buyer(), **about: Any) -> dict[str, Any]:  # noqa: B008 - frozen
    end = session_end(NOON, None)
    return session_params(
        revision(body, **about),
        buyer,
        attempt=1,
        page_url=PAGE,
        expires_at=end,
        words=Words("Rabatt", "Gebühr", "Steuer"),
    )


def charged(of: Revision) -> Price:
    """What Stripe makes of the parameters, after the stand-in's own account of Stripe's rules."""
    asked = session_params(of, Buyer(), attempt=1, page_url=PAGE, expires_at=NOON, words=Words())
    coupon = coupon_params(of, Words())
    kept = None if coupon is None else {"percent_off": None, **coupon}
    assert ("discounts" in asked) is (coupon is not None)
    return priced(lines_of(asked), kept)


# The amounts -------------------------------------------------------------------------------------------------------

percents = st.decimals(min_value=0, max_value=100, places=2)


def share(most: int, unit: int) -> st.SearchStrategy[dict[str, Any]]:
    amounts = st.integers(0, most // unit).map(lambda steps: {"amount": steps * unit})
    return st.one_of(percents.map(lambda percent: {"percent": str(percent)}), amounts)


@st.composite
def quotes(draw: st.DrawFn) -> dict[str, Any]:
    currency = draw(st.sampled_from(["EUR", "JPY", "ISK", "KWD", "UGX", "HUF"]))
    unit = step(currency.lower())
    frequency = draw(st.sampled_from([None, *sorted(FREQUENCIES)]))
    shares = st.lists(share(30_000, unit), max_size=3)
    lines = draw(
        st.lists(
            st.fixed_dictionaries(
                {"unit_amount": st.integers(1, 3_000).map(lambda steps: steps * unit), "quantity": st.integers(1, 13)},
                optional={"discount": share(900 * unit, unit), "billing_frequency": st.just(frequency)},
            ).map(lambda drawn: {"name": "A line", **drawn}),
            min_size=1,
            max_size=6,
        )
    )
    duration = draw(st.sampled_from(["once", "forever"]))
    discounts = [each | {"duration": duration} for each in draw(shares)]
    return quote(*lines, currency=currency, discounts=discounts, fees=draw(shares), taxes=draw(shares))


@given(quotes())
@settings(max_examples=400, deadline=None)
def test_r10_stripe_charges_what_the_quote_says_to_the_minor_unit_now_and_from_then_on(body: dict[str, Any]) -> None:
    of = revision(body)
    totals = totals_of(of.content, step(of.content.currency))
    if faults_of(Draft(of.content, totals, STRIPE_2026)):
        return  # such a quote cannot be published
    price = charged(of)
    assert price.total == of.totals["due"]
    assert price.recurring == of.totals["recurring"]
    assert price.currency == of.content.currency


@given(quotes())
@settings(max_examples=200, deadline=None)
def test_r15_the_coupon_takes_nothing_off_fees_and_tax(body: dict[str, Any]) -> None:
    of = revision(body)
    coupon = coupon_params(of, Words())
    if coupon is not None:
        assert 0 < coupon["amount_off"] <= sum(of.totals["lines"])
        assert coupon["amount_off"] == of.totals["discount"]


def test_a_discounted_line_keeps_its_quantity_where_the_price_of_one_can_be_charged() -> None:
    whole, split = params(
        quote(line(quantity=3, discount={"amount": 300}), line(quantity=3, discount={"amount": 100}))
    )["line_items"]
    assert (whole["quantity"], whole["price_data"]["unit_amount"]) == (3, 9_900)
    assert (split["quantity"], split["price_data"]["unit_amount"]) == (1, 29_900)
    assert split["price_data"]["product_data"]["name"] == "3 \N{MULTIPLICATION SIGN} Consulting"


def test_the_price_of_one_is_never_a_fraction_of_what_the_currency_has() -> None:
    (item,) = params(quote(line(quantity=2, unit_amount=200, discount={"amount": 100}), currency="ISK"))["line_items"]
    assert (item["quantity"], item["price_data"]["unit_amount"]) == (1, 300), "150 are one and a half crowns"


# The rules ---------------------------------------------------------------------------------------------------------


def test_r23_recurring_and_one_time_lines_are_one_subscription() -> None:
    asked = params(quote(line(), line(billing_frequency="quarterly")))
    assert asked["mode"] == "subscription"
    once, again = asked["line_items"]
    assert "recurring" not in once["price_data"]
    assert again["price_data"]["recurring"] == {"interval": "month", "interval_count": 3}
    assert params(quote())["mode"] == "payment"


def test_r26_the_tax_and_the_fees_are_lines_of_the_first_invoice_alone() -> None:
    body = quote(
        line(billing_frequency="monthly"),
        fees=[{"amount": 500}, {"name": "Setup", "amount": 700}, {"name": "Free", "amount": 0}],
        taxes=[{"name": "VAT", "percent": "25"}, {"name": "City tax", "amount": 10}],
    )
    items = params(body)["line_items"][1:]
    assert [(item["price_data"]["product_data"]["name"], item["price_data"]["unit_amount"]) for item in items] == [
        ("Gebühr", 500),
        ("Setup", 700),
        ("VAT, City tax", 2_810),
    ]
    assert all("recurring" not in item["price_data"] and item["quantity"] == 1 for item in items)
    assert len(params(quote(taxes=[{"percent": "0"}]))["line_items"]) == 1, "no tax, no line"


@given(quotes())
@settings(max_examples=60, deadline=None)
def test_r27_no_trial_and_no_anchor_and_r29_no_end_is_ever_set(body: dict[str, Any]) -> None:
    asked = params(body)
    about = asked.get("subscription_data", asked.get("payment_intent_data"))
    assert about is not None
    assert set(about) == {"metadata", "description"}
    assert set(asked) <= {
        "mode", "line_items", "client_reference_id", "metadata", "payment_intent_data", "subscription_data",
        "success_url", "cancel_url", "locale", "expires_at", "discounts",
    }  # fmt: skip
    for item in asked["line_items"]:
        assert set(item["price_data"].get("recurring", {})) <= {"interval", "interval_count"}


def test_every_parameter_is_one_that_stripe_publishes() -> None:
    body = quote(line(billing_frequency="monthly"), discounts=[{"amount": 1}], contact={"email": "ann@example.com"})
    published = set(SessionCreateParams.__annotations__)
    assert set(params(body, Buyer(email="ann@example.com"))) <= published
    assert "payment_method_types" not in published, "gone since 2026-09-30.endive"


@pytest.mark.parametrize("frequency", [None, "monthly"])
def test_r1_everything_that_stripe_makes_says_which_quote_it_belongs_to(frequency: str | None) -> None:
    asked = params(quote(line(billing_frequency=frequency), owner={"name": "Sal", "email": "sal@example.com"}))
    metadata = {
        "quote_id": "Q-1",
        "quote_revision": "2",
        "quote_checkout_key": "k" * 32,
        "quote_attempt": "1",
        "owner_email": "sal@example.com",
    }
    assert asked["client_reference_id"] == "Q-1"
    assert asked["metadata"] == metadata
    home = "payment_intent_data" if frequency is None else "subscription_data"
    assert asked[home]["metadata"] == metadata
    claim = claim_of({"object": "checkout.session", **asked})
    assert claim is not None
    assert (claim.quote_id, claim.revision, claim.checkout_key, claim.conflict) == ("Q-1", 2, "k" * 32, False)


def test_r15_one_coupon_per_revision_with_the_amount_that_we_computed() -> None:
    body = quote(
        line(quantity=3), discounts=[{"name": "Spring", "percent": "10"}, {"amount": 50}], taxes=[{"percent": "25"}]
    )
    coupon = coupon_params(revision(body), Words())
    assert coupon == {
        "id": coupon_id(revision(body)),
        "name": "Spring",
        "amount_off": 3_050,
        "currency": "eur",
        "duration": "once",
        "metadata": {"quote_id": "Q-1", "quote_revision": "2", "quote_checkout_key": "k" * 32},
    }
    assert params(body)["discounts"] == [{"coupon": coupon["id"]}]
    assert coupon_params(revision(quote()), Words()) is None
    assert "discounts" not in params(quote())


def test_r15_a_discount_that_lasts_is_a_coupon_that_lasts() -> None:
    body = quote(line(billing_frequency="monthly"), line(), discounts=[{"percent": "10", "duration": "forever"}])
    coupon = coupon_params(revision(body), Words(discount="Rabatt"))
    assert coupon is not None
    assert (coupon["duration"], coupon["amount_off"], coupon["name"]) == ("forever", 1_000, "Rabatt")


def test_names_that_are_too_long_for_stripe_are_cut() -> None:
    long = "ö" * 2_000
    body = quote(
        line(name=long, description=long),
        title=long,
        discounts=[{"name": long, "amount": 1}],
        taxes=[{"name": long, "amount": 1}],
    )
    coupon = coupon_params(revision(body), Words())
    assert coupon is not None and len(coupon["name"]) == 40
    asked = params(body)
    assert max(len(item["price_data"]["product_data"]["name"]) for item in asked["line_items"]) == 250
    assert len(asked["line_items"][0]["price_data"]["product_data"]["description"]) == 500
    assert len(asked["payment_intent_data"]["description"]) == 500


def test_r17_another_revision_has_another_coupon_and_other_keys() -> None:
    abouts: list[dict[str, Any]] = [
        {},
        {"account": "acct_2"},
        {"livemode": True},
        {"quote_id": "Q-2"},
        {"revision": 3},
        {"checkout_key": "l" * 32},
    ]
    ones = [revision(quote(), **about) for about in abouts]
    assert len({coupon_id(one) for one in ones}) == len(ones)
    keys = {idempotency_key(one, attempt) for one, attempt in product(ones, (1, 2))}
    assert len(keys) == 2 * len(ones)
    assert idempotency_key(ones[0], 1) == idempotency_key(revision(quote()), 1), "the same in whichever process"
    assert all(len(key) <= 255 for key in keys)


def test_r18_a_known_customer_is_named_and_an_unknown_one_is_asked_by_address() -> None:
    assert params(quote(), Buyer("cus_1", "ann@example.com"))["customer"] == "cus_1"
    assert "customer_email" not in params(quote(), Buyer("cus_1", "ann@example.com")), "Stripe takes one of the two"
    assert params(quote(), Buyer(email="ann@example.com"))["customer_email"] == "ann@example.com"
    assert not {"customer", "customer_email", "customer_creation"} & set(params(quote()))


def test_the_buyer_comes_back_to_the_quote() -> None:
    asked = params(quote())
    assert (asked["success_url"], asked["cancel_url"]) == (f"{PAGE}/return", PAGE)


@pytest.mark.parametrize(
    ("left", "lasts"),
    [
        (None, timedelta(hours=23, minutes=50)),
        (timedelta(days=30), timedelta(hours=23, minutes=50)),
        (timedelta(hours=3), timedelta(hours=3)),
        (timedelta(minutes=32), timedelta(minutes=32)),
        (timedelta(minutes=5), timedelta(minutes=32)),
        (timedelta(0), timedelta(minutes=32)),
    ],
)
def test_r28_a_session_ends_with_its_quote_as_far_as_stripe_allows(left: timedelta | None, lasts: timedelta) -> None:
    quote_end = None if left is None else NOON + left
    end = session_end(NOON, quote_end)
    assert end - NOON == lasts
    assert timedelta(minutes=30) < end - NOON < timedelta(hours=24), "Stripe's own limits"


@pytest.mark.parametrize(
    ("locale", "checkout"),
    [
        ("en", "en"), ("en-US", "en"), ("en_GB", "en-GB"), ("sv-SE", "sv"), ("de-AT", "de"), ("fr-CA", "fr-CA"),
        ("pt-BR", "pt-BR"), ("es-ES", "es"), ("es-MX", "es-419"), ("no", "nb"), ("nn-NO", "nb"), ("zh-Hant-TW", "zh-TW"),
        ("zh-Hans", "zh"), ("zh-Hant", "zh-TW"), ("tlh", "auto"), ("ar-EG", "auto"),
    ],
)  # fmt: skip
def test_checkout_speaks_the_language_of_the_quote(locale: str, checkout: str) -> None:
    assert checkout_locale(locale) == checkout


def test_the_languages_are_those_that_stripe_publishes() -> None:
    published = set(re.findall(r"'([a-zA-Z0-9-]+)'", str(SessionCreateParams.__annotations__["locale"]).split("|")[0]))
    assert published == LOCALES | {"auto"}


# The offer ---------------------------------------------------------------------------------------------------------

OPEN = Circumstances(status="pending", recalled=False, expired=False, payment_enabled=True, usable=True, attempt=None)


def changed(**given: Any) -> Offer:
    return offer_of(Circumstances(**{**vars(OPEN), **given}))


def test_r7_payment_that_is_switched_off_is_not_offered() -> None:
    assert changed(payment_enabled=False) == "not_enabled"
    assert changed() == "open"


def test_r4_an_account_that_cannot_take_payments_offers_none() -> None:
    assert changed(usable=False) == "unavailable"


def test_r28_nobody_checks_out_after_the_expiry() -> None:
    assert changed(expired=True) == "expired"
    assert changed(expired=True, recalled=True) == "recalled"


@pytest.mark.parametrize(
    "status", [None, "pending", "checkout_started", "payment_failed", "recalled", "expired", "not_enabled"]
)
def test_without_money_the_status_decides_nothing(status: str | None) -> None:
    """It may lag behind; recall, expiry and the switch are read where they are written."""
    assert changed(status=status) == "open"


MONEY = ("processing", "paid", "partially_paid", "refunded", "partially_refunded", "disputed", "dispute_lost")


@pytest.mark.parametrize("status", MONEY)
def test_what_is_paid_or_on_its_way_is_never_checked_out_again(status: Status) -> None:
    everything: dict[str, list[Any]] = {
        "recalled": [False, True],
        "expired": [False, True],
        "payment_enabled": [False, True],
        "usable": [False, True],
        "attempt": [None, "creating", "open", "closing", "complete", "closed"],
    }
    for values in product(*everything.values()):
        assert changed(status=status, **dict(zip(everything, values, strict=True))) == status


def test_a_session_that_is_complete_is_confirmed_before_its_webhook_comes() -> None:
    assert changed(attempt="complete") == "confirming"
    assert changed(attempt="complete", recalled=True, expired=True) == "confirming", "money may be on its way"


@pytest.mark.parametrize("attempt", [None, "creating", "open", "closing", "closed"])
def test_other_attempts_leave_it_open(attempt: Any) -> None:
    assert changed(attempt=attempt) == "open"


def test_every_status_of_a_quote_has_its_offer() -> None:
    for status in get_args(Status):
        assert changed(status=status) == (status if status in MONEY else "open")


def test_percentages_are_exact() -> None:
    """A third of a cent is not lost on the way to Stripe."""
    body = quote(line(unit_amount=3_333, quantity=3), discounts=[{"percent": "33.33"}], taxes=[{"percent": "7.7"}])
    price = charged(revision(body))
    assert price.total == int(Decimal(9_999 - 3_333) + Decimal(513))
