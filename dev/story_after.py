"""What may follow a payment: refunds, disputes, and the recurring part of a quote's story."""

from typing import Literal

from dev.story import DAY, Story
from dev.stripe_checkout import dispute, refund
from dev.stripe_events import Json
from dev.stripe_invoices import finalised_links, invoice, invoice_payment
from dev.stripe_objects import Purchase, payment_intent
from dev.stripe_subscriptions import MONTH, subscription

# Which events an account sends about refunds: accounts differ by what their endpoint is subscribed to.
RefundEvents = Literal["all", "charge_only", "refund_only"]


class FullStory(Story):
    """A Story with everything that may happen after the first payment."""

    def __init__(self, p: Purchase, *, refund_events: RefundEvents = "all") -> None:
        super().__init__(p)
        self.refund_events = refund_events

    # Refunds ---------------------------------------------------------------------------------------------------------

    def refund(self, made: Json, amount: int | None = None, *, status: str = "succeeded", inside: bool = False) -> Json:
        """Refund `amount` (all that is left) of a charge.

        `inside` puts the refund into `charge.refunds`, as API versions before 2022-11-15 did.
        """
        part = made["amount_captured"] - made["amount_refunded"] if amount is None else amount
        back = refund(
            self.p,
            self.ids.draw("refund"),
            self.now,
            made,
            part,
            status=status,
            transaction_id=self.ids.draw("transaction"),
        )
        if self.refund_events != "charge_only":
            self.emit("refund.created", back)
        previous = {"amount_refunded": made["amount_refunded"], "refunded": made["refunded"]}
        made["amount_refunded"] += part
        made["refunded"] = made["amount_refunded"] >= made["amount_captured"]
        if inside:
            held = made.setdefault("refunds", {"object": "list", "data": [], "has_more": False, "total_count": 0})
            held["data"] = [back, *held["data"]]
            held["total_count"] += 1
        if self.refund_events != "refund_only":
            self.emit("charge.refunded", made, previous)
        return back

    def refund_becomes(self, back: Json, made: Json, status: str) -> None:
        """A refund settles, is canceled or fails; what did not arrive counts no longer on the charge."""
        previous = {"status": back["status"]}
        back["status"] = status
        if status in ("failed", "canceled"):
            made["amount_refunded"] -= back["amount"]
            made["refunded"] = False
        if status == "failed":
            back["failure_reason"] = "expired_or_canceled_card"
        if self.refund_events != "charge_only":
            self.emit("refund.updated", back, previous)
            self.emit("charge.refund.updated", back, previous)
            if status == "failed":
                self.emit("refund.failed", back, previous)

    # Disputes --------------------------------------------------------------------------------------------------------

    def open_dispute(self, made: Json, amount: int | None = None, *, inquiry: bool = False) -> Json:
        """The buyer's bank asks (inquiry) or takes the money back until it is decided."""
        found = dispute(
            self.ids.draw("dispute"),
            self.now,
            made,
            made["amount_captured"] if amount is None else amount,
            status="warning_needs_response" if inquiry else "needs_response",
            livemode=self.p.livemode,
        )
        self.emit("charge.dispute.created", found)
        if not inquiry:
            made["disputed"] = True
            self.emit("charge.dispute.funds_withdrawn", found)
        return found

    def answer_dispute(self, found: Json) -> None:
        """Evidence is handed in."""
        inquiry = found["status"].startswith("warning_")
        found["evidence_details"]["has_evidence"] = True
        self.change("charge.dispute.updated", found, status="warning_under_review" if inquiry else "under_review")

    def close_dispute(self, found: Json, status: str) -> None:
        """The end: won, lost or warning_closed."""
        found["status"] = status
        self.emit("charge.dispute.closed", found)
        if status == "won":
            self.emit("charge.dispute.funds_reinstated", found)

    # Subscriptions ---------------------------------------------------------------------------------------------------

    def subscribe(self, session: Json, customer_id: str) -> Json:
        """The session's subscription, incomplete until its first invoice is paid."""
        made = subscription(self.p, self.ids, self.ids.draw("subscription"), customer_id, self.now)
        session.update(subscription=made["id"], customer=customer_id)
        self.emit("customer.subscription.created", made)
        return made

    def bill(self, sub: Json, *, reason: str) -> Json:
        """An invoice of the subscription, drafted and finalized."""
        bill = invoice(self.p, self.ids, self.ids.draw("invoice"), sub, self.now, reason=reason)
        sub["latest_invoice"] = bill["id"]
        self.emit("invoice.created", bill)
        bill["status_transitions"]["finalized_at"] = self.now
        self.change(
            "invoice.finalized",
            bill,
            status="open",
            effective_at=self.now,
            ending_balance=0,
            **finalised_links(bill["id"]),
        )
        return bill

    def bill_intent(self, bill: Json) -> Json:
        """The intent of an invoice; in the old shape each names the other."""
        made = payment_intent(
            self.p,
            self.ids.draw("intent"),
            self.now,
            amount=bill["amount_due"],
            customer_id=bill["customer"],
            invoice_id=bill["id"],
        )
        if self.p.shape == "acacia":
            bill["payment_intent"] = made["id"]
        self.emit("payment_intent.created", made)
        return made

    def bill_paid(self, bill: Json, intent: Json, made: Json | None = None) -> Json:
        """The invoice's charge (a new one, or that which was pending) succeeds and the invoice is paid; the charge."""
        made = self.charge_succeeds(intent, made)
        bill["status_transitions"]["paid_at"] = self.now
        bill.update(
            status="paid",
            attempted=True,
            attempt_count=bill["attempt_count"] + 1,
            amount_paid=bill["amount_due"],
            amount_remaining=0,
        )
        if self.p.shape == "acacia":
            bill.update(paid=True, charge=made["id"])
        else:
            tie = invoice_payment(self.p, self.ids.draw("invoice_payment"), bill["id"], intent, self.now)
            self.emit("invoice_payment.paid", tie)
        self.emit("invoice.paid", bill)
        self.emit("invoice.payment_succeeded", bill)
        return made

    def bill_declined(self, bill: Json, intent: Json) -> None:
        """A renewal's charge is declined; Stripe will try again."""
        self.charge_fails(intent)
        bill.update(
            attempted=True,
            attempt_count=bill["attempt_count"] + 1,
            next_payment_attempt=self.now + 3 * DAY,
        )
        self.emit("invoice.payment_failed", bill)

    def renew(self, sub: Json, *, paid: bool = True) -> None:
        """A month later: the period moves, the next invoice is paid, or declined and the subscription past due."""
        self.wait(MONTH)
        self.by_stripe()
        period = {"current_period_start": self.now, "current_period_end": self.now + MONTH}
        holder = sub if self.p.shape == "acacia" else sub["items"]["data"][0]
        previous = {name: holder[name] for name in period}
        holder.update(period)
        self.emit(
            "customer.subscription.updated",
            sub,
            previous if self.p.shape == "acacia" else {"items": {"data": [previous]}},
        )
        bill = self.bill(sub, reason="subscription_cycle")
        self.wait(3_600)
        intent = self.bill_intent(bill)
        if paid:
            self.bill_paid(bill, intent)
        else:
            self.bill_declined(bill, intent)
            self.change("customer.subscription.updated", sub, status="past_due")

    def cancel(self, sub: Json) -> None:
        """By hand, in Stripe: the only way a subscription ends (R29)."""
        sub["cancellation_details"]["reason"] = "cancellation_requested"
        sub.update(status="canceled", canceled_at=self.now, ended_at=self.now)
        self.emit("customer.subscription.deleted", sub)
