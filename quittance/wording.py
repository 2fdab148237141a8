"""What people read: a quote's status in words, and dates and money written as the quote's locale writes them.

Words are kept here for `en`, `sv`, `de` and `fr`; any other locale gets English words with its own dates and money.
Nothing here raises: an unknown locale is read as `en`, an unknown time zone as UTC.
"""

import copy
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date

DEFAULT_LANGUAGE: Final = "en"

# One sentence per status of RULES S4. `{date}` stands in `paid` alone (R20: "Paid: [payment date]").
LABELS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "en": {
            "not_enabled": "Payment not enabled",
            "disputed": "Payment disputed",
            "dispute_lost": "Dispute lost",
            "paid": "Paid: {date}",
            "refunded": "Refunded",
            "partially_refunded": "Partially refunded",
            "partially_paid": "Partially paid",
            "processing": "Payment processing",
            "recalled": "Recalled",
            "expired": "Expired",
            "payment_failed": "Payment failed",
            "checkout_started": "Checkout started",
            "pending": "Awaiting payment",
        },
        "sv": {
            "not_enabled": "Betalning inte aktiverad",
            "disputed": "Betalningen bestrids",
            "dispute_lost": "Tvisten förlorad",
            "paid": "Betald: {date}",
            "refunded": "Återbetald",
            "partially_refunded": "Delvis återbetald",
            "partially_paid": "Delvis betald",
            "processing": "Betalningen behandlas",
            "recalled": "Återkallad",
            "expired": "Utgången",
            "payment_failed": "Betalningen misslyckades",
            "checkout_started": "Betalning påbörjad",
            "pending": "Väntar på betalning",
        },
        "de": {
            "not_enabled": "Zahlung nicht aktiviert",
            "disputed": "Zahlung angefochten",
            "dispute_lost": "Zahlungsstreit verloren",
            "paid": "Bezahlt: {date}",
            "refunded": "Erstattet",
            "partially_refunded": "Teilweise erstattet",
            "partially_paid": "Teilweise bezahlt",
            "processing": "Zahlung wird verarbeitet",
            "recalled": "Zurückgezogen",
            "expired": "Abgelaufen",
            "payment_failed": "Zahlung fehlgeschlagen",
            "checkout_started": "Bezahlvorgang begonnen",
            "pending": "Zahlung ausstehend",
        },
        "fr": {
            "not_enabled": "Paiement non activé",
            "disputed": "Paiement contesté",
            "dispute_lost": "Litige perdu",
            "paid": "Payé\u00a0: {date}",
            "refunded": "Remboursé",
            "partially_refunded": "Partiellement remboursé",
            "partially_paid": "Partiellement payé",
            "processing": "Paiement en cours de traitement",
            "recalled": "Retiré",
            "expired": "Expiré",
            "payment_failed": "Échec du paiement",
            "checkout_started": "Paiement commencé",
            "pending": "En attente de paiement",
        },
    }
)

# `paid` where the day is not known.
PAID: Final[Mapping[str, str]] = MappingProxyType({"en": "Paid", "sv": "Betald", "de": "Bezahlt", "fr": "Payé"})


def label(status: str, *, locale: str, paid_at: int | None, time_zone: str) -> str:
    """A short sentence for `status` (RULES S4) in the quote's locale: "Paid: Jan 20, 2023" for `paid` (R20).

    `paid_at` is in Unix seconds; the day is the one it was in `time_zone`. An unknown status is returned as it is.
    """
    words = language(locale)
    sentence = LABELS[words].get(status, status)
    if status != "paid":
        return sentence
    written = day(paid_at, locale=locale, time_zone=time_zone)
    return PAID[words] if written is None else sentence.format(date=written)


def day(seconds: int | None, *, locale: str, time_zone: str) -> str | None:
    """The day of a Unix time in the medium form of `locale` (`short` is ambiguous: 1/20/23); None where not known."""
    if seconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, zone_of(time_zone))
    except (OverflowError, ValueError, OSError):  # beyond the calendar
        return None
    return _written(moment.date(), locale)


@lru_cache(maxsize=4096)
def _written(day: date, locale: str) -> str:
    """Babel reads the locale's pattern anew each time, and a quote's label is written at each of its events."""
    return format_date(day, format="medium", locale=locale_of(locale))


def money(amount_minor: int, currency: str, exponent: int, locale: str) -> str:
    """`amount_minor` of `currency` as `locale` writes money, with exactly `exponent` decimals.

    The exponent is Stripe's and given by the caller: CLDR writes HUF and ISK without decimals, Stripe counts them in
    hundredths, and 12.50 must not be shown as 13 (RULES R31).
    """
    amount = Decimal(amount_minor).scaleb(-exponent)
    # The pattern is a cached object that Babel shares between calls.
    pattern = copy.copy(locale_of(locale).currency_formats["standard"])
    pattern.frac_prec = (exponent, exponent)
    written: str = pattern.apply(amount, locale_of(locale), currency=currency.upper(), currency_digits=False)
    # CLDR's currencySpacing, which Babel leaves out: a code that stands before the number is parted from it ("HUF 12").
    return re.sub(r"(?<=[^\W\d_])(?=\d)", "\u00a0", written)


def language(locale: str) -> str:
    """Which of the languages with words of their own `locale` is read in; `en` for all others."""
    found = locale_of(locale).language
    return found if found in LABELS else DEFAULT_LANGUAGE


@lru_cache(maxsize=512)
def locale_of(name: str) -> Locale:
    """The locale called `name`, in Stripe's, HubSpot's or POSIX spelling (`sv-SE`, `sv-se`, `sv_SE`); else `en`."""
    try:
        return Locale.parse(name.strip().replace("-", "_"))
    except (UnknownLocaleError, ValueError, TypeError):
        return Locale(DEFAULT_LANGUAGE)


@lru_cache(maxsize=512)
def zone_of(name: str) -> tzinfo:
    """The time zone called `name` (IANA); UTC where there is none of that name."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # ZoneInfo raises each of these for a name that is none
        return UTC
