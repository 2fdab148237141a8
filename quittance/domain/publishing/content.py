"""The content of a quote, read from JSON. Amounts are integers in Stripe's minor units, percentages decimal strings."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal, TypeVar

from quittance.domain.payload import storable
from quittance.domain.publishing.faults import Faults

T = TypeVar("T")

LONGEST_TEXT: Final = 2_000
MOST_LINES: Final = 200  # more is no quote; Stripe's own limits are in rules.py
GREATEST_AMOUNT: Final = 10**15
GREATEST_QUANTITY: Final = 10**6

# As HubSpot names them, with Stripe's interval and count. Stripe bills at most every three years.
FREQUENCIES: Final[dict[str, tuple[Literal["week", "month", "year"], int]]] = {
    "weekly": ("week", 1),
    "biweekly": ("week", 2),
    "monthly": ("month", 1),
    "quarterly": ("month", 3),
    "biannually": ("month", 6),
    "per_six_months": ("month", 6),
    "annually": ("year", 1),
    "per_two_years": ("year", 2),
    "per_three_years": ("year", 3),
}


@dataclass(frozen=True)
class Share:
    """A discount, fee or tax: a percentage of what it applies to, or an amount; exactly one of the two."""

    name: str | None = None
    percent: Decimal | None = None
    amount: int | None = None
    duration: Literal["once", "forever"] = "once"


@dataclass(frozen=True)
class LineItem:
    """One line; `billing_frequency` None is one-time. `term` is kept to be refused (R25)."""

    name: str
    description: str | None
    quantity: int
    unit_amount: int
    discount: Share | None
    billing_frequency: str | None
    term: Any


@dataclass(frozen=True)
class Content:
    """A quote as a seller publishes it."""

    number: str | None
    title: str
    currency: str
    locale: str
    time_zone: str
    expires_on: date | None
    payment_enabled: bool
    owner_name: str | None
    owner_email: str | None
    contact_first_name: str | None
    contact_last_name: str | None
    contact_email: str | None
    contact_country: str | None
    company_name: str | None
    deal_id: str | None
    line_items: tuple[LineItem, ...] = ()
    discounts: tuple[Share, ...] = ()
    fees: tuple[Share, ...] = ()
    taxes: tuple[Share, ...] = ()
    unknown: tuple[str, ...] = field(default=(), compare=False)

    @property
    def buyer_name(self) -> str | None:
        """R19: the company's name, else the contact's first and last name."""
        contact = " ".join(name for name in (self.contact_first_name, self.contact_last_name) if name)
        return self.company_name or contact or None


def read_content(body: object, faults: Faults) -> Content | None:
    """The content that `body` (decoded JSON) holds; None, with every fault noted, where a field cannot be read."""
    if not isinstance(body, dict):
        faults.add("format", "not_an_object", "The quote must be a JSON object.")
        return None
    before = len(faults.found)
    form = _Form(body, "", faults)
    owner, contact, company = form.inner("owner"), form.inner("contact"), form.inner("company")
    content = Content(
        number=form.text("number"),
        title=form.text("title", required=True) or "",
        currency=(form.text("currency", required=True, pattern=r"[A-Za-z]{3}") or "").lower(),
        locale=form.text("locale", pattern=r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*") or "en",
        time_zone=form.text("time_zone") or "UTC",
        expires_on=form.day("expires_on"),
        payment_enabled=form.flag("payment_enabled", default=True),
        owner_name=owner.text("name"),
        owner_email=owner.email("email"),
        contact_first_name=contact.text("first_name"),
        contact_last_name=contact.text("last_name"),
        contact_email=contact.email("email"),
        contact_country=(contact.text("country", pattern=r"[A-Za-z]{2}") or "").upper() or None,
        company_name=company.text("name"),
        deal_id=form.text("deal_id"),
        line_items=form.many("line_items", _line, required=True),
        discounts=form.many("discounts", _discount),
        fees=form.many("fees", _share),
        taxes=form.many("taxes", _share),
    )
    for each in (form, owner, contact, company):
        each.refuse_unknown()
    return content if len(faults.found) == before else None


class _Form:
    """Reads fields of one JSON object, and notes what is wrong with them under their path."""

    def __init__(self, body: dict[str, Any], path: str, faults: Faults, line: int | None = None) -> None:
        self.body, self.path, self.faults, self.line = body, path, faults, line
        self.known: set[str] = set()

    def text(self, name: str, *, required: bool = False, pattern: str | None = None) -> str | None:
        value = self._take(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            if required:
                self.wrong(name, "missing", "is missing", None)
            return None
        if not isinstance(value, str) or not storable(value) or len(value) > LONGEST_TEXT:
            self.wrong(name, "no_text", f"must be text of at most {LONGEST_TEXT} characters", value)
            return None
        if pattern is not None and not re.fullmatch(pattern, value.strip()):
            self.wrong(name, "malformed", "is not well formed", value)
            return None
        return value.strip()

    def email(self, name: str) -> str | None:
        return self.text(name, pattern=r"[^@\s,;<>\"]{1,64}@[^@\s,;<>\"]{1,189}")

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._take(name)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self.wrong(name, "no_boolean", "must be true or false", value)
        return default

    def whole(self, name: str, least: int, most: int, *, required: bool = False, default: int = 0) -> int:
        value = self._take(name)
        if value is None:
            if required:
                self.wrong(name, "missing", "is missing", None)
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            allowed = f"a whole number from {least} to {most}"
            self.wrong(
                name, "no_integer", f"must be {allowed} (amounts in minor units, never decimals)", value, allowed
            )
            return default
        return value

    def percent(self, name: str) -> Decimal | None:
        value = self._take(name)
        if value is None:
            return None
        if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", value) or Decimal(value) > 100:
            allowed = 'a decimal string from "0" to "100"'
            self.wrong(name, "no_percentage", f"must be {allowed}", value, allowed)
            return None
        return Decimal(value)

    def day(self, name: str) -> date | None:
        value = self._take(name)
        if value is None:
            return None
        try:
            if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
                return date.fromisoformat(value)
        except ValueError:
            pass
        self.wrong(name, "no_date", "must be a date, YYYY-MM-DD", value, "YYYY-MM-DD")
        return None

    def choice(self, name: str, allowed: Sequence[str], default: str) -> str:
        value = self._take(name)
        if value is None:
            return default
        if value not in allowed:
            self.wrong(name, "no_choice", f"must be one of {', '.join(allowed)}", value, list(allowed))
            return default
        return str(value)

    def inner(self, name: str) -> "_Form":
        value = self._take(name)
        if value is not None and not isinstance(value, dict):
            self.wrong(name, "not_an_object", "must be an object", value)
        return _Form(value if isinstance(value, dict) else {}, f"{self.path}{name}.", self.faults, self.line)

    def many(self, name: str, read: Callable[["_Form"], T], *, required: bool = False) -> tuple[T, ...]:
        value = self._take(name)
        if value is None and not required:
            return ()
        if not isinstance(value, list) or len(value) > MOST_LINES or (required and not value):
            least = "one" if required else "none"
            self.wrong(name, "no_list", f"must be a list of {least} to {MOST_LINES}", None)
            return ()
        return tuple(self._item(name, number, item, read) for number, item in enumerate(value, 1))

    def raw(self, name: str) -> Any:
        return self._take(name)

    def refuse_unknown(self) -> None:
        """A misspelt field that is passed over would be a wrong quote."""
        for name in sorted(set(self.body) - self.known):
            self.wrong(name, "unknown_field", "is no field of a quote", None)

    def _item(self, name: str, number: int, item: object, read: Callable[["_Form"], T]) -> T:
        line = number if name == "line_items" else self.line
        form = _Form(item if isinstance(item, dict) else {}, f"{self.path}{name}[{number}].", self.faults, line)
        if not isinstance(item, dict):
            form.wrong("", "not_an_object", "must be an object", item)
        result = read(form)
        form.refuse_unknown()
        return result

    def _take(self, name: str) -> Any:
        self.known.add(name)
        return self.body.get(name)

    def wrong(self, name: str, code: str, message: str, given: Any, allowed: Any = None) -> None:
        path = f"{self.path}{name}".rstrip(".")
        shown = given if isinstance(given, int | float | bool) or given is None else str(given)[:200]
        self.faults.add("format", code, f"{path} {message}.", line=self.line, given=shown, allowed=allowed)


def _line(form: _Form) -> LineItem:
    discount = form.inner("discount") if form.body.get("discount") is not None else None
    form.known.add("discount")
    share = None if discount is None else _share(discount)
    if discount is not None:
        discount.refuse_unknown()
    return LineItem(
        name=form.text("name", required=True) or "",
        description=form.text("description"),
        quantity=form.whole("quantity", 1, GREATEST_QUANTITY, default=1),
        unit_amount=form.whole("unit_amount", 0, GREATEST_AMOUNT, required=True),
        discount=share,
        billing_frequency=form.text("billing_frequency"),
        term=form.raw("term"),
    )


def _share(form: _Form) -> Share:
    percent, amount = form.percent("percent"), form.raw("amount")
    if (percent is None) == (amount is None) and (form.body.get("percent") is None or amount is not None):
        form.wrong("", "percent_or_amount", "needs either percent or amount", None)
    return Share(form.text("name"), percent, form.whole("amount", 0, GREATEST_AMOUNT) if amount is not None else None)


def _discount(form: _Form) -> Share:
    share = _share(form)
    duration = form.choice("duration", ("once", "forever"), "once")
    return Share(share.name, share.percent, share.amount, "forever" if duration == "forever" else "once")
