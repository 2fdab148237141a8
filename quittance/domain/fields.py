"""Which fields of Stripe's objects the facts are read from: the rest need not be decoded (quittance/reading.py)."""

from typing import Final

# Every field of an object, and of what it was before, that is read in facts.py or claims.py.
FIELDS: Final = (
    "id object status created currency metadata mode payment_status amount_total customer customer_details customer_email "
    "client_reference_id payment_link payment_intent invoice subscription amount latest_charge payment_details charges "
    "paid captured amount_captured amount_refunded refunds charge total billing_reason parent subscription_details "
    "payments payment latest_invoice"
).split()
LATE_FIELDS: Final = ("lines",)
PREVIOUS_FIELDS: Final = ("status",)
