"""Stripe's objects around a payment: the Checkout session before it, refunds and disputes after it."""

from typing import Any

from dev.stripe_events import Json, token
from dev.stripe_objects import Purchase


def checkout_session(
    p: Purchase,
    session_id: str,
    created: int,
    *,
    mode: str = "payment",
    amount: int | None = None,
    discount: int = 0,
    payment_link: str | None = None,
) -> Json:
    """An open session of `p`; `amount` (p's unless given) is what is to be paid after `discount`."""
    total = p.amount if amount is None else amount
    return {
        "id": session_id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": True},
        "after_expiration": None,
        "allow_promotion_codes": None,
        "amount_subtotal": total + discount,
        "amount_total": total,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": None,
        "cancel_url": "https://quotes.example.com/q/cancelled",
        "client_reference_id": p.quote_id if "reference" in p.carriers else None,
        "client_secret": None,
        "collected_information": {"shipping_details": None},
        "consent": None,
        "consent_collection": None,
        "created": created,
        "currency": p.currency,
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer": None,
        "customer_creation": "if_required" if mode == "payment" else "always",
        "customer_details": None,
        "customer_email": None,
        "discounts": [],
        "expires_at": created + 86_400,
        "invoice": None,
        "invoice_creation": _no_invoice() if mode == "payment" else None,
        "livemode": p.livemode,
        "locale": None,
        "metadata": p.metadata_of("metadata"),
        "mode": mode,
        "payment_intent": None,
        "payment_link": payment_link,
        "payment_method_collection": "if_required" if mode == "payment" else "always",
        "payment_method_configuration_details": {"id": f"pmc_1{token('configuration', 23)}", "parent": None},
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card", "link", "sepa_debit"],
        "payment_status": "unpaid",
        "permissions": None,
        "phone_number_collection": {"enabled": False},
        "recovered_from": None,
        "saved_payment_method_options": {
            "allow_redisplay_filters": ["always"],
            "payment_method_remove": "disabled",
            "payment_method_save": None,
        },
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": None,
        "subscription": None,
        "success_url": "https://quotes.example.com/q/paid?session={CHECKOUT_SESSION_ID}",
        "total_details": {"amount_discount": discount, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted",
        "url": f"https://checkout.stripe.com/c/pay/{session_id}",
        **_of_shape(p),
    }


def _of_shape(p: Purchase) -> Json:
    if p.shape == "acacia":
        return {"shipping_details": None}
    return {
        "branding_settings": {
            "background_color": "#ffffff",
            "border_style": "rounded",
            "button_color": "#0074d4",
            "display_name": "Example",
            "font_family": "default",
            "icon": None,
            "logo": None,
        },
        "collected_information": {"business_name": None, "individual_name": None, "shipping_details": None},
        "customer_account": None,
        "integration_identifier": None,
        "managed_payments": {"enabled": False},
        "origin_context": None,
        "presentment_details": None,
        "ui_mode": "hosted_page",
        "wallet_options": None,
    }


def _no_invoice() -> Json:
    data = dict.fromkeys(("account_tax_ids", "custom_fields", "description", "footer", "issuer", "rendering_options"))
    return {"enabled": False, "invoice_data": {**data, "metadata": {}}}


def buyer_of(p: Purchase) -> Json:
    """The `customer_details` of a session once the buyer has filled it in."""
    details: Json = {
        "address": {
            "city": None,
            "country": "GB",
            "line1": None,
            "line2": None,
            "postal_code": "SW1A 1AA",
            "state": None,
        },
        "email": p.email,
        "name": p.name,
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": [],
    }
    if p.shape == "endive":
        details |= {"business_name": None, "individual_name": None}
    return details


def refund(
    p: Purchase,
    refund_id: str,
    created: int,
    charge: Json,
    amount: int,
    *,
    status: str,
    transaction_id: str,
) -> Json:
    """A refund of `amount` minor units of `charge`."""
    newer: Json = {"customer": charge["customer"], "customer_account": None, "payment_method": charge["payment_method"]}
    destination: dict[str, Any] = {
        "card": {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"},
        "type": "card",
    }
    return {
        "id": refund_id,
        "object": "refund",
        "amount": amount,
        "balance_transaction": transaction_id,
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "destination_details": destination,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "reason": "requested_by_customer",
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": status,
        "transfer_reversal": None,
        **(newer if p.shape == "endive" else {}),
    }


EVIDENCE = [
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
]


def dispute(dispute_id: str, created: int, charge: Json, amount: int, *, status: str, livemode: bool) -> Json:
    """A dispute about `amount` of `charge`; an inquiry (`warning_…`) moves no money."""
    inquiry = status.startswith("warning_")
    card = {
        "brand": "visa",
        "case_type": "inquiry" if inquiry else "chargeback",
        "network": "visa",
        "network_reason_code": "13.1",
    }
    return {
        "id": dispute_id,
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [],
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": created + 14 * 86_400,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": inquiry,
        "livemode": livemode,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {"card": card, "type": "card"},
        "reason": "product_not_received",
        "status": status,
    }
