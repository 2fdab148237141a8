"""What a session costs: its lines, its discount, its totals, by Stripe's own rules."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from tests.fakes.stripe import money
from tests.fakes.stripe.errors import Invalid, Refused, no_such
from tests.fakes.stripe.shapes import JsonObject

DAYS: Final = {"day": 1, "week": 7, "month": 30, "year": 365}
LONGEST: Final = {"day": 1095, "week": 156, "month": 36, "year": 3}  # three years
MOST_LINES: Final = 100  # of a payment
MOST_OF_A_KIND: Final = 20  # of a subscription


@dataclass(frozen=True)
class Line:
    """A line as the buyer sees it; `interval` is None for what is charged once."""

    name: str
    description: str | None
    currency: str
    unit: Decimal
    quantity: int
    interval: tuple[str, int] | None

    @property
    def amount(self) -> int:
        """Minor units, each time."""
        return money.rounded(self.unit * self.quantity)


@dataclass(frozen=True)
class Price:
    """What is charged at once, and what from then on (0 for a payment). Minor units."""

    lines: tuple[Line, ...]
    currency: str
    subtotal: int
    discount: int
    recurring: int

    @property
    def total(self) -> int:
        """What is charged at once."""
        return self.subtotal - self.discount


def lines_of(params: JsonObject) -> tuple[Line, ...]:
    """The lines of a session. Raises Refused."""
    given = params.get("line_items") or []
    if not given:
        raise Invalid("You must pass `line_items`.", code="parameter_missing", param="line_items")
    lines = tuple(_line(item, f"line_items[{number}]") for number, item in enumerate(given))
    if {line.currency for line in lines} != {lines[0].currency}:
        raise Refused(400, "Checkout Session line items must all use the same currency.", param="line_items")
    _check_mode(params["mode"], [line for line in lines if line.interval], len(lines))
    return lines


def _line(item: JsonObject, where: str) -> Line:
    if "price_data" not in item:
        if "price" in item:
            raise no_such("price", item["price"], param=f"{where}[price]")
        raise Invalid(
            "You must pass either `price` or `price_data`.", code="parameter_missing", param=f"{where}[price]"
        )
    if "quantity" not in item:
        message = f"Quantity is required. Add `quantity` to `{where}`"
        raise Invalid(message, code="parameter_missing", param=f"{where}[quantity]")
    if item.get("tax_rates"):
        raise no_such("tax rate", item["tax_rates"][0], param=f"{where}[tax_rates][0]")
    if item["quantity"] < 1:
        raise Invalid("This value must be greater than or equal to 1.", param=f"{where}[quantity]")
    return _priced(item["price_data"], item["quantity"], f"{where}[price_data]")


def _priced(price: JsonObject, quantity: int, where: str) -> Line:
    currency = money.currency_of(price["currency"], f"{where}[currency]")
    if "product_data" not in price:
        if "product" in price:
            raise no_such("product", price["product"], param=f"{where}[product]")
        raise Invalid("You must pass either `product` or `product_data`.", param=where)
    if ("unit_amount" in price) == ("unit_amount_decimal" in price):
        raise Invalid("You must pass exactly one of `unit_amount` or `unit_amount_decimal`.", param=where)
    unit = Decimal(str(price["unit_amount"] if "unit_amount" in price else price["unit_amount_decimal"]))
    param = f"{where}[unit_amount]"
    if not 0 <= unit <= money.MOST:
        raise Invalid("Invalid non-negative integer", code="parameter_invalid_integer", param=param)
    product = price["product_data"]
    line = Line(product["name"], product.get("description"), currency, unit, quantity, _interval(price, where))
    money.check_multiple(line.amount, currency, param)
    return line


def _interval(price: JsonObject, where: str) -> tuple[str, int] | None:
    if "recurring" not in price:
        return None
    interval, every = price["recurring"]["interval"], price["recurring"].get("interval_count", 1)
    if not 1 <= every <= LONGEST[interval]:
        message = f"Invalid interval_count: must be between 1 and {LONGEST[interval]} for interval {interval}"
        raise Invalid(message, param=f"{where}[recurring][interval_count]")
    return interval, every


def _check_mode(mode: str, recurring: list[Line], number: int) -> None:
    if mode == "payment" and recurring:
        raise Refused(
            400,
            "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use "
            "only one-time prices.",
            param="line_items",
        )
    if mode == "payment" and number > MOST_LINES:
        raise Refused(400, f"Checkout Sessions take up to {MOST_LINES} line items.", param="line_items")
    if mode != "subscription":
        return
    if not recurring:
        message = "You must provide at least one recurring price in `subscription` mode when using prices."
        raise Refused(400, message, param="line_items")
    if len(recurring) > MOST_OF_A_KIND or number - len(recurring) > MOST_OF_A_KIND:
        message = f"Subscriptions take up to {MOST_OF_A_KIND} recurring and {MOST_OF_A_KIND} one-time line items."
        raise Refused(400, message, param="line_items")
    if len({line.interval for line in recurring}) > 1:
        message = "Checkout does not support multiple prices with different billing intervals."
        raise Refused(400, message, param="line_items")


def priced(lines: tuple[Line, ...], coupon: JsonObject | None) -> Price:
    """The totals. A coupon takes from what is there, never more; it comes back unless it is for once."""
    currency = lines[0].currency
    subtotal = sum(line.amount for line in lines)
    recurring = sum(line.amount for line in lines if line.interval)
    again = recurring
    discount = 0
    if coupon is not None:
        discount = _off(coupon, subtotal)
        again -= 0 if coupon["duration"] == "once" else _off(coupon, recurring)
    money.check_total(subtotal - discount, currency)
    return Price(lines, currency, subtotal, discount, again)


def _off(coupon: JsonObject, amount: int) -> int:
    if coupon["percent_off"] is not None:
        return money.rounded(Decimal(str(coupon["percent_off"])) * amount / 100)
    return min(int(coupon["amount_off"]), amount)
