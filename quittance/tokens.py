"""Tokens of the quotes API: who may do what, for which account and mode. Made by `quittance tokens`, checked by `web`.

A token is 256 random bits in base64 after a prefix that people, and scanners for leaked secrets, know it by. Only its
SHA-256 is kept: with that much chance in it, a slow hash would protect nothing more.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from typing import Final, Literal, get_args

Permission = Literal["publish", "read", "connect", "operate"]
PERMISSIONS: Final[tuple[Permission, ...]] = get_args(Permission)

TOKEN: Final = re.compile(r"qtn_(?:live|test)_[A-Za-z0-9_-]{43}")
SHOWN: Final = 13  # characters of a token that are kept to recognise it by: the prefix and 24 of the 256 bits


def new_token(livemode: bool) -> str:
    """A token: `qtn_live_…` or `qtn_test_…`."""
    return f"qtn_{'live' if livemode else 'test'}_{secrets.token_urlsafe(32)}"


def hash_in(values: Sequence[object]) -> bytes | None:
    """The hash of the token in a header `authorization: Bearer qtn_…`; None where that came not once, or not well formed."""
    if len(values) != 1 or not isinstance(values[0], str):
        return None
    scheme, _, token = values[0].partition(" ")
    token = token.strip()
    return token_hash(token) if scheme.lower() == "bearer" and TOKEN.fullmatch(token) else None


def token_hash(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
