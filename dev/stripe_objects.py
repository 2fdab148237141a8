"""Whom a life is about, and the objects of a payment: customer, intent, charge.

Every field that Stripe sends is there, so that sizes and nesting are those of real payloads. Functions, each returning
a new object; the story of a quote (dev/story.py) changes them as time passes.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from dev.stripe_events import Json, Shape, token

# Where a checkout says which quote it is for (RULES S1). `object` is the metadata of the intent or the subscription.
Carrier = Literal["metadata", "reference", "object"]
ALL_CARRIERS: Final[frozenset[Carrier]] = frozenset({"metadata", "reference", "object"})

NO_ADDRESS: Final = {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None}
RECEIPTS: Final = "https://pay.stripe.com/receipts"


@dataclass(frozen=True, kw_only=True)
class Purchase:
    """What a life is about: the quote, who pays for it, where, and in which payload shape. Amounts in minor units."""

    seed: int | str
    quote_id: str
    email: str
    name: str
    amount: int
    begins: int  # Unix seconds of the first event
    currency: str = "usd"
    revision: int = 1
    shape: Shape = "endive"
    account: str | None = None
    livemode: bool = False
    owner_email: str | None = "seller@example.com"
    carriers: frozenset[Carrier] = ALL_CARRIERS
    guest: bool = True  # a one-time payment without a Stripe customer, which is what Checkout does unless told
    metadata: dict[str, str] = field(default_factory=dict)  # beside ours

    def metadata_of_quote(self) -> dict[str, str]:
        """What a session and its intent or subscription say of the quote."""
        owner = {} if self.owner_email is None else {"owner_email": self.owner_email}
        return {"quote_id": self.quote_id, "quote_revision": str(self.revision), **owner, **self.metadata}

    def metadata_of(self, carrier: Carrier) -> dict[str, str]:
        """The metadata of the session (`metadata`) or of the intent or subscription (`object`)."""
        return self.metadata_of_quote() if carrier in self.carriers else dict(self.metadata)


def purchase(
    seed: int | str,
    *,
    shape: Shape = "endive",
    begins: int = 1_790_000_000,
    **given: Any,
) -> Purchase:
    """A purchase whose details follow from `seed`; `given` names the fields of Purchase that matter to the caller."""
    text = token(f"{seed}/buyer", 6).lower()
    details: dict[str, Any] = {
        "quote_id": f"Q-{seed}",
        "email": f"buyer-{text}@example.com",
        "name": f"Buyer {text.title()}",
        "amount": 1_000 + int.from_bytes(token(f"{seed}/amount", 2).encode(), "big"),
    }
    return Purchase(seed=seed, shape=shape, begins=begins, **{**details, **given})


def customer(p: Purchase, customer_id: str, created: int) -> Json:
    """A customer with the buyer's address."""
    return {
        "id": customer_id,
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": created,
        "currency": None,
        **({"customer_account": None} if p.shape == "endive" else {}),
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": p.email,
        "invoice_prefix": token(f"{customer_id}/prefix", 8).upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": p.livemode,
        "metadata": {},
        "name": p.name,
        "phone": None,
        "preferred_locales": ["en-GB"],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }


def payment_intent(
    p: Purchase,
    intent_id: str,
    created: int,
    *,
    amount: int,
    method: str = "card",
    customer_id: str | None = None,
    invoice_id: str | None = None,
    manual: bool = False,
) -> Json:
    """An intent that waits for a payment method. One of an invoice carries no metadata: Stripe does not copy it."""
    options: Json = {"request_three_d_secure": "automatic"} if method == "card" else {}
    of_shape: Json
    if p.shape == "endive":
        of_shape = {
            "customer_account": None,
            "excluded_payment_method_types": None,
            "payment_details": {"customer_reference": None, "order_reference": invoice_id},
        }
    else:
        of_shape = {"invoice": invoice_id}
    return {
        "id": intent_id,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "manual" if manual else "automatic_async",
        "client_secret": f"{intent_id}_secret_{token(intent_id, 25)}",
        "confirmation_method": "automatic",
        "created": created,
        "currency": p.currency,
        "customer": customer_id,
        "description": None if invoice_id is None else "Subscription creation",
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": p.livemode,
        "metadata": p.metadata_of("object") if invoice_id is None else {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {
            method: {"installments": None, "mandate_options": None, "network": None, **options},
        },
        "payment_method_types": [method],
        "processing": None,
        "receipt_email": None,
        "review": None,
        "setup_future_usage": None if invoice_id is None else "off_session",
        "shipping": None,
        "source": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
        **of_shape,
    }


def charge(p: Purchase, charge_id: str, created: int, intent: Json, method_id: str) -> Json:
    """A charge of `intent`, pending; its metadata are the intent's, as Stripe copies them when it is made."""
    invoice_id = _invoice_of(intent)
    of_shape: Json = {} if p.shape == "endive" else {"invoice": invoice_id}
    place = "payment" if invoice_id is None else "invoices"
    return {
        "id": charge_id,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        # The cardholder, who need not be the customer: RULES has nobody take an address from here.
        "billing_details": {
            "address": {**NO_ADDRESS, "country": "GB", "postal_code": "SW1A 1AA"},
            "email": f"card.{p.email}",
            "name": "C. Ardholder",
            "phone": None,
            "tax_id": None,
        },
        "calculated_statement_descriptor": "EXAMPLE.COM",
        "captured": False,
        "created": created,
        "currency": p.currency,
        "customer": intent["customer"],
        "description": intent["description"],
        "destination": None,
        "dispute": None,
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": p.livemode,
        "metadata": dict(intent["metadata"]),
        "on_behalf_of": None,
        "order": None,
        "outcome": None,
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": method_id,
        "payment_method_details": _method_details(intent["payment_method_types"][0], intent["amount"], charge_id),
        "radar_options": {},
        "receipt_email": None,
        "receipt_number": None,
        "receipt_url": f"{RECEIPTS}/{place}/{token(charge_id, 132)}?s=ap",
        "refunded": False,
        "review": None,
        "shipping": None,
        "source": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "pending",
        "transfer_data": None,
        "transfer_group": None,
        **of_shape,
    }


def _invoice_of(intent: Json) -> str | None:
    if "invoice" in intent:
        found = intent["invoice"]
    else:
        found = intent["payment_details"]["order_reference"]
    return None if found is None else str(found)


def _method_details(method: str, amount: int, charge_id: str) -> Json:
    if method != "card":
        return {
            method: {
                "bank_code": "37040044",
                "branch_code": "",
                "country": "DE",
                "fingerprint": token(f"{charge_id}/bank", 16),
                "last4": "3000",
                "mandate": f"mandate_1{token(f'{charge_id}/mandate', 23)}",
            },
            "type": method,
        }
    return {
        "card": {
            "amount_authorized": amount,
            "authorization_code": "472019",
            "brand": "visa",
            "checks": {"address_line1_check": None, "address_postal_code_check": "pass", "cvc_check": "pass"},
            "country": "GB",
            "exp_month": 4,
            "exp_year": 2031,
            "extended_authorization": {"status": "disabled"},
            "fingerprint": token(f"{charge_id}/card", 16),
            "funding": "credit",
            "incremental_authorization": {"status": "unavailable"},
            "installments": None,
            "last4": "4242",
            "mandate": None,
            "multicapture": {"status": "unavailable"},
            "network": "visa",
            "network_token": {"used": False},
            "network_transaction_id": "105102104705511",
            "overcapture": {"maximum_amount_capturable": amount, "status": "unavailable"},
            "regulated_status": "unregulated",
            "three_d_secure": None,
            "wallet": None,
        },
        "type": "card",
    }
