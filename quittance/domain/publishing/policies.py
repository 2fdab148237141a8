"""Currencies: which may be used (a policy of one day, kept as data with its date), and Stripe's least and greatest
charge. Exponents are in quittance/domain/currencies.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Final, Literal

from quittance.domain.currencies import THREE_DECIMAL, exponent

Refusal = Literal["currency_decimals_differ", "currency_not_in_stripe"]


@dataclass(frozen=True)
class Policy:
    """Which currencies are refused, by which rule, as of a day."""

    name: str
    as_of: date
    decimals_differ: frozenset[str]
    not_in_stripe: frozenset[str]

    def refusal(self, currency: str) -> tuple[str, Refusal] | None:
        """The rule and the reason for which `currency` (lower case) is refused; None where it may be used."""
        if currency in self.decimals_differ:
            return "R31", "currency_decimals_differ"
        if currency in self.not_in_stripe or exponent(currency) is None:
            return "R32", "currency_not_in_stripe"
        return None


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.lower().split())


# The article of 20 January 2023, as it stands: HubSpot follows CLDR's decimals, Stripe follows ISO 4217's.
HUBSPOT_2023: Final = Policy(
    "hubspot-2023",
    date(2023, 1, 20),
    _codes("AFN ALL AMD COP CRC HUF IDR ISK LBP MMK MRO MUR PKR RSD SOS TZS UZS YER"),
    _codes("BHD BYR CLF EEK ERN GHS IQD IRR JOD KWD LTL LVL LYD OMR SDG SYP TND VEF ZMK"),
)
# What Stripe takes today: whatever has an exponent in its lists, but for codes that are out of use.
STRIPE_2026: Final = Policy("stripe-2026", date(2026, 11, 22), frozenset(), _codes("MRO SLL STD"))

POLICIES: Final[Mapping[str, Policy]] = MappingProxyType({each.name: each for each in (HUBSPOT_2023, STRIPE_2026)})

# docs.stripe.com/currencies, "Minimum and maximum charge amounts", in minor units. By settlement currency: what is charged
# in another currency has to reach the least of the account's own as well, which only Stripe can judge.
LEAST_CHARGE: Final[Mapping[str, int]] = MappingProxyType(
    {
        "usd": 50, "aed": 200, "ars": 50, "aud": 50, "brl": 50, "cad": 50, "chf": 50, "cop": 50, "czk": 1500,
        "dkk": 250, "eur": 50, "gbp": 30, "hkd": 400, "huf": 17500, "idr": 50, "ils": 50, "inr": 50, "jpy": 50,
        "krw": 50, "mxn": 1000, "myr": 200, "nok": 300, "nzd": 50, "php": 50, "pln": 200, "ron": 200, "rub": 50,
        "sek": 300, "sgd": 50, "thb": 1000, "zar": 50,
    }
)  # fmt: skip
# Where Stripe names no least, one minor unit above nothing is all that can be asked.
LEAST_ANYWHERE: Final = 1
# Cards take 12 digits.
GREATEST_CHARGE: Final = 999_999_999_999

# Counted in two decimals that are never used: 5 ISK are 500, and 550 are refused.
WHOLE_UNITS: Final = frozenset({"isk", "ugx"})


def least_charge(currency: str) -> int:
    """Stripe's least charge (R10), in minor units."""
    return LEAST_CHARGE.get(currency, LEAST_ANYWHERE)


def step(currency: str) -> int:
    """What amounts of a currency are multiples of: 100 for ISK and UGX; 10 for three decimals, whose last digit must be 0."""
    if currency in WHOLE_UNITS:
        return 100
    return 10 if currency in THREE_DECIMAL else 1
