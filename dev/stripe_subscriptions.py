"""Stripe's subscription, monthly, with one item."""

from dev.stripe_events import Ids, Json
from dev.stripe_objects import Purchase

MONTH = 30 * 86_400


def subscription(p: Purchase, ids: Ids, subscription_id: str, customer_id: str, created: int) -> Json:
    """A monthly subscription, incomplete until its first invoice is paid; the quote's id in its metadata."""
    period = {"current_period_start": created, "current_period_end": created + MONTH}
    plan, price = _plan_and_price(p, ids, created)
    item: Json = {
        "id": ids.draw("item"),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": created,
        "discounts": [],
        "metadata": {},
        "plan": plan,
        "price": price,
        "quantity": 1,
        "subscription": subscription_id,
        "tax_rates": [],
    }
    of_shape: Json = (
        {
            "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible"},
            "billing_schedules": [],
            "customer_account": None,
            "managed_payments": {"enabled": False},
        }
        if p.shape == "endive"
        else {**period, "discount": None}
    )
    if p.shape == "endive":
        item |= period
    return {
        "id": subscription_id,
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": created,
        "billing_cycle_anchor_config": None,
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": created,
        "currency": p.currency,
        "customer": customer_id,
        "days_until_due": None,
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "items": {
            "object": "list",
            "data": [item],
            "has_more": False,
            "total_count": 1,
            "url": f"/v1/subscription_items?subscription={subscription_id}",
        },
        "latest_invoice": None,
        "livemode": p.livemode,
        "metadata": p.metadata_of("object"),
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "plan": plan,
        "quantity": 1,
        "schedule": None,
        "start_date": created,
        "status": "incomplete",
        "test_clock": None,
        "transfer_data": None,
        "trial_end": None,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": None,
        **of_shape,
    }


def _plan_and_price(p: Purchase, ids: Ids, created: int) -> tuple[Json, Json]:
    price_id, product_id = ids.draw("price"), ids.draw("product")
    common: Json = {
        "active": True,
        "billing_scheme": "per_unit",
        "created": created,
        "currency": p.currency,
        "livemode": p.livemode,
        "metadata": {},
        "nickname": None,
        "product": product_id,
        "tiers_mode": None,
    }
    repeats: Json = {
        "interval": "month",
        "interval_count": 1,
        "meter": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }
    amount = str(p.amount)
    plan = {"id": price_id, "object": "plan", **common, **repeats, "amount": p.amount, "amount_decimal": amount}
    price = {
        "id": price_id,
        "object": "price",
        **common,
        "custom_unit_amount": None,
        "lookup_key": None,
        "recurring": repeats,
        "tax_behavior": "unspecified",
        "transform_quantity": None,
        "type": "recurring",
        "unit_amount": p.amount,
        "unit_amount_decimal": amount,
    }
    return {**plan, "transform_usage": None}, price
