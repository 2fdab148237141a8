"""A quote's payment status: a pure function of the set of its facts (RULES S4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from quittance.domain.anomalies import Anomaly, Evidence, anomalies_of
from quittance.domain.currencies import exponent
from quittance.domain.purchase import PAID_SESSION, Purchase, tied
from quittance.domain.quote import Publication, QuoteFacts, ToldDocument
from quittance.domain.sums import Sums, needs_no_payment, sums_of
from quittance.domain.tracked import Kind, Tracked

Status = Literal[
    "not_enabled",
    "disputed",
    "dispute_lost",
    "paid",
    "refunded",
    "partially_refunded",
    "partially_paid",
    "processing",
    "recalled",
    "expired",
    "payment_failed",
    "checkout_started",
    "pending",
]

OPEN_DISPUTES: Final = frozenset(
    [
        "needs_response",
        "under_review",
        "warning_needs_response",
        "warning_under_review",
        "appeal_needs_response",
        "appeal_under_review",
    ]
)


@dataclass(frozen=True)
class QuoteState:
    """What a quote's facts amount to. Amounts in minor units, `paid_at` in Unix seconds, texts as Stripe's."""

    status: Status
    revision: int
    paid_at: int | None
    paid_revision: int | None
    sums: Sums
    dispute_status: str | None
    subscription_status: str | None
    customer: dict[str, str | None] | None
    owner: dict[str, str | None]
    documents: list[dict[str, Any]]
    document_names: list[dict[str, str]]
    anomalies: list[Anomaly]
    publication: Publication | None

    @property
    def exponent(self) -> int | None:
        """Decimals of the quote's currency; None while the currency is unknown."""
        return exponent(self.sums.currency)


def state_of(quote_id: str, facts: QuoteFacts, objects: Mapping[str, Tracked]) -> QuoteState:
    """The state of a quote from everything that is known of it, in whatever order it came to be known."""
    purchase = Purchase(objects, quote_id)
    revision = _revision(facts, purchase)
    publication = facts.published.get(revision)
    foreign = _foreign_sessions(facts, purchase)
    sums = sums_of(
        purchase,
        published_currency=publication.currency if publication else None,
        published_due=publication.amount_due if publication else None,
        foreign=foreign,
    )
    paid = _paid_since(purchase, foreign)
    paid_revision = max(paid, default=None)
    return QuoteState(
        status=_headline(purchase, facts, revision, sums, foreign),
        revision=revision,
        paid_at=None if paid_revision is None else paid[paid_revision],
        paid_revision=paid_revision,
        sums=sums,
        dispute_status=_dispute_status(purchase),
        subscription_status=_subscription_status(purchase, foreign),
        customer=_customer(facts, purchase, foreign),
        owner=_owner(publication, purchase),
        documents=_documents(facts.documents),
        document_names=_document_names(purchase),
        anomalies=anomalies_of(Evidence(purchase, facts, revision, sums, paid, foreign)),
        publication=publication,
    )


def _revision(facts: QuoteFacts, purchase: Purchase) -> int:
    """The newest published; of a quote that was not published here, the newest that Stripe's objects name."""
    if facts.published:
        return max(facts.published)
    claims = [one.claim for one in purchase.objects.values() if one.claim is not None and one.kind != "coupon"]
    return max((claim.revision for claim in claims if claim.quote_id == purchase.quote_id), default=1)


def _foreign_sessions(facts: QuoteFacts, purchase: Purchase) -> set[str]:
    """Sessions of a published quote that we did not create: they do not carry the key of their revision."""
    if not facts.published:
        return set()
    return {session.id for session in purchase.all("session") if not _is_ours(facts, session)}


def _is_ours(facts: QuoteFacts, session: Tracked) -> bool:
    publication = facts.published.get(session.claim.revision) if session.claim is not None else None
    if publication is None or session.claim is None:
        return False
    return publication.checkout_key is not None and session.claim.checkout_key == publication.checkout_key


def _paid_since(purchase: Purchase, foreign: set[str]) -> dict[int, int]:
    """Per revision the least time at which an object of the first purchase was seen paid."""
    objects = [
        *(session for session in purchase.all("session") if session.id not in foreign),
        *purchase.first_charges,
        *(invoice for invoice in purchase.all("invoice") if invoice.id in purchase.first_invoices),
    ]
    times: dict[int, int] = {}
    for one in objects:
        if one.paid_since is not None:
            revision = purchase.revision_of(one)
            times[revision] = min(one.paid_since, times.get(revision, one.paid_since))
    return times


def _headline(purchase: Purchase, facts: QuoteFacts, revision: int, sums: Sums, foreign: set[str]) -> Status:
    return (
        _money_headline(purchase, facts.published.get(revision), sums, foreign)
        or _life_headline(facts, revision)
        or _attempt_headline(purchase, revision, foreign)
    )


def _money_headline(
    purchase: Purchase, publication: Publication | None, sums: Sums, foreign: set[str]
) -> Status | None:
    disputes = [one.status for one in purchase.first_disputes]
    if publication is not None and not publication.payment_enabled and sums.captured == 0:
        return "not_enabled"
    if any(status in OPEN_DISPUTES for status in disputes):
        return "disputed"
    if "lost" in disputes and (sums.due is None or sums.net < sums.due):
        return "dispute_lost"
    if sums.due is not None and sums.net >= sums.due > 0:
        return "paid"
    if sums.refunded >= sums.captured > 0:
        return "refunded"
    if sums.refunded > 0:
        return "partially_refunded"
    if (sums.captured > 0 and sums.due is None) or needs_no_payment(purchase, foreign):
        return "paid"
    if sums.captured > 0:
        return "partially_paid"
    return "processing" if _is_processing(purchase, foreign) else None


def _is_processing(purchase: Purchase, foreign: set[str]) -> bool:
    elsewhere = {
        charge.id
        for session in purchase.all("session")
        if session.id in foreign
        for charge in purchase.charges_of(session)
    }
    if any(charge.status == "pending" and charge.id not in elsewhere for charge in purchase.first_charges):
        return True
    return any(
        session.status == "complete_unpaid" and not _has_failed(purchase, session)
        for session in purchase.all("session")
        if session.id not in foreign
    )


def _life_headline(facts: QuoteFacts, revision: int) -> Status | None:
    if revision in facts.recalled:
        return "recalled"
    return "expired" if revision in facts.expired else None


def _attempt_headline(purchase: Purchase, revision: int, foreign: set[str]) -> Status:
    """What the newest attempt of this revision came to."""
    attempts = [one for one in purchase.all("session") if one.id not in foreign]
    newest = max(
        (one for one in attempts if purchase.revision_of(one) == revision),
        key=lambda session: (session.created, session.id),
        default=None,
    )
    if newest is None:
        return "pending"
    if _has_failed(purchase, newest):
        return "payment_failed"
    return "checkout_started" if newest.status == "open" else "pending"


def _has_failed(purchase: Purchase, session: Tracked) -> bool:
    """Async failed; or a charge of it failed, and none is pending or succeeded."""
    if session.status == "async_failed":
        return True
    statuses = {charge.status for charge in purchase.charges_of(session)}
    return "failed" in statuses and not statuses & {"pending", "succeeded"}


def _dispute_status(purchase: Purchase) -> str | None:
    """Of the deciding dispute: open before lost before won before the rest, the newest first."""

    def weight(dispute: Tracked) -> tuple[int, int, str]:
        order = 3 if dispute.status in OPEN_DISPUTES else {"lost": 2, "won": 1}.get(dispute.status, 0)
        return order, dispute.created, dispute.id

    deciding = max(purchase.first_disputes, key=weight, default=None)
    return None if deciding is None else deciding.status


def _subscription_status(purchase: Purchase, foreign: set[str]) -> str | None:
    """Of the newest subscription of a paid session."""
    paid = [one for one in purchase.all("session") if one.status in PAID_SESSION and one.id not in foreign]
    bought = {object_id for session in paid for object_id in tied(session, "subscription")}
    subscriptions = [one for one in purchase.all("subscription") if one.id in bought]
    newest = max(subscriptions, key=lambda one: (one.created, one.id), default=None)
    return None if newest is None else newest.status


def _customer(facts: QuoteFacts, purchase: Purchase, foreign: set[str]) -> dict[str, str | None] | None:
    """Who paid, or else who began to: as the customers worker knows them, until then as the session says."""
    sessions = [one for one in purchase.all("session") if one.id not in foreign]
    deciding = max(sessions, key=lambda one: (one.status in PAID_SESSION, one.created, one.id), default=None)
    if deciding is None:
        return None
    known = facts.customers.get(deciding.id)
    if known is not None:
        return {"email": known.email, "stripe_customer_id": known.stripe_customer_id}
    if deciding.customer is None and deciding.email is None:
        return None
    return {"email": deciding.email, "stripe_customer_id": deciding.customer}


_OWNER_HOMES: Final[tuple[Kind, ...]] = ("session", "intent", "subscription", "invoice", "charge")


def _owner(publication: Publication | None, purchase: Purchase) -> dict[str, str | None]:
    """The published owner; where no address was published, the `metadata.owner_email` of what carries the quote id,
    newest first within the first kind that has one.
    """
    name = publication.owner_name if publication is not None else None
    if publication is not None and publication.owner_email:
        return {"name": name, "email": publication.owner_email}
    for kind in _OWNER_HOMES:
        named = [
            (one.claim.key, one.id, one.claim.owner_email)
            for one in purchase.all(kind)
            if one.claim is not None and one.claim.owner_email and one.claim.quote_id == purchase.quote_id
        ]
        if named:
            return {"name": name, "email": max(named)[2]}
    return {"name": name, "email": None}


def _documents(documents: Mapping[str, ToldDocument]) -> list[dict[str, Any]]:
    return [
        {
            "id": object_id,
            "kind": document.kind,
            "number": document.number,
            "status": document.status,
            "currency": document.currency,
            "amount": document.amount,
            "amount_paid": document.amount_paid,
            "amount_refunded": document.amount_refunded,
            "url": document.url,
            "pdf_url": document.pdf_url,
        }
        for object_id, document in sorted(documents.items())
        if not document.withdrawn
    ]


def _document_names(purchase: Purchase) -> list[dict[str, str]]:
    """Which objects are the quote's billing documents (R14): the receipt of a one-time charge that took money, and each
    invoice once it is more than a draft; a charge on an invoice is no document of its own.
    """
    receipts = [
        {"object_id": charge.id, "kind": "receipt"}
        for charge in purchase.first_charges
        if charge.captured and charge.paid_since is not None and not purchase.invoices_of_charge(charge)
    ]
    invoices = [
        {"object_id": invoice.id, "kind": "invoice"} for invoice in purchase.all("invoice") if invoice.status != "draft"
    ]
    return sorted(receipts + invoices, key=lambda name: name["object_id"])
