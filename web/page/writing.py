"""Figures and dates of one quote, written as its locale writes them; and how often it is charged, in words."""

import copy
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from babel.dates import format_date, get_timezone_location, get_timezone_name
from babel.numbers import format_decimal

from quittance import wording
from quittance.domain.currencies import exponent
from quittance.domain.publishing.content import FREQUENCIES
from quittance.wording import locale_of, zone_of

Say = Callable[[str], str]

MINUS: Final = "\u2212"
MOST_DECIMALS: Final = 6  # of a percentage, as content.py takes it


class Writing:
    """How a quote's figures are written. Nothing here raises for what could be published."""

    def __init__(self, locale: str, time_zone: str, currency: str) -> None:
        self._locale = locale
        # Figures of a right-to-left locale may stand in English sentences: each keeps its own direction, and only that.
        self._isolates = ("\u2068", "\u2069") if locale_of(locale).text_direction == "rtl" else ("", "")
        self._time_zone = time_zone
        self._currency = currency
        decimals = exponent(currency)
        self._exponent = 2 if decimals is None else decimals

    def money(self, minor: int) -> str:
        """An amount in minor units of the quote's currency."""
        return self._isolated(wording.money(minor, self._currency, self._exponent, self._locale))

    def less(self, minor: int) -> str:
        """An amount that is taken off."""
        return f"{MINUS}{self.money(minor)}" if minor else self.money(0)

    def percent(self, text: str) -> str:
        """A percentage as it was published: "7.7" is written with all of its decimals, "25" without any."""
        pattern = copy.copy(locale_of(self._locale).percent_formats[None])
        pattern.frac_prec = (0, MOST_DECIMALS)
        written: str = pattern.apply(Decimal(text) / 100, locale_of(self._locale))
        return written

    def number(self, whole: int) -> str:
        """A quantity."""
        return format_decimal(whole, locale=locale_of(self._locale))

    def day(self, day: date) -> str:
        """A day, the month in words: in figures 4/5 is May to some and April to others."""
        return self._isolated(format_date(day, format="long", locale=locale_of(self._locale)))

    def day_of(self, moment: str | None) -> str | None:
        """The day that an RFC 3339 time was in the quote's time zone; None where not known."""
        if moment is None:
            return None
        return self.day(datetime.fromisoformat(moment).astimezone(zone_of(self._time_zone)).date())

    def zone(self) -> str:
        """The quote's time zone by name, whatever the season; by its city where it has no name of its own."""
        zone, locale = zone_of(self._time_zone), locale_of(self._locale)
        name = get_timezone_name(zone, width="long", zone_variant="generic", locale=locale)
        if "(" in name:
            name = get_timezone_location(zone, locale=locale, return_city=True).rpartition("/")[2]
        return self._isolated(name)

    def _isolated(self, text: str) -> str:
        before, after = self._isolates
        return f"{before}{text}{after}"


def often(frequency: str, say: Say) -> str:
    """How often a billing frequency is charged: "every 3 months"."""
    _ = say
    phrases = {
        ("week", 1): _("every week"),
        ("week", 2): _("every 2 weeks"),
        ("month", 1): _("every month"),
        ("month", 3): _("every 3 months"),
        ("month", 6): _("every 6 months"),
        ("year", 1): _("every year"),
        ("year", 2): _("every 2 years"),
        ("year", 3): _("every 3 years"),
    }
    return phrases[FREQUENCIES[frequency]]
