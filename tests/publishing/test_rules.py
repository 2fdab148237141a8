"""The rules of publishing, each by its number; and all of them at once."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quittance.domain.publishing.content import Content, Share, read_content
from quittance.domain.publishing.faults import Fault, Faults
from quittance.domain.publishing.policies import HUBSPOT_2023, STRIPE_2026, Policy, step
from quittance.domain.publishing.rules import Draft, faults_of, warnings_of
from quittance.domain.publishing.totals import part, totals_of

R31 = "AFN ALL AMD COP CRC HUF IDR ISK LBP MMK MRO MUR PKR RSD SOS TZS UZS YER".split()
R32 = "BHD BYR CLF EEK ERN GHS IQD IRR JOD KWD LTL LVL LYD OMR SDG SYP TND VEF ZMK".split()


def line(**given: Any) -> dict[str, Any]:
    return {"name": "Consulting", "quantity": 1, "unit_amount": 10_000, **given}


def quote(*lines: dict[str, Any], **given: Any) -> dict[str, Any]:
    return {"title": "A quote", "currency": "USD", "line_items": list(lines) or [line()], **given}


def read(body: Any) -> Content:
    faults = Faults()
    content = read_content(body, faults)
    assert content is not None, faults.found
    return content


def draft(body: Any, policy: Policy = HUBSPOT_2023, **found_out: Any) -> Draft:
    content = read(body)
    return Draft(content, totals_of(content, step(content.currency)), policy, **found_out)


def broken(body: Any, policy: Policy = HUBSPOT_2023, **found_out: Any) -> list[Fault]:
    return faults_of(draft(body, policy, **found_out))


def codes(faults: list[Fault]) -> list[tuple[str, str, int | None]]:
    return [(fault.rule, fault.code, fault.line) for fault in faults]


def test_a_good_quote_breaks_nothing() -> None:
    assert broken(quote(line(), line(billing_frequency="monthly"))) == []


def test_r4_an_account_that_is_not_activated_publishes_no_payment() -> None:
    assert codes(broken(quote(), charges_enabled=False)) == [("R4", "account_not_activated", None)]
    assert broken(quote(payment_enabled=False), charges_enabled=False) == []
    assert broken(quote(), charges_enabled=None) == [], "unknown is no refusal"


@pytest.mark.parametrize(
    ("given", "warned"),
    [
        ({"currency": "EUR"}, True),
        ({"contact": {"country": "SE"}}, True),
        ({"contact": {"country": "CH"}}, True),
        ({"contact": {"country": "US"}}, False),
    ],
)
def test_r8_recurring_payments_in_europe_are_a_warning_and_no_refusal(given: dict[str, Any], warned: bool) -> None:
    body = quote(line(billing_frequency="monthly"), **given)
    assert broken(body) == []
    assert ("R8" in [warning.rule for warning in warnings_of(draft(body))]) is warned
    assert warnings_of(draft(quote(**given))) == [], "one-time payments are made with the buyer there"


def test_r10_the_least_and_greatest_charge_of_the_currency_stand_in_the_message() -> None:
    (small,) = broken(quote(line(unit_amount=49)))
    assert (small.rule, small.code, small.given, small.allowed) == ("R10", "amount_too_small", 49, 50)
    (large,) = broken(quote(line(unit_amount=10**12)))
    assert (large.code, large.allowed) == ("amount_too_large", 999_999_999_999)
    assert "999999999999" in large.message


def test_r10_also_holds_for_what_recurs() -> None:
    faults = broken(quote(line(), line(unit_amount=20, billing_frequency="monthly")))
    assert codes(faults) == [("R10", "amount_too_small", None)]


@pytest.mark.parametrize(
    ("currency", "amount", "allowed"), [("ISK", 550, "100"), ("UGX", 101, "100"), ("KWD", 5_123, "10")]
)
def test_r10_amounts_that_stripe_cannot_represent_are_refused(currency: str, amount: int, allowed: str) -> None:
    (fault,) = broken(quote(line(unit_amount=amount), currency=currency), STRIPE_2026)
    assert (fault.code, fault.line, fault.allowed) == ("amount_not_representable", 1, f"multiples of {allowed}")


def test_r11_no_lines_net_price_may_be_zero() -> None:
    free = line(discount={"percent": "100"})
    assert codes(broken(quote(line(), free, line(unit_amount=0)))) == [
        ("R11", "net_price_zero", 2),
        ("R11", "net_price_zero", 3),
    ]


def test_r15_one_coupon_can_hold_one_duration() -> None:
    both = [{"amount": 100, "duration": "once"}, {"amount": 100, "duration": "forever"}]
    faults = broken(quote(line(billing_frequency="monthly"), discounts=both))
    assert codes(faults) == [("R15", "discount_durations_differ", None)]


def test_r15_a_discount_for_ever_is_a_share_of_what_recurs() -> None:
    body = quote(line(), line(billing_frequency="monthly"), discounts=[{"percent": "10", "duration": "forever"}])
    totals = draft(body).totals
    assert (totals.discount, totals.recurring) == (1_000, 9_000)


def test_r23_one_time_and_recurring_lines_may_be_mixed() -> None:
    totals = draft(quote(line(unit_amount=500), line(unit_amount=4_900, billing_frequency="monthly"))).totals
    assert (totals.due, totals.recurring) == (5_400, 4_900)


def test_r24_lines_of_another_frequency_are_named() -> None:
    (fault,) = broken(quote(line(billing_frequency="monthly"), line(), line(billing_frequency="annually")))
    assert (fault.rule, fault.code) == ("R24", "frequencies_differ")
    assert "line 1 monthly, line 3 annually" in fault.message


def test_r24_a_frequency_that_stripe_does_not_bill_in_is_refused() -> None:
    assert codes(broken(quote(line(billing_frequency="per_five_years")))) == [("R24", "frequency_unknown", 1)]


def test_r25_a_term_on_a_recurring_line_is_refused() -> None:
    faults = broken(quote(line(billing_frequency="monthly", term="P12M"), line(term="P12M")))
    assert codes(faults) == [("R25", "term_not_allowed", 1)]


def test_r26_tax_is_due_with_the_first_charge_only_and_the_seller_is_warned() -> None:
    made = draft(quote(line(billing_frequency="monthly"), taxes=[{"name": "VAT", "percent": "25"}]))
    assert (made.totals.due, made.totals.recurring) == (12_500, 10_000)
    assert [warning.rule for warning in warnings_of(made)] == ["R26"]


def test_r28_a_quote_that_has_expired_cannot_be_published() -> None:
    assert codes(broken(quote(expires_on="2020-01-01"), expired=True)) == [("R28", "expires_in_the_past", None)]


@pytest.mark.parametrize("currency", R31)
def test_r31_currencies_of_other_decimals_are_refused(currency: str) -> None:
    refusals = [fault for fault in broken(quote(line(unit_amount=100_000), currency=currency)) if fault.rule == "R31"]
    assert codes(refusals) == [("R31", "currency_decimals_differ", None)]


@pytest.mark.parametrize("currency", R32)
def test_r32_currencies_that_stripe_lacks_are_refused(currency: str) -> None:
    refusals = [fault for fault in broken(quote(line(unit_amount=100_000), currency=currency)) if fault.rule == "R32"]
    assert codes(refusals) == [("R32", "currency_not_in_stripe", None)]


def test_r31_is_the_policy_of_one_day_and_another_can_be_chosen() -> None:
    assert broken(quote(line(unit_amount=20_000), currency="HUF"), STRIPE_2026) == []


def test_a_quote_that_breaks_several_rules_is_told_all_of_them_at_once() -> None:
    body = quote(
        line(unit_amount=0),
        line(unit_amount=1, billing_frequency="monthly", term="P1Y"),
        line(unit_amount=1, billing_frequency="weekly"),
        currency="ISK",
    )
    assert sorted({fault.rule for fault in broken(body)}) == ["R10", "R11", "R24", "R25", "R31"]


def test_every_field_that_cannot_be_read_is_named_at_once() -> None:
    faults = Faults()
    wrong = quote(
        {"name": 7, "unit_amount": 9.99, "qty": 1}, expires_on="soon", owner={"email": "a@b, c@d"}, discounts=[{}]
    )
    assert read_content(wrong, faults) is None
    assert {fault.code for fault in faults.found} == {
        "no_text", "no_integer", "unknown_field", "no_date", "malformed", "percent_or_amount",
    }  # fmt: skip
    assert {fault.line for fault in faults.found} == {1, None}


def test_totals_are_taken_in_the_order_discounts_fees_taxes() -> None:
    totals = draft(
        quote(
            line(quantity=3, unit_amount=1_000),
            discounts=[{"percent": "10"}],
            fees=[{"name": "Handling", "amount": 300}],
            taxes=[{"name": "VAT", "percent": "25"}],
        )
    ).totals
    assert (totals.subtotal, totals.discount, totals.fees, totals.taxes, totals.due) == (
        3_000,
        300,
        (300,),
        (750,),
        3_750,
    )


@pytest.mark.parametrize(
    ("percent", "whole", "step_", "expected"), [("12.5", 100, 1, 13), ("0.5", 100, 1, 1), ("10", 1_550, 100, 200)]
)
def test_percentages_are_rounded_once_half_away_from_zero(percent: str, whole: int, step_: int, expected: int) -> None:
    assert part(Share(percent=Decimal(percent)), whole, step_) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    "title currency locale time_zone expires_on payment_enabled owner contact company line_items discounts fees taxes"
).split()


@settings(deadline=None)  # two cores, many tests
@given(st.dictionaries(st.sampled_from([*FIELDS, "other"]), json_values))
def test_whatever_is_sent_is_read_or_refused_with_reasons(body: dict[str, Any]) -> None:
    faults = Faults()
    content = read_content(body, faults)
    assert (content is None) == bool(faults.found)
    if content is not None:
        faults_of(Draft(content, totals_of(content), HUBSPOT_2023))
