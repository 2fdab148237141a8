"""What a quote comes to: discounts, then fees, then taxes, in minor units.

Rounding: each percentage is taken of the whole amount that it applies to, and rounded once, half away from zero, to the
currency's least step (`step`: 1; 100 for ISK and UGX, whose minor units are not used; 10 for three-decimal currencies).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from quittance.domain.publishing.content import Content, LineItem, Share


@dataclass(frozen=True)
class Totals:
    """Of the first purchase: `due` = subtotal - discount + fees + tax; and what each later period costs (R26: without
    the tax of the quote). `nets` are the lines' net prices, in order.
    """

    nets: tuple[int, ...]
    subtotal: int
    discount: int
    fees: tuple[int, ...]
    taxes: tuple[int, ...]
    due: int
    recurring_subtotal: int
    recurring_discount: int

    @property
    def recurring(self) -> int:
        """What each period after the first costs; 0 where nothing recurs."""
        return max(0, self.recurring_subtotal - self.recurring_discount)


def totals_of(content: Content, step: int = 1) -> Totals:
    """The totals of a quote. No amount falls below 0."""
    nets = tuple(net_price(line, step) for line in content.line_items)
    subtotal = sum(nets)
    recurring = sum(net for net, line in zip(nets, content.line_items, strict=True) if line.billing_frequency)
    forever = [share for share in content.discounts if share.duration == "forever"]
    once = [share for share in content.discounts if share.duration == "once"]
    # A coupon takes the same amount off every invoice, so what lasts for ever can only be a share of what recurs.
    lasting = min(recurring, _sum(forever, recurring, step))
    discount = min(subtotal, lasting + _sum(once, subtotal, step))
    fees = tuple(part(share, subtotal - discount, step) for share in content.fees)
    taxed = subtotal - discount + sum(fees)
    taxes = tuple(part(share, taxed, step) for share in content.taxes)
    return Totals(
        nets=nets,
        subtotal=subtotal,
        discount=discount,
        fees=fees,
        taxes=taxes,
        due=taxed + sum(taxes),
        recurring_subtotal=recurring,
        recurring_discount=lasting,
    )


def net_price(line: LineItem, step: int = 1) -> int:
    """A line's net price (R11): quantity times unit amount, less its own discount."""
    gross = line.quantity * line.unit_amount
    return gross if line.discount is None else max(0, gross - part(line.discount, gross, step))


def part(share: Share, whole: int, step: int = 1) -> int:
    """What a discount, fee or tax comes to."""
    if share.amount is not None:
        return share.amount
    exact = Decimal(whole) * (share.percent or Decimal(0)) / 100
    return int((exact / step).quantize(Decimal(1), ROUND_HALF_UP)) * step


def _sum(shares: Sequence[Share] | Iterable[Share], whole: int, step: int) -> int:
    return sum(part(share, whole, step) for share in shares)
