"""The rules that a quote must keep to be published; all that are broken are named at once, each with its id."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from quittance.domain.publishing.content import FREQUENCIES, Content, LineItem
from quittance.domain.publishing.faults import Fault, Faults
from quittance.domain.publishing.policies import GREATEST_CHARGE, Policy, least_charge, step
from quittance.domain.publishing.totals import Totals

# Checkout's own limits (docs.stripe.com/api/checkout/sessions/create, line_items).
MOST_ONE_TIME: Final = 100
MOST_OF_SUBSCRIPTION: Final = 20

# R8: strong customer authentication is law in the European Economic Area, the United Kingdom and Switzerland.
SCA_COUNTRIES: Final = frozenset(
    "AT BE BG CH CY CZ DE DK EE ES FI FR GB GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK".split()
)
SCA_CURRENCIES: Final = frozenset("bgn chf czk dkk eur gbp huf isk nok pln ron sek".split())


@dataclass(frozen=True)
class Draft:
    """A quote that can be read, and what the rules are judged by; `expired`, and of the account `charges_enabled` (None:
    unknown) and `disconnected` are found out by the caller, who has a clock and a database.
    """

    content: Content
    totals: Totals
    policy: Policy
    expired: bool = False
    charges_enabled: bool | None = True
    disconnected: bool = False


def faults_of(draft: Draft) -> list[Fault]:
    """Every rule that the draft breaks, in the order of the rules' numbers."""
    faults = Faults()
    for check in _CHECKS:
        check(draft, faults)
    return sorted(faults.found, key=lambda fault: (_number(fault.rule), fault.line or 0))


def warnings_of(draft: Draft) -> list[Fault]:
    """What the seller should know; never a refusal."""
    found = Faults()
    content = draft.content
    recurs = any(line.billing_frequency for line in content.line_items)
    if recurs and (content.currency in SCA_CURRENCIES or content.contact_country in SCA_COUNTRIES):
        found.add(
            "R8",
            "renewals_off_session",
            "Some payments may fail under PSD2: renewals are charged without the buyer, whose bank may ask for 3-D Secure.",
            given=content.contact_country or content.currency.upper(),
        )
    if recurs and content.taxes:
        found.add(
            "R26",
            "tax_on_first_charge_only",
            "Taxes of the quote are charged with the first payment only. Put tax into the prices of recurring items.",
        )
    return found.found


def _activated(draft: Draft, faults: Faults) -> None:
    if not draft.content.payment_enabled:
        return
    if draft.disconnected:
        faults.add(
            "R4", "account_disconnected", "The Stripe account is no longer connected: connect it again, then publish."
        )
    elif draft.charges_enabled is False:
        faults.add(
            "R4",
            "account_not_activated",
            "The Stripe account cannot take payments yet: finish its activation in Stripe.",
        )


def _amounts(draft: Draft, faults: Faults) -> None:
    currency = draft.content.currency
    least = least_charge(currency)
    charges = [("first payment", draft.totals.due)]
    if draft.totals.recurring_subtotal:
        charges.append(("recurring payment", draft.totals.recurring))
    for name, amount in charges:
        if amount < least:
            message = f"The {name} of {amount} is below Stripe's least charge in {currency.upper()}, {least}."
            faults.add("R10", "amount_too_small", message, given=amount, allowed=least)
        if amount > GREATEST_CHARGE:
            message = f"The {name} of {amount} is above Stripe's greatest charge, {GREATEST_CHARGE}."
            faults.add("R10", "amount_too_large", message, given=amount, allowed=GREATEST_CHARGE)
    # A discount of the quote can bring the sum down; Stripe looks at each line.
    for number, net in enumerate(draft.totals.nets, 1):
        if net > GREATEST_CHARGE >= draft.totals.due:
            message = f"Line {number} comes to {net}, above Stripe's greatest charge, {GREATEST_CHARGE}."
            faults.add("R10", "amount_too_large", message, line=number, given=net, allowed=GREATEST_CHARGE)


def _steps(draft: Draft, faults: Faults) -> None:
    content = draft.content
    least_step = step(content.currency)
    if least_step == 1:
        return
    allowed = f"multiples of {least_step}"
    for number, line in enumerate(content.line_items, 1):
        given = [line.unit_amount, line.discount.amount if line.discount else None]
        for amount in given:
            if amount is not None and amount % least_step:
                message = f"Stripe takes amounts in {content.currency.upper()} in {allowed} only."
                faults.add("R10", "amount_not_representable", message, line=number, given=amount, allowed=allowed)
    for share in (*content.discounts, *content.fees, *content.taxes):
        if share.amount is not None and share.amount % least_step:
            message = f"Stripe takes amounts in {content.currency.upper()} in {allowed} only."
            faults.add("R10", "amount_not_representable", message, given=share.amount, allowed=allowed)


def _nets(draft: Draft, faults: Faults) -> None:
    for number, net in enumerate(draft.totals.nets, 1):
        if net <= 0:
            faults.add(
                "R11",
                "net_price_zero",
                f"The net price of line {number} is zero.",
                line=number,
                given=net,
                allowed="> 0",
            )


def _discounts(draft: Draft, faults: Faults) -> None:
    durations = {share.duration for share in draft.content.discounts}
    if len(durations) > 1:
        faults.add(
            "R15",
            "discount_durations_differ",
            "Stripe takes one coupon: the quote's discounts must all be `once`, or all `forever`.",
            given=sorted(durations),
        )
    if "forever" in durations and not draft.totals.recurring_subtotal:
        faults.add("R15", "discount_forever_needs_recurring", "A discount that lasts for ever needs a recurring line.")


def _lines(draft: Draft, faults: Faults) -> None:
    recurring = [line for line in draft.content.line_items if line.billing_frequency]
    one_time = len(draft.content.line_items) - len(recurring)
    # The quote's fees and its tax become one-time lines as well.
    one_time += len(draft.content.fees) + bool(draft.content.taxes)
    most = MOST_OF_SUBSCRIPTION if recurring else MOST_ONE_TIME
    for name, count in (("recurring", len(recurring)), ("one-time", one_time)):
        if count > most:
            message = f"Stripe takes at most {most} {name} lines, fees and tax included."
            faults.add("R23", "too_many_lines", message, given=count, allowed=most)


def _frequencies(draft: Draft, faults: Faults) -> None:
    recurring = [(number, line) for number, line in enumerate(draft.content.line_items, 1) if line.billing_frequency]
    for number, line in recurring:
        if line.billing_frequency not in FREQUENCIES:
            faults.add(
                "R24",
                "frequency_unknown",
                f"Line {number} has a billing frequency that Stripe does not bill in.",
                line=number,
                given=line.billing_frequency,
                allowed=sorted(FREQUENCIES),
            )
    if len({FREQUENCIES.get(line.billing_frequency or "") for _, line in recurring}) > 1:
        named = ", ".join(f"line {number} {line.billing_frequency}" for number, line in recurring)
        given = {number: line.billing_frequency for number, line in recurring}
        faults.add(
            "R24", "frequencies_differ", f"All recurring lines need the same billing frequency: {named}.", given=given
        )


def _terms(draft: Draft, faults: Faults) -> None:
    for number, line in enumerate(draft.content.line_items, 1):
        if _has_term(line):
            message = f"Line {number} recurs and has a term: subscriptions recur until they are cancelled in Stripe."
            faults.add("R25", "term_not_allowed", message, line=number, given=str(line.term)[:100], allowed=None)


def _has_term(line: LineItem) -> bool:
    return bool(line.billing_frequency) and line.term not in (None, "", 0)


def _expiry(draft: Draft, faults: Faults) -> None:
    if draft.expired:
        given = str(draft.content.expires_on)
        faults.add("R28", "expires_in_the_past", "The quote's expiry date has passed.", given=given)


def _currency(draft: Draft, faults: Faults) -> None:
    refusal = draft.policy.refusal(draft.content.currency)
    if refusal is not None:
        rule, reason = refusal
        why = "HubSpot and Stripe count its decimals differently" if rule == "R31" else "Stripe does not take it"
        code = draft.content.currency.upper()
        faults.add(rule, reason, f"{code} cannot be used: {why} (policy {draft.policy.name}).", given=code)


def _number(rule: str) -> int:
    return int(rule[1:]) if rule[1:].isdigit() else 0


_CHECKS: Final[Iterable[Callable[[Draft, Faults], None]]] = (
    _activated,
    _amounts,
    _steps,
    _nets,
    _discounts,
    _lines,
    _frequencies,
    _terms,
    _expiry,
    _currency,
)
