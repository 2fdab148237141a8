"""The story of a quote, told step by step: each step changes Stripe's objects as Stripe would, and emits its events.

    story = Story(purchase("7"))
    session = story.open_session()
    intent = story.start_payment(session)
    charge = story.charge_succeeds(intent)
    story.complete(session, intent)
    story.events        # in causal order; Stripe promises no order of delivery

dev/lives.py tells whole lives with these steps; a test may tell any other.
"""

from collections.abc import Mapping

from dev.stripe_checkout import buyer_of, checkout_session
from dev.stripe_events import Ids, Json, event, token
from dev.stripe_objects import Purchase, charge, customer, payment_intent

DAY = 86_400


class Story:
    """Time, ids and the events so far. Objects are plain dicts, which the steps change in place."""

    def __init__(self, p: Purchase) -> None:
        self.p = p
        # Ids differ by account and mode too, as Stripe's do; whoever wants a clash makes it on purpose.
        self.ids = Ids(f"{p.seed}/{p.account}/{p.livemode}/{p.revision}")
        self.now = p.begins
        self.events: list[Json] = []
        self._request: str | None = self.ids.draw("request")

    def wait(self, seconds: int) -> None:
        """Let time pass. Stripe counts in whole seconds, so steps without a wait share one."""
        self.now += seconds

    def by_stripe(self) -> None:
        """From here on it is Stripe that acts, not a request of somebody's."""
        self._request = None

    def emit(self, event_type: str, subject: Json, previous: Mapping[str, object] | None = None) -> Json:
        """Add an event about `subject` as it is now."""
        sent = event(
            self.ids.draw("event"),
            event_type,
            subject,
            created=self.now,
            shape=self.p.shape,
            livemode=self.p.livemode,
            account=self.p.account,
            previous=None if previous is None else dict(previous),
            request_id=self._request,
        )
        self.events.append(sent)
        return sent

    def change(self, event_type: str, subject: Json, **values: object) -> Json:
        """Set fields of `subject` and emit that it changed, with what they were."""
        previous = {name: subject[name] for name in values if subject[name] != values[name]}
        subject.update(values)
        return self.emit(event_type, subject, previous)

    # Checkout --------------------------------------------------------------------------------------------------------

    def open_session(self, *, mode: str = "payment", amount: int | None = None, discount: int = 0) -> Json:
        """The buyer clicks Check out. Stripe sends no event for it."""
        return checkout_session(self.p, self.ids.draw("session"), self.now, mode=mode, amount=amount, discount=discount)

    def add_customer(self) -> Json:
        """A customer with the buyer's address comes to be."""
        made = customer(self.p, self.ids.draw("customer"), self.now)
        self.emit("customer.created", made)
        return made

    def complete(self, session: Json, intent: Json | None = None, *, payment_status: str = "paid") -> None:
        """The buyer is done: `checkout.session.completed`."""
        session.update(
            status="complete",
            payment_status=payment_status,
            customer_details=buyer_of(self.p),
            url=None,
        )
        if intent is not None:
            session["payment_intent"] = intent["id"]
        self.emit("checkout.session.completed", session)

    def expire(self, session: Json) -> None:
        """Nobody paid in time."""
        session.update(status="expired", url=None)
        self.emit("checkout.session.expired", session)

    def settle_session(self, session: Json, *, paid: bool) -> None:
        """A delayed payment of a complete session came through, or did not."""
        if paid:
            session["payment_status"] = "paid"
        self.emit(f"checkout.session.async_payment_{'succeeded' if paid else 'failed'}", session)

    # Payment ---------------------------------------------------------------------------------------------------------

    def start_payment(
        self,
        session: Json,
        *,
        method: str = "card",
        customer_id: str | None = None,
        manual: bool = False,
    ) -> Json:
        """An intent for what the session asks."""
        made = payment_intent(
            self.p,
            self.ids.draw("intent"),
            self.now,
            amount=session["amount_total"],
            method=method,
            customer_id=customer_id,
            manual=manual,
        )
        self.emit("payment_intent.created", made)
        return made

    def new_charge(self, intent: Json) -> Json:
        """A charge of the intent, pending; no event yet."""
        method_id = self.ids.draw("method")
        made = charge(self.p, self.ids.draw("charge"), self.now, intent, method_id)
        intent.update(latest_charge=made["id"], payment_method=method_id)
        return made

    def charge_succeeds(self, intent: Json, made: Json | None = None) -> Json:
        """Money: `charge.succeeded`, `payment_intent.succeeded`; a manual intent is only authorised."""
        made = made if made is not None else self.new_charge(intent)
        authorised = intent["capture_method"] == "manual"
        made.update(
            status="succeeded",
            paid=True,
            captured=not authorised,
            amount_captured=0 if authorised else made["amount"],
            outcome=_outcome("approved_by_network", "authorized", "Payment complete."),
        )
        self.emit("charge.succeeded", made)
        if authorised:
            intent.update(status="requires_capture", amount_capturable=intent["amount"])
            self.emit("payment_intent.amount_capturable_updated", intent)
        else:
            intent.update(status="succeeded", amount_received=intent["amount"])
            self.emit("payment_intent.succeeded", intent)
        return made

    def charge_fails(self, intent: Json, made: Json | None = None, *, code: str = "card_declined") -> Json:
        """The bank says no, or took it back: `charge.failed`, `payment_intent.payment_failed`."""
        made = made if made is not None else self.new_charge(intent)
        message = "Your card was declined." if code == "card_declined" else "The bank could not debit the account."
        made.update(
            status="failed",
            paid=False,
            failure_code=code,
            failure_message=message,
            outcome=_outcome("declined_by_network", "issuer_declined", message),
            receipt_url=None,
        )
        self.emit("charge.failed", made)
        intent.update(
            status="requires_payment_method",
            amount_received=0,
            last_payment_error={
                "charge": made["id"],
                "code": code,
                "decline_code": "generic_decline",
                "message": message,
                "type": "card_error",
            },
        )
        self.emit("payment_intent.payment_failed", intent)
        return made

    def charge_waits(self, intent: Json) -> Json:
        """A bank debit is under way: `charge.pending`, `payment_intent.processing`."""
        made = self.new_charge(intent)
        self.emit("charge.pending", made)
        intent["status"] = "processing"
        self.emit("payment_intent.processing", intent)
        return made

    def book(self, made: Json) -> None:
        """The balance transaction of an asynchronous capture: `charge.updated`, seconds later."""
        self.change("charge.updated", made, balance_transaction=self.ids.draw("transaction"))

    def capture(self, intent: Json, made: Json, amount: int | None = None) -> None:
        """Capture an authorisation, or a part; Stripe counts what it releases as `amount_refunded`."""
        part = made["amount"] if amount is None else amount
        self.change(
            "charge.captured",
            made,
            captured=True,
            amount_captured=part,
            amount_refunded=made["amount"] - part,
            balance_transaction=self.ids.draw("transaction"),
        )
        intent.update(status="succeeded", amount_received=part, amount_capturable=0)
        self.emit("payment_intent.succeeded", intent)


def _outcome(network_status: str, kind: str, message: str) -> Json:
    advice = dict.fromkeys(("advice_code", "network_advice_code", "network_decline_code", "reason"))
    risk: Json = {"risk_level": "normal", "risk_score": 10 + len(token(message, 9))}
    return {**advice, "network_status": network_status, **risk, "seller_message": message, "type": kind}
