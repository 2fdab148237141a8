"""What people read of a quote: labels, days and money, in the quote's locale; nothing raises."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quittance.domain.status import Status
from quittance.wording import LABELS, PAID, day, label, money

PAID_AT = 1_674_183_600  # 2023-01-20 03:00 UTC


@pytest.mark.parametrize("language", sorted(LABELS))
def test_every_status_has_words_in_every_language(language: str) -> None:
    assert set(LABELS[language]) == set(get_args(Status))
    assert set(PAID) == set(LABELS)


@pytest.mark.parametrize(
    ("locale", "time_zone", "expected"),
    [
        ("en", "UTC", "Paid: Jan 20, 2023"),
        ("en", "America/New_York", "Paid: Jan 19, 2023"),
        ("en-GB", "UTC", "Paid: 20 Jan 2023"),
        ("sv-SE", "Europe/Stockholm", "Betald: 20 jan. 2023"),
        ("sv_SE", "UTC", "Betald: 20 jan. 2023"),
        ("de", "UTC", "Bezahlt: 20.01.2023"),
        ("fr-fr", "UTC", "Payé\u00a0: 20 janv. 2023"),
        ("ja", "UTC", "Paid: 2023/01/20"),
        ("xx-nowhere", "Mars/Olympus", "Paid: Jan 20, 2023"),
        ("", "", "Paid: Jan 20, 2023"),
    ],
)
def test_r20_the_label_of_a_paid_quote_is_its_payment_date(locale: str, time_zone: str, expected: str) -> None:
    assert label("paid", locale=locale, paid_at=PAID_AT, time_zone=time_zone) == expected


def test_a_paid_quote_without_a_day_is_just_paid() -> None:
    assert label("paid", locale="sv", paid_at=None, time_zone="UTC") == "Betald"
    assert label("refunded", locale="sv", paid_at=PAID_AT, time_zone="UTC") == "Återbetald"


@pytest.mark.parametrize(
    ("amount", "currency", "exponent", "locale", "expected"),
    [
        (123456, "usd", 2, "en", "$1,234.56"),
        (123456, "sek", 2, "sv-SE", "1\u00a0234,56\u00a0kr"),
        (500, "jpy", 0, "en", "¥500"),
        (5120, "kwd", 3, "en", "KWD\u00a05.120"),
        (1250, "huf", 2, "en", "HUF\u00a012.50"),  # CLDR would write HUF 13
        (500, "isk", 2, "en", "ISK\u00a05.00"),
        (-999, "eur", 2, "de", "-9,99\u00a0€"),
        (999_999_999_999, "usd", 2, "en", "$9,999,999,999.99"),
        (100, "xyz", 2, "en", "XYZ\u00a01.00"),
    ],
)
def test_money_is_written_with_stripes_decimals(
    amount: int, currency: str, exponent: int, locale: str, expected: str
) -> None:
    assert money(amount, currency, exponent, locale) == expected


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.none() | st.integers())
def test_no_locale_zone_status_or_time_raises(status: str, locale: str, time_zone: str, paid_at: int | None) -> None:
    assert isinstance(label(status, locale=locale, paid_at=paid_at, time_zone=time_zone), str)
    assert isinstance(label("paid", locale=locale, paid_at=paid_at, time_zone=time_zone), str)
    day(paid_at, locale=locale, time_zone=time_zone)


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.text(max_size=5), st.sampled_from([0, 2, 3]), st.text(max_size=9))
def test_no_amount_or_currency_raises(amount: int, currency: str, exponent: int, locale: str) -> None:
    assert isinstance(money(amount, currency, exponent, locale), str)
