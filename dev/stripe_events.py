"""Stripe's events as Stripe sends them: the envelope, the bytes, the signature.

Written after Stripe's documentation. Two payload shapes: today's, and the last one before 2025-03-31.basil moved the
fields that tie invoices, intents and charges to each other (facts of the move: Stripe's API changelog). Everything here
is a pure function of its arguments: the same seed always gives the same ids.
"""

import copy
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from typing import Any, Final, Literal

# An object of Stripe's, or one of its events: JSON as Python holds it.
Json = dict[str, Any]

# A payload shape, named after its API release.
Shape = Literal["endive", "acacia"]
SHAPES: Final[tuple[Shape, ...]] = ("endive", "acacia")
API_VERSIONS: Final[dict[Shape, str]] = {"endive": "2026-10-28.endive", "acacia": "2025-02-24.acacia"}

SIGNATURE_HEADER: Final = "Stripe-Signature"

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# What Stripe puts before the random part, and how long that is.
_FORMS: Final[dict[str, tuple[str, int]]] = {
    "event": ("evt_1", 23),
    "session": ("cs_test_a1", 56),
    "intent": ("pi_3", 23),
    "charge": ("ch_3", 23),
    "refund": ("re_3", 23),
    "dispute": ("du_1", 23),
    "transaction": ("txn_3", 23),
    "invoice": ("in_1", 23),
    "invoice_payment": ("inpay_1", 23),
    "line": ("il_1", 23),
    "subscription": ("sub_1", 23),
    "item": ("si_", 14),
    "price": ("price_1", 23),
    "product": ("prod_", 14),
    "method": ("pm_1", 23),
    "customer": ("cus_", 14),
    "request": ("req_", 14),
    "coupon": ("", 8),
    "account": ("acct_1", 15),
}


class Ids:
    """Ids as Stripe forms them, drawn one after the other from a seed."""

    def __init__(self, seed: int | str) -> None:
        self._seed = seed
        self._drawn = 0

    def draw(self, kind: str) -> str:
        """The next id of that kind (`event`, `session`, `intent`, …)."""
        self._drawn += 1
        prefix, length = _FORMS[kind]
        return prefix + token(f"{self._seed}/{self._drawn}/{kind}", length)


def token(text: str, length: int) -> str:
    """`length` letters and digits that depend on `text` alone."""
    number = int.from_bytes(hashlib.shake_256(text.encode()).digest(length), "big")
    letters = []
    for _ in range(length):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)


def event(
    event_id: str,
    event_type: str,
    subject: Json,
    *,
    created: int,
    shape: Shape = "endive",
    livemode: bool = False,
    account: str | None = None,
    previous: Json | None = None,
    request_id: str | None = None,
) -> Json:
    """An event about `subject` as it is now (the event keeps a copy). `account` only where a Connect endpoint gets it.

    Its `request` is null inside where `request_id` is None: Stripe did it by itself (renewals, settlements).
    """
    data: Json = {"object": copy.deepcopy(subject)}
    if previous is not None:
        data["previous_attributes"] = copy.deepcopy(previous)
    connect: Json = {} if account is None else {"account": account}
    # Only the newest releases name the context beside the account.
    context: Json = {"context": account} if account is not None and shape == "endive" else {}
    return {
        "id": event_id,
        "object": "event",
        **connect,
        "api_version": API_VERSIONS[shape],
        **context,
        "created": created,
        "data": data,
        "livemode": livemode,
        "pending_webhooks": 1,
        "request": {
            "id": request_id,
            "idempotency_key": None if request_id is None else f"key_{request_id.removeprefix('req_')}",
        },
        "type": event_type,
    }


def body(sent: Json) -> bytes:
    """The bytes that Stripe posts: pretty printed, UTF-8."""
    return json.dumps(sent, indent=2, ensure_ascii=False).encode()


def sign(payload: bytes, secret: str, at: float) -> str:
    """The `Stripe-Signature` header for `payload`, signed at Unix time `at` (as every delivery is, retries too)."""
    stamp = int(at)
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


def with_fresh_ids(events: Iterable[Json]) -> list[Json]:
    """The events, each with an id of its own: the first keeps what it has, repetitions of an id get a random one."""
    seen: set[str] = set()
    fresh = []
    for each in events:
        event_id = str(each.get("id"))
        if event_id in seen:
            event_id = f"evt_1{secrets.token_hex(12)}"
            each = {**each, "id": event_id}  # noqa: PLW2901 - the caller's stays as it is
        seen.add(event_id)
        fresh.append(each)
    return fresh
