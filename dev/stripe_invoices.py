"""Stripe's invoice of a subscription, and the invoice_payment that ties it to its intent."""

from typing import Any

from dev.stripe_events import Ids, Json, token
from dev.stripe_objects import Purchase
from dev.stripe_subscriptions import MONTH


def invoice(p: Purchase, ids: Ids, invoice_id: str, sub: Json, created: int, *, reason: str) -> Json:
    """A draft invoice of the subscription `sub`; `reason` is its billing_reason."""
    no_money = dict.fromkeys(("amount_shipping", "starting_balance"), 0)
    notes = dict.fromkeys(("post_payment_credit_notes_amount", "pre_payment_credit_notes_amount"), 0)
    return {
        "id": invoice_id,
        "object": "invoice",
        "account_country": "GB",
        "account_name": "Example Ltd",
        "account_tax_ids": None,
        "amount_due": p.amount,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": p.amount,
        **no_money,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": False,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "automatically_finalizes_at": None,
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": created,
        "currency": p.currency,
        "custom_fields": None,
        "customer": sub["customer"],
        "customer_address": None,
        "customer_email": p.email,
        "customer_name": p.name,
        "customer_phone": None,
        "customer_shipping": None,
        "customer_tax_exempt": "none",
        "customer_tax_ids": [],
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "lines": {
            "object": "list",
            "data": [_line(p, ids, invoice_id, sub, created)],
            "has_more": False,
            "total_count": 1,
            "url": f"/v1/invoices/{invoice_id}/lines",
        },
        "livemode": p.livemode,
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "on_behalf_of": None,
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": created,
        "period_start": created,
        **notes,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "statement_descriptor": None,
        "status": "draft",
        "status_transitions": dict.fromkeys(("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")),
        "subtotal": p.amount,
        "subtotal_excluding_tax": p.amount,
        "test_clock": None,
        "total": p.amount,
        "total_discount_amounts": [],
        "total_excluding_tax": p.amount,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": created,
        **_ties(p, sub),
    }


def _ties(p: Purchase, sub: Json) -> Json:
    """How an invoice names its subscription and copies its metadata: moved by 2025-03-31.basil."""
    copy: Json = {"metadata": dict(sub["metadata"])}
    if p.shape == "endive":
        details: Json = {**copy, "subscription": sub["id"]}
        return {
            "customer_account": None,
            "parent": {"quote_details": None, "subscription_details": details, "type": "subscription_details"},
        }
    gone: dict[str, Any] = dict.fromkeys(
        ("application_fee_amount", "charge", "discount", "payment_intent", "quote", "tax", "transfer_data")
    )
    return {
        **gone,
        "paid": False,
        "paid_out_of_band": False,
        "subscription": sub["id"],
        "subscription_details": copy,
        "total_tax_amounts": [],
    }


def _line(p: Purchase, ids: Ids, invoice_id: str, sub: Json, created: int) -> Json:
    item = sub["items"]["data"][0]
    of_item: Json = {
        "invoice_item": None,
        "proration": False,
        "proration_details": {"credited_items": None},
        "subscription": sub["id"],
        "subscription_item": item["id"],
    }
    parent = {
        "invoice_item_details": None,
        "subscription_item_details": of_item,
        "type": "subscription_item_details",
    }
    prices: Json = {"price": item["price"]["id"], "product": item["price"]["product"]}
    of_shape: Json = (
        {"quantity_decimal": "1", "subtotal": p.amount}
        if p.shape == "endive"
        else {
            "plan": item["plan"],
            "price": item["price"],
            "proration": False,
            "subscription": sub["id"],
            "subscription_item": item["id"],
            "tax_amounts": [],
            "tax_rates": [],
            "type": "subscription",
        }
    )
    return {
        "id": ids.draw("line"),
        "object": "line_item",
        "amount": p.amount,
        "currency": p.currency,
        "description": f"1 x Service (at {p.amount} {p.currency} minor units / month)",
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": invoice_id,
        "livemode": p.livemode,
        "metadata": dict(sub["metadata"]),
        "parent": parent,
        "period": {"end": created + MONTH, "start": created},
        "pretax_credit_amounts": [],
        "pricing": {"price_details": prices, "type": "price_details", "unit_amount_decimal": str(p.amount)},
        "quantity": 1,
        "taxes": [],
        **of_shape,
    }


def finalised_links(invoice_id: str) -> Json:
    """What finalisation adds: number and links (the hosted page's carries a token)."""
    page = f"acct_1{token('account', 15)}/test_{token(invoice_id, 110)}"
    return {
        "number": f"{token(f'{invoice_id}/number', 8).upper()}-0001",
        "hosted_invoice_url": f"https://invoice.stripe.com/i/{page}?s=ap",
        "invoice_pdf": f"https://pay.stripe.com/invoice/{page}/pdf?s=ap",
    }


def invoice_payment(p: Purchase, payment_id: str, invoice_id: str, intent: Json, created: int) -> Json:
    """The tie between an invoice and the intent that paid it, of 2025-03-31.basil and later."""
    return {
        "id": payment_id,
        "object": "invoice_payment",
        "amount_paid": intent["amount"],
        "amount_requested": intent["amount"],
        "created": created,
        "currency": p.currency,
        "invoice": invoice_id,
        "is_default": True,
        "livemode": p.livemode,
        "payment": {"payment_intent": intent["id"], "type": "payment_intent"},
        "status": "paid",
        "status_transitions": {"canceled_at": None, "paid_at": created},
    }
