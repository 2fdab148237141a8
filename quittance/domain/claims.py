"""Whose fact it is (RULES S1): which quote an object says that it belongs to."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from quittance.domain.payload import StripeObject, at, items, text

# A quote id is a key of ours: bounded, so that no payload makes a row that cannot be indexed.
LONGEST_QUOTE_ID: Final = 255


class Claim(NamedTuple):
    """The quote that an object names, of which revision, and how."""

    quote_id: str
    revision: int
    from_metadata: bool
    conflict: bool  # metadata and client_reference_id name different quotes: metadata wins
    checkout_key: str | None
    owner_email: str | None


def claim_of(obj: StripeObject) -> Claim | None:
    """The claim of a session, payment intent, subscription, invoice or charge; None where it names no quote.

    A session made by a payment link is not believed its `client_reference_id`: the buyer can put anything into the
    link's address.
    """
    reference = None if at(obj, "payment_link") else _quote_id(text(obj, "client_reference_id"))
    for metadata in _metadata(obj):
        quote_id = _quote_id(text(metadata, "quote_id"))
        if quote_id is not None:
            conflict = reference is not None and reference != quote_id
            return _claim(quote_id, metadata, from_metadata=True, conflict=conflict)
    if reference is None:
        return None
    own = next(iter(_metadata(obj)), {})
    return _claim(reference, own, from_metadata=False, conflict=False)


def adopted(claim: Claim, *, enabled: bool, pattern: re.Pattern[str]) -> bool:
    """Whether a claim on a quote that was not published here makes it ours (ADOPT_UNPUBLISHED, QUOTE_ID_PATTERN)."""
    return enabled and (claim.from_metadata or pattern.search(claim.quote_id) is not None)


def _metadata(obj: StripeObject) -> Iterator[StripeObject]:
    """Where an object carries metadata of its own, or an invoice its copy of the subscription's, nearest first."""
    homes = (
        at(obj, "metadata"),
        at(obj, "parent", "subscription_details", "metadata"),  # invoice, from 2025-03-31.basil
        at(obj, "subscription_details", "metadata"),  # invoice, before
    )
    yield from (home for home in homes if isinstance(home, dict))
    if at(obj, "object") == "invoice":  # before 2023 the copy stood only on the invoice's lines
        lines = (line for line in items(obj, "lines") if at(line, "type") == "subscription")
        yield from (home for line in lines if isinstance(home := at(line, "metadata"), dict))


def _claim(quote_id: str, metadata: StripeObject, *, from_metadata: bool, conflict: bool) -> Claim:
    return Claim(
        quote_id=quote_id,
        revision=_revision(at(metadata, "quote_revision")),
        from_metadata=from_metadata,
        conflict=conflict,
        checkout_key=text(metadata, "quote_checkout_key"),
        owner_email=text(metadata, "owner_email"),
    )


def _quote_id(value: str | None) -> str | None:
    return value if value is not None and len(value.encode()) <= LONGEST_QUOTE_ID else None


def _revision(value: object) -> int:
    """`metadata.quote_revision`, else 1: metadata values are text, and a merchant's own may be anything."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return max(1, int(value))
    return 1
