"""Is this request from Stripe, and from now? Stripe's own library compares; the guards it lacks stand around it.

The library (16.1) accepts any time in the future, checks no age unless told to, takes the first of several `t`, and
raises errors of other kinds on what is not text. Only scheme `v1` counts.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal

from stripe import SignatureVerificationError, WebhookSignature

Reason = Literal[
    "no_signature",
    "malformed_signature",
    "stale_signature",
    "future_signature",
    "wrong_signature",
    "body_not_utf8",
]

TOLERANCE: Final = 300  # seconds, both ways; each of Stripe's own retries is signed anew
MAX_HEADER: Final = 1024  # characters; one signature takes 68, and Stripe signs with each live secret
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")


class BadSignature(Exception):
    """Not signed by Stripe with one of our secrets, or not now."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


def check_header(values: Sequence[str], now: float) -> str:
    """The one `Stripe-Signature` header of `values`, well formed and of a time around `now` (Unix seconds).

    It is cheap, and needs no body: what fails here is refused before anything is read. Raises BadSignature.
    """
    if not values:
        raise BadSignature("no_signature")
    header = values[0]
    if len(values) > 1 or len(header) > MAX_HEADER or not header.isascii():
        raise BadSignature("malformed_signature")
    stamps = [item[2:] for item in header.split(",") if item.startswith("t=")]
    if len(stamps) != 1 or not _TIMESTAMP.fullmatch(stamps[0]):
        raise BadSignature("malformed_signature")
    age = now - int(stamps[0])
    if age > TOLERANCE:
        raise BadSignature("stale_signature")
    if age < -TOLERANCE:
        raise BadSignature("future_signature")
    return header


def verify(body: bytes, header: str, secrets: Sequence[str]) -> None:
    """Raise BadSignature unless `header`, as check_header left it, signs `body` with any of `secrets`."""
    try:
        text = body.decode()  # once: the library would for every secret, and let the error through
    except UnicodeDecodeError:
        raise BadSignature("body_not_utf8") from None
    if not any(_signs(text, header, secret) for secret in secrets):
        raise BadSignature("wrong_signature")


def _signs(text: str, header: str, secret: str) -> bool:
    try:
        # No tolerance here: the library's looks at the past alone, and a body that arrives slowly is not stale.
        return bool(WebhookSignature.verify_header(text, header, secret, tolerance=None))
    except SignatureVerificationError:
        return False
