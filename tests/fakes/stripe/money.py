"""Currencies and amounts as Stripe takes them (docs.stripe.com/currencies)."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from tests.fakes.stripe.errors import Invalid, Refused

PRESENTED: Final = frozenset(
    """
    aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf clp cny
    cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl hrk htg huf idr ils inr isk
    jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr mzn
    nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sos srd std
    szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd vuv wst xaf xcd xof xpf yer zar zmw
    """.split()
)
# The least that can be charged, in minor units; of what is not here, Stripe asks what it converts to.
LEAST: Final = {
    **dict.fromkeys("ars aud brl cad chf cop eur idr ils inr nzd php rub sgd usd zar".split(), 50),
    "aed": 200,
    "czk": 1500,
    "dkk": 250,
    "gbp": 30,
    "hkd": 400,
    "huf": 17500,
    "jpy": 50,
    "krw": 50,
    "mxn": 1000,
    "myr": 200,
    "nok": 300,
    "pln": 200,
    "ron": 200,
    "sek": 300,
    "thb": 1000,
}
MOST: Final = 999_999_999_999
# Amounts are counted in smaller units than are charged.
MULTIPLES: Final = {**dict.fromkeys("isk ugx".split(), 100), **dict.fromkeys("bhd jod kwd omr tnd".split(), 10)}
ZERO_DECIMAL: Final = frozenset("bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split())


def rounded(amount: Decimal) -> int:
    """Minor units, half up."""
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))


def currency_of(given: str, param: str) -> str:
    """The currency in lower case. Raises Invalid for what Stripe does not present."""
    currency = given.lower()
    if currency not in PRESENTED:
        listed = ", ".join(sorted(PRESENTED))
        raise Invalid(f"Invalid currency: {given}. Stripe currently supports these currencies: {listed}", param=param)
    return currency


def check_multiple(amount: int, currency: str, param: str) -> None:
    """Raises Invalid for an amount with a fraction that nobody can be charged."""
    multiple = MULTIPLES.get(currency, 1)
    if amount % multiple:
        message = f"Invalid amount: amounts in {currency} must be divisible by {multiple}"
        raise Invalid(message, code="parameter_invalid_integer", param=param)


def check_total(total: int, currency: str) -> None:
    """Raises Refused for a total that is neither nothing nor within Stripe's limits."""
    least = LEAST.get(currency, 1)
    if 0 < total < least:
        raise Refused(
            400,
            f"The Checkout Session's total amount due must add up to at least {shown(least, currency)}",
            code="amount_too_small",
        )
    if total > MOST:
        raise Refused(
            400,
            f"The Checkout Session's total amount due must be no more than {shown(MOST, currency)}",
            code="amount_too_large",
        )


def shown(amount: int, currency: str) -> str:
    """As Stripe's messages and page show it."""
    exponent = 0 if currency in ZERO_DECIMAL else 3 if currency in ("bhd", "jod", "kwd", "omr", "tnd") else 2
    return f"{Decimal(amount).scaleb(-exponent):,.{exponent}f} {currency.upper()}"
