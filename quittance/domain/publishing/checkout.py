"""What Stripe is asked for when a buyer clicks Check out: the session's and the coupon's parameters. Pure.

A Checkout Session in mode `payment`, or `subscription` where a line recurs (R23); what it comes to is the quote's `due`,
to the minor unit. Nothing is set that the rules forbid: no trial and no anchor (R27), no end (R29), no way of paying
(the account's own settings decide), and prices are made of the quote's own lines, so that no product need exist.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from quittance.domain.publishing.content import FREQUENCIES, Content, LineItem, Share
from quittance.domain.publishing.policies import step

# Stripe's own are 30 minutes and 24 hours after it made the session, by its clock.
SHORTEST: Final = timedelta(minutes=32)
LONGEST: Final = timedelta(hours=23, minutes=50)

TIMES: Final = "\N{MULTIPLICATION SIGN}"
LONGEST_NAME: Final = 250
LONGEST_DESCRIPTION: Final = 500
LONGEST_COUPON_NAME: Final = 40

# Of Checkout's page (docs.stripe.com/api/checkout/sessions/create, locale).
LOCALES: Final = frozenset(
    "bg cs da de el en en-GB es es-419 et fi fil fr fr-CA hi-IN hr hu id it ja ko lt lv ms mt nb nl pl pt pt-BR ro ru sk "
    "sl sv th tr vi zh zh-HK zh-TW".split()
)
_OTHER_NAMES: Final[Mapping[str, str]] = {
    "hi": "hi-IN",
    "nn": "nb",
    "no": "nb",
    "tl": "fil",
    "zh-Hant": "zh-TW",
    "zh-MO": "zh-HK",
}


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A revision of a quote as it was published; `totals` as quittance/domain/publishing/record.py writes them."""

    account: str
    livemode: bool
    quote_id: str
    revision: int
    checkout_key: str
    content: Content
    totals: Mapping[str, Any]

    @property
    def recurs(self) -> bool:
        """Whether a line recurs."""
        return any(line.billing_frequency for line in self.content.line_items)

    @property
    def metadata(self) -> dict[str, str]:
        """Says whose everything is that Stripe makes of this revision (S1)."""
        return {
            "quote_id": self.quote_id,
            "quote_revision": str(self.revision),
            "quote_checkout_key": self.checkout_key,
        }


@dataclass(frozen=True)
class Words:
    """What Checkout calls the parts of a quote that have no name of their own, in the quote's language."""

    discount: str = "Discount"
    fee: str = "Fee"
    tax: str = "Tax"


@dataclass(frozen=True)
class Buyer:
    """Who checks out, as far as it is known: Stripe's customer, else an address to begin with."""

    customer: str | None = None
    email: str | None = None


def session_params(
    revision: Revision, buyer: Buyer, *, attempt: int, page_url: str, expires_at: datetime, words: Words
) -> dict[str, Any]:
    """The parameters of the Checkout Session of an attempt, without those that say nothing."""
    metadata = attempt_metadata(revision, attempt)
    content = revision.content
    mode: Literal["payment", "subscription"] = "subscription" if revision.recurs else "payment"
    about: dict[str, Any] = {"metadata": metadata, "description": _cut(_title(content), LONGEST_DESCRIPTION)}
    params: dict[str, Any] = {
        "mode": mode,
        "line_items": _line_items(revision, words),
        "client_reference_id": revision.quote_id,
        "metadata": metadata,
        "payment_intent_data" if mode == "payment" else "subscription_data": about,
        "success_url": f"{page_url}/return",
        "cancel_url": page_url,
        "locale": checkout_locale(content.locale),
        "expires_at": int(expires_at.timestamp()),
    }
    if revision.totals["discount"]:
        params["discounts"] = [{"coupon": coupon_id(revision)}]
    if buyer.customer is not None:
        params["customer"] = buyer.customer
    elif buyer.email is not None:
        params["customer_email"] = buyer.email
    return params


def attempt_metadata(revision: Revision, attempt: int) -> dict[str, str]:
    """The metadata of a session and of what it makes. The attempt is what finds it again where its answer was lost."""
    metadata = {**revision.metadata, "quote_attempt": str(attempt)}
    owner = revision.content.owner_email
    return metadata if owner is None else {**metadata, "owner_email": owner}


def idempotency_key(revision: Revision, attempt: int) -> str:
    """The same for every try of one attempt, in whichever process; of another publication never the same."""
    return f"quittance-checkout-{_digest(revision, str(attempt))}"


def coupon_id(revision: Revision) -> str:
    """One coupon per revision (R15). Nobody's data is in it, and nobody can guess it."""
    return f"quote-{_digest(revision, 'coupon')[:32]}"


def coupon_params(revision: Revision, words: Words) -> dict[str, Any] | None:
    """The parameters of the revision's coupon; None where it has no discount.

    The amount is computed of the product lines alone (R15) and never more than they come to, so it takes nothing off the
    fees and the tax. One that lasts is taken off every invoice, one that does not off the first.
    """
    amount = revision.totals["discount"]
    if not amount:
        return None
    discounts = revision.content.discounts
    return {
        "id": coupon_id(revision),
        "name": _cut(_names(discounts, words.discount), LONGEST_COUPON_NAME),
        "amount_off": amount,
        "currency": revision.content.currency,
        "duration": "forever" if any(share.duration == "forever" for share in discounts) else "once",
        "metadata": revision.metadata,
    }


def session_end(now: datetime, quote_end: datetime | None) -> datetime:
    """When a session made now ends by itself: with its quote (R28), as far as Stripe's least allows, else within a day.

    With less than Stripe's least left, the quote's expiry ends it.
    """
    end = now + LONGEST if quote_end is None else min(now + LONGEST, quote_end)
    return max(end, now + SHORTEST)


def checkout_locale(locale: str) -> str:
    """Checkout's nearest to a locale of ours; `auto`, the browser's, where it speaks no such language."""
    language, *rest = locale.replace("_", "-").split("-")
    language = language.lower()
    script = next((part.title() for part in rest if len(part) == 4), None)
    region = next((part.upper() for part in rest if len(part) in (2, 3)), None)
    named = [f"{language}-{part}" for part in (region, script) if part is not None]
    if language == "es" and region not in (None, "ES"):
        named.append("es-419")
    for name in [*named, language]:
        known = _OTHER_NAMES.get(name, name)
        if known in LOCALES:
            return known
    return "auto"


def _line_items(revision: Revision, words: Words) -> list[dict[str, Any]]:
    content, totals = revision.content, revision.totals
    items = [
        _line_item(line, net, content.currency) for line, net in zip(content.line_items, totals["lines"], strict=True)
    ]
    # Without `recurring`: on the first invoice only, which is what R26 wants of the tax.
    once = [(fee.name or words.fee, amount) for fee, amount in zip(content.fees, totals["fees"], strict=True)]
    once.append((_names(content.taxes, words.tax), sum(totals["taxes"])))
    items += [_item(name, None, amount, 1, content.currency) for name, amount in once if amount]
    return items


def _line_item(line: LineItem, net: int, currency: str) -> dict[str, Any]:
    """A line at its net price. Where the discounted price of one cannot be charged, the line is sold as one."""
    if net % (line.quantity * step(currency)):
        item = _item(f"{line.quantity} {TIMES} {line.name}", line.description, net, 1, currency)
    else:
        item = _item(line.name, line.description, net // line.quantity, line.quantity, currency)
    if line.billing_frequency is not None:
        interval, count = FREQUENCIES[line.billing_frequency]
        item["price_data"]["recurring"] = {"interval": interval, "interval_count": count}
    return item


def _item(name: str, description: str | None, unit_amount: int, quantity: int, currency: str) -> dict[str, Any]:
    product: dict[str, Any] = {"name": _cut(name, LONGEST_NAME)}
    if description is not None:
        product["description"] = _cut(description, LONGEST_DESCRIPTION)
    return {
        "quantity": quantity,
        "price_data": {"currency": currency, "unit_amount": unit_amount, "product_data": product},
    }


def _title(content: Content) -> str:
    return content.title if content.number is None else f"{content.number}: {content.title}"


def _names(shares: tuple[Share, ...], otherwise: str) -> str:
    return ", ".join(dict.fromkeys(share.name for share in shares if share.name)) or otherwise


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _digest(revision: Revision, purpose: str) -> str:
    parts = (
        revision.account,
        str(revision.livemode),
        revision.quote_id,
        str(revision.revision),
        revision.checkout_key,
        purpose,
    )
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()
