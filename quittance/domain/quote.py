"""What is known of a quote beside its Stripe objects: publications, recalls, expiries, customers, documents.

Like `tracked.merge`, `told` is commutative, associative and idempotent: each thing kept is a maximum.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from quittance.domain.payload import StripeObject, at, minor_units, seconds, storable, text
from quittance.errors import Rejected

LONGEST_TEXT: Final = 2_000


class Publication(msgspec.Struct, frozen=True, omit_defaults=True):
    """One revision of a quote, as published here; `amount_due` in minor units, `expires_at` in Unix seconds."""

    key: tuple[int, str]  # the event's created, the event's id
    number: str | None = None
    title: str | None = None
    currency: str | None = None
    amount_due: int | None = None
    payment_enabled: bool = True
    locale: str | None = None
    time_zone: str | None = None
    expires_at: int | None = None
    deal_id: str | None = None
    owner_name: str | None = None
    owner_email: str | None = None
    checkout_key: str | None = None  # sessions that we create carry it as metadata.quote_checkout_key


class ToldCustomer(msgspec.Struct, frozen=True):
    """Whom the customers worker knows behind a session."""

    version: int
    email: str | None
    stripe_customer_id: str | None


class ToldDocument(msgspec.Struct, frozen=True):
    """A billing document as the documents worker has it; amounts in minor units."""

    version: int
    kind: str
    number: str | None
    status: str
    currency: str | None
    amount: int | None
    amount_paid: int | None
    amount_refunded: int | None
    url: str | None
    pdf_url: str | None
    withdrawn: bool = False


class QuoteFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Per revision its publication and the times (Unix seconds) of its recall and expiry; per session its customer; per
    Stripe object its document.
    """

    published: dict[int, Publication] = {}
    recalled: dict[int, int] = {}
    expired: dict[int, int] = {}
    customers: dict[str, ToldCustomer] = {}
    documents: dict[str, ToldDocument] = {}


OWN_TYPES: Final = ("quote.published", "quote.recalled", "quote.expired", "customer.changed", "document.changed")


def quote_id_of(obj: StripeObject) -> str:
    """The quote that one of our own events is about. Raises Rejected where it names none."""
    quote_id = text(obj, "quote_id")
    if quote_id is None:
        raise Rejected("unreadable_payload", "quote_id is missing")
    return quote_id


def told(facts: QuoteFacts, event_type: str, event_id: str, created: int, obj: StripeObject) -> QuoteFacts:
    """The facts with what one of our own events adds. Raises Rejected where it cannot be read."""
    replace = msgspec.structs.replace
    if event_type == "quote.published":
        publication = _publication(obj, (created, event_id))
        return replace(facts, published=_kept(facts.published, _revision(obj), publication, lambda one: one.key))
    if event_type == "quote.recalled":
        return replace(facts, recalled=_earliest(facts.recalled, _revision(obj), created))
    if event_type == "quote.expired":
        return replace(facts, expired=_earliest(facts.expired, _revision(obj), created))
    if event_type == "customer.changed":
        customer = ToldCustomer(_version(obj), text(obj, "email"), text(obj, "stripe_customer_id"))
        return replace(facts, customers=_kept(facts.customers, _id(obj, "session_id"), customer, lambda c: c.version))
    if event_type == "document.changed":
        document = _document(obj)
        return replace(facts, documents=_kept(facts.documents, _id(obj, "object_id"), document, lambda d: d.version))
    raise Rejected("unreadable_payload", f"{event_type} is no event of a quote")


def _publication(obj: StripeObject, key: tuple[int, str]) -> Publication:
    return Publication(
        key=key,
        number=_short(obj, "number"),
        title=_short(obj, "title"),
        currency=(_short(obj, "currency") or "").lower() or None,
        amount_due=minor_units(obj, "amount_due"),
        payment_enabled=at(obj, "payment_enabled") is not False,
        locale=_short(obj, "locale"),
        time_zone=_short(obj, "time_zone"),
        expires_at=seconds(obj, "expires_at"),
        deal_id=_short(obj, "deal_id"),
        owner_name=_short(obj, "owner", "name"),
        owner_email=_short(obj, "owner", "email"),
        checkout_key=_short(obj, "checkout_key"),
    )


def _document(obj: StripeObject) -> ToldDocument:
    return ToldDocument(
        version=_version(obj),
        kind=_id(obj, "kind"),
        number=text(obj, "number"),
        status=text(obj, "status") or "unknown",
        currency=text(obj, "currency"),
        amount=minor_units(obj, "amount"),
        amount_paid=minor_units(obj, "amount_paid"),
        amount_refunded=minor_units(obj, "amount_refunded"),
        url=text(obj, "url"),
        pdf_url=text(obj, "pdf_url"),
        withdrawn=at(obj, "withdrawn") is True,
    )


def _revision(obj: StripeObject) -> int:
    revision = minor_units(obj, "revision")
    if revision is None or not 1 <= revision < 1 << 31:
        raise Rejected("unreadable_payload", "revision must be a whole number from 1")
    return revision


def _version(obj: StripeObject) -> int:
    version = minor_units(obj, "version")
    if version is None:
        raise Rejected("unreadable_payload", "version is missing")
    return version


def _id(obj: StripeObject, key: str) -> str:
    value = text(obj, key)
    if value is None:
        raise Rejected("unreadable_payload", f"{key} is missing")
    return value


def _short(obj: StripeObject, *path: str) -> str | None:
    value = text(obj, *path)
    return value[:LONGEST_TEXT] if value is not None and storable(value) else None


K = TypeVar("K", int, str)
V = TypeVar("V", Publication, ToldCustomer, ToldDocument)


def _kept(kept: dict[K, V], key: K, new: V, rank: Callable[[V], Any]) -> dict[K, V]:
    old = kept.get(key)
    return kept if old is not None and rank(old) >= rank(new) else {**kept, key: new}


def _earliest(times: dict[int, int], revision: int, created: int) -> dict[int, int]:
    return {**times, revision: min(created, times.get(revision, created))}
