"""A quote's content and totals as JSON: what is stored, what is compared, what the API answers. Pure."""

import hashlib
import json
from decimal import Decimal
from typing import Any

from quittance.domain.currencies import exponent
from quittance.domain.publishing.content import Content, LineItem, Share
from quittance.domain.publishing.faults import Fault
from quittance.domain.publishing.totals import Totals


def content_json(content: Content) -> dict[str, Any]:
    """The content in the form in which it was sent, so that `read_content` reads it back.

    What is absent or empty is left out: a field that a later version adds does not turn what was published before it
    into other content. A term is left out too: it has no meaning where it is not refused (R25).
    """
    return _present(
        {
            "number": content.number,
            "title": content.title,
            "currency": content.currency,
            "locale": content.locale,
            "time_zone": content.time_zone,
            "expires_on": None if content.expires_on is None else content.expires_on.isoformat(),
            "payment_enabled": content.payment_enabled,
            "owner": _present({"name": content.owner_name, "email": content.owner_email}),
            "contact": _present(
                {
                    "first_name": content.contact_first_name,
                    "last_name": content.contact_last_name,
                    "email": content.contact_email,
                    "country": content.contact_country,
                }
            ),
            "company": _present({"name": content.company_name}),
            "deal_id": content.deal_id,
            "line_items": [_line(line) for line in content.line_items],
            "discounts": [_share(share) | {"duration": share.duration} for share in content.discounts],
            "fees": [_share(share) for share in content.fees],
            "taxes": [_share(share) for share in content.taxes],
        }
    )


def content_hash(content: Content) -> bytes:
    """SHA-256 of the content's canonical JSON: neither the order of fields nor blanks nor `10.0` for `10` make it another."""
    canonical = json.dumps(content_json(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).digest()


def totals_json(content: Content, totals: Totals) -> dict[str, Any]:
    """The totals, in minor units: of the first purchase, and of each period after it."""
    frequency = next((line.billing_frequency for line in content.line_items if line.billing_frequency), None)
    return {
        "currency": content.currency,
        "exponent": exponent(content.currency),
        "lines": list(totals.nets),
        "subtotal": totals.subtotal,
        "discount": totals.discount,
        "fees": list(totals.fees),
        "taxes": list(totals.taxes),
        "due": totals.due,
        "recurring": totals.recurring,
        "recurring_discount": totals.recurring_discount,
        "billing_frequency": frequency,
    }


def fault_json(fault: Fault) -> dict[str, Any]:
    """A fault or a warning as the API tells it; `line` counts from 1 and is null for the quote as a whole."""
    return {
        "rule": fault.rule,
        "line": fault.line,
        "code": fault.code,
        "message": fault.message,
        "given": fault.given,
        "allowed": fault.allowed,
    }


def _line(line: LineItem) -> dict[str, Any]:
    return _present(
        {
            "name": line.name,
            "description": line.description,
            "quantity": line.quantity,
            "unit_amount": line.unit_amount,
            "discount": None if line.discount is None else _share(line.discount),
            "billing_frequency": line.billing_frequency,
        }
    )


def _share(share: Share) -> dict[str, Any]:
    percent = None if share.percent is None else _plain(share.percent)
    return _present({"name": share.name, "percent": percent, "amount": share.amount})


def _plain(percent: Decimal) -> str:
    return format(percent.normalize(), "f")


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, [], {})}
