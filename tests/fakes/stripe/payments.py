"""What comes of a session once somebody pays: its story, told in Stripe's events as it happens.

The objects and steps are those of dev/story.py; here they get the amounts, the metadata and the buyer of the session.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dev.story_after import FullStory
from dev.stripe_events import Json
from dev.stripe_invoices import finalised_links, invoice
from dev.stripe_objects import Purchase, payment_intent
from dev.stripe_subscriptions import subscription
from tests.fakes.stripe.pricing import Line, Price
from tests.fakes.stripe.shapes import JsonObject, Place

if TYPE_CHECKING:
    from tests.fakes.stripe.world import World


@dataclass
class Payment:
    """A session and whatever was made to pay it; `story` can be told on (refunds, disputes, renewals)."""

    place: Place
    price: Price
    session: JsonObject
    story: "LiveStory"
    success_url: str
    coupon: JsonObject | None = None
    intent: JsonObject | None = None
    charge: JsonObject | None = None
    subscription: JsonObject | None = None
    invoice: JsonObject | None = None


class LiveStory(FullStory):
    """A story that happens now: its events go out, and its time is that of Stripe's clock."""

    def __init__(self, world: "World", p: Purchase, price: Price) -> None:
        super().__init__(p)
        self.world = world
        self.price = price

    def goes_on(self, request_id: str | None = None) -> None:
        """What follows happens now; because of that call, or by Stripe itself."""
        self.now = int(self.world.now())
        self._request = request_id

    def wait(self, seconds: int) -> None:
        """Time passes on Stripe's clock, not by telling."""

    def emit(self, event_type: str, subject: Json, previous: "dict[str, object] | None" = None) -> Json:  # type: ignore[override]
        """As it happens."""
        sent = super().emit(event_type, subject, previous)
        self.world.webhooks.publish(sent)
        return sent

    def is_for(self, email: str, name: str) -> None:
        """Who pays is known only when they do."""
        self.p = replace(self.p, email=email, name=name)

    def subscribe(self, session: Json, customer_id: str) -> Json:
        """The subscription has an item for each recurring line."""
        made = subscription(self.p, self.ids, self.ids.draw("subscription"), customer_id, self.now)
        template = made["items"]["data"][0]
        recurring = [line for line in self.price.lines if line.interval]
        items = [self._item(template, line) for line in recurring]
        made["items"].update(data=items, total_count=len(items))
        made.update(plan=items[0]["plan"] if len(items) == 1 else None)
        made.update(quantity=items[0]["quantity"] if len(items) == 1 else None)
        session.update(subscription=made["id"], customer=customer_id)
        self.emit("customer.subscription.created", made)
        return made

    def _item(self, template: Json, line: Line) -> Json:
        interval, every = line.interval or ("month", 1)
        decimal = f"{line.unit.normalize():f}"
        whole = int(line.unit) if line.unit == int(line.unit) else None
        recurring = {**template["price"]["recurring"], "interval": interval, "interval_count": every}
        ids = {"id": self.ids.draw("price"), "product": self.ids.draw("product")}
        price = {
            **template["price"],
            **ids,
            "recurring": recurring,
            "unit_amount": whole,
            "unit_amount_decimal": decimal,
        }
        plan = {
            **template["plan"],
            **ids,
            "interval": interval,
            "interval_count": every,
            "amount": whole,
            "amount_decimal": decimal,
        }
        return {**template, "id": self.ids.draw("item"), "price": price, "plan": plan, "quantity": line.quantity}

    def bill(self, sub: Json, *, reason: str) -> Json:
        """The first invoice has every line, those that follow the recurring ones; drafted and finalized."""
        first = reason == "subscription_create"
        total = self.price.total if first else self.price.recurring
        bill = invoice(replace(self.p, amount=total), self.ids, self.ids.draw("invoice"), sub, self.now, reason=reason)
        lines = [line for line in self.price.lines if first or line.interval]
        subtotal = sum(line.amount for line in lines)
        template = bill["lines"]["data"][0]
        data = [self._bill_line(template, line) for line in lines]
        bill["lines"].update(data=data, total_count=len(data))
        bill.update(subtotal=subtotal, subtotal_excluding_tax=subtotal)
        if subtotal > total:
            bill["total_discount_amounts"] = [{"amount": subtotal - total, "discount": self.ids.draw("item")}]
        sub["latest_invoice"] = bill["id"]
        self.emit("invoice.created", bill)
        bill["status_transitions"]["finalized_at"] = self.now
        changes = {"status": "open", "effective_at": self.now, "ending_balance": 0, **finalised_links(bill["id"])}
        self.change("invoice.finalized", bill, **changes)
        return bill

    def _bill_line(self, template: Json, line: Line) -> Json:
        decimal = f"{line.unit.normalize():f}"
        return {
            **template,
            "id": self.ids.draw("line"),
            "amount": line.amount,
            "subtotal": line.amount,
            "description": line.name,
            "quantity": line.quantity,
            "pricing": {**template["pricing"], "unit_amount_decimal": decimal},
        }

    def free_bill_paid(self, bill: Json) -> None:
        """Nothing is due: the invoice is paid by being finalized."""
        bill["status_transitions"]["paid_at"] = self.now
        bill.update(status="paid", attempted=True)
        self.emit("invoice.paid", bill)
        self.emit("invoice.payment_succeeded", bill)

    def start(self, session: Json, method: str) -> Json:
        """The session's intent."""
        made = payment_intent(
            self.p,
            self.ids.draw("intent"),
            self.now,
            amount=session["amount_total"],
            method=method,
            customer_id=session["customer"],
        )
        session["payment_intent"] = made["id"]
        self.emit("payment_intent.created", made)
        return made
