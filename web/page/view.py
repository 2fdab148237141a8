"""What the page shows of a quote, ready to be written into HTML: made from what was published, and decided by nothing else.

Pure: content and totals as record.py writes them, the offer, and the payment's data as the CRM gets it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from quittance.domain.publishing.offer import AttemptState, Offer
from quittance.wording import locale_of
from web.page.words import Words, words_for
from web.page.writing import Writing, often

WIDE: Final = 14  # characters of an amount


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What is known of a quote when its page is asked for. `payment`: `data` of its newest CRM event, or None; `attempt`: the
    state of the newest attempt to pay it.
    """

    token: str
    content: Mapping[str, Any]
    totals: Mapping[str, Any]
    offer: Offer
    livemode: bool
    account_name: str | None
    payment: Mapping[str, Any] | None
    attempt: AttemptState | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the newest attempt to pay is over, and failed; while a newer one is under way an older one says nothing."""
        return (self.payment or {}).get("status") == "payment_failed" and self.attempt in ("closed", None)


@dataclass(frozen=True)
class Amount:
    """A row of the totals: `detail` says of what it is a share, or how long it lasts."""

    name: str
    value: str
    detail: str | None = None
    theirs: bool = False  # `name` is the seller's word, not ours


@dataclass(frozen=True)
class Line:
    """A line item. `often` None: charged once; `reduction` None: no discount of its own."""

    name: str
    description: str | None
    often: str | None
    quantity: str
    price: str
    reduction: str | None
    reduction_detail: str | None
    net: str


@dataclass(frozen=True)
class Seller:
    """Whose quote it is. `name` is the business where we know it; `person` is who may be written to."""

    name: str | None
    person: str | None
    email: str | None


@dataclass(frozen=True)
class Quote:
    """A quote in words and figures; `due` is what the first payment comes to, `later` what each one after it does."""

    token: str
    offer: Offer
    livemode: bool
    words: Words
    said_in: str | None  # the language of the seller's own words, as HTML names it, where it is not that of `words`
    title: str
    number: str | None
    seller: Seller
    prepared_for: tuple[str, ...]
    valid_until: str | None
    zone: str
    lines: tuple[Line, ...]
    reduced: bool  # a line has a discount of its own
    mixed: bool  # some lines recur, others do not
    amounts: tuple[Amount, ...]
    currency: str
    due: str
    later: str | None
    often: str | None

    @property
    def wide(self) -> bool:
        """Whether the lines' figures need more room than they usually have."""
        return any(len(figure) > WIDE for line in self.lines for figure in (line.price, line.reduction or "", line.net))


def quote_of(shown: Shown) -> Quote:
    """The quote as its page shows it."""
    content, totals = shown.content, shown.totals
    words, locale = words_for(content["locale"]), locale_of(content["locale"])
    writing = writing_of(shown)
    lines = tuple(
        _line(line, net, writing, words) for line, net in zip(content["line_items"], totals["lines"], strict=True)
    )
    frequency = totals["billing_frequency"]
    return Quote(
        token=shown.token,
        offer=shown.offer,
        livemode=shown.livemode,
        words=words,
        said_in=None if locale.language == words.language else str(locale).replace("_", "-"),
        title=content["title"],
        number=content.get("number"),
        seller=_seller(shown),
        prepared_for=_prepared_for(content),
        valid_until=valid_until(shown, writing),
        zone=writing.zone(),
        lines=lines,
        reduced=any(line.reduction for line in lines),
        mixed=len({line.often for line in lines}) > 1,
        amounts=_amounts(content, totals, writing, words),
        currency=content["currency"].upper(),
        due=writing.money(totals["due"]),
        later=None if frequency is None else writing.money(totals["recurring"]),
        often=None if frequency is None else often(frequency, words.gettext),
    )


def writing_of(shown: Shown) -> Writing:
    """How the quote's figures are written."""
    content = shown.content
    return Writing(content["locale"], content["time_zone"], content["currency"])


def valid_until(shown: Shown, writing: Writing) -> str | None:
    """The last day on which it can be checked out; None where it does not expire."""
    last = shown.content.get("expires_on")
    return None if last is None else writing.day(date.fromisoformat(last))


def _seller(shown: Shown) -> Seller:
    owner = shown.content.get("owner", {})
    business, person = shown.account_name, owner.get("name")
    return Seller(business or person, person, owner.get("email"))


def _prepared_for(content: Mapping[str, Any]) -> tuple[str, ...]:
    contact = content.get("contact", {})
    person = " ".join(name for name in (contact.get("first_name"), contact.get("last_name")) if name)
    return tuple(name for name in (content.get("company", {}).get("name"), person) if name)


def _line(line: Mapping[str, Any], net: int, writing: Writing, words: Words) -> Line:
    discount, frequency = line.get("discount"), line.get("billing_frequency")
    gross = line["quantity"] * line["unit_amount"]
    return Line(
        name=line["name"],
        description=line.get("description"),
        often=None if frequency is None else often(frequency, words.gettext),
        quantity=writing.number(line["quantity"]),
        price=writing.money(line["unit_amount"]),
        reduction=None if discount is None else writing.less(gross - net),
        reduction_detail=None if discount is None else _share(discount, writing),
        net=writing.money(net),
    )


def _share(share: Mapping[str, Any], writing: Writing) -> str | None:
    """A discount's name and percentage, as far as it has them."""
    percent = writing.percent(share["percent"]) if "percent" in share else None
    return ", ".join(part for part in (share.get("name"), percent) if part) or None


def _amounts(
    content: Mapping[str, Any], totals: Mapping[str, Any], writing: Writing, words: Words
) -> tuple[Amount, ...]:
    """The rows between the lines and what is due; none where the lines come to just that."""
    _ = words.gettext
    # Fees and taxes are charged with the first payment alone (R26); it says so where there are others.
    first_only = _("first payment only") if totals["billing_frequency"] else None
    rows = []
    if discounts := content.get("discounts", []):
        lasting = _("every payment") if totals["recurring_discount"] else first_only
        rows.append(Amount(_("Discount"), writing.less(totals["discount"]), _discounts(discounts, lasting, writing)))
    for kind, ours in (("fees", _("Fee")), ("taxes", _("Tax"))):
        for share, amount in zip(content.get(kind, []), totals[kind], strict=True):
            percent = writing.percent(share["percent"]) if "percent" in share else None
            detail = _joined(percent, first_only)
            rows.append(Amount(share.get("name") or ours, writing.money(amount), detail, theirs="name" in share))
    if not rows:
        return ()
    return (Amount(_("Subtotal"), writing.money(totals["subtotal"])), *rows)


def _discounts(discounts: list[Mapping[str, Any]], lasting: str | None, writing: Writing) -> str | None:
    """All of a quote's discounts are one row, as they are one coupon in Stripe (R15)."""
    return _joined(*(_share(one, writing) or writing.money(one.get("amount", 0)) for one in discounts), lasting)


def _joined(*parts: str | None) -> str | None:
    return " · ".join(part for part in parts if part) or None
