"""What is odd about a quote's money (RULES S): told to the CRM, and mailed to the owner once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from quittance.domain.purchase import Purchase
from quittance.domain.quote import QuoteFacts
from quittance.domain.sums import Sums

# A closed list, as reasons are: the CRM and the owner's mail key on them.
Anomaly = Literal[
    "coupon_changed",
    "currency_mismatch",
    "foreign_session",
    "overpaid",
    "paid_after_expiry",
    "paid_after_recall",
    "paid_old_revision",
    "quote_id_conflict",
    "renewal_disputed",
    "unknown_state",
]
ANOMALIES: Final[tuple[Anomaly, ...]] = get_args(Anomaly)


@dataclass(frozen=True)
class Evidence:
    """What anomalies are judged by: `revision` is the newest, `paid` holds per revision when it was first seen paid (Unix
    seconds), `foreign` the ids of sessions that we did not create.
    """

    purchase: Purchase
    facts: QuoteFacts
    revision: int
    sums: Sums
    paid: Mapping[int, int]
    foreign: set[str]


def anomalies_of(evidence: Evidence) -> list[Anomaly]:
    """The anomalies that hold, sorted by name."""
    return [name for name in ANOMALIES if _HOLDS[name](evidence)]


def _coupon_changed(evidence: Evidence) -> bool:
    """R16: the coupon of a quote that can still be checked out was edited or deleted."""
    facts, revision = evidence.facts, evidence.revision
    live = evidence.sums.captured == 0 and revision not in facts.recalled and revision not in facts.expired
    return live and any(
        coupon.status in ("updated", "deleted") and coupon.claim is not None and coupon.claim.revision == revision
        for coupon in evidence.purchase.all("coupon")
    )


def _foreign_session(evidence: Evidence) -> bool:
    """A session with a key of a later revision than is known here may be ours: its publication may be on its way, and a
    mail cannot be taken back.
    """
    claims = (evidence.purchase.objects[session_id].claim for session_id in evidence.foreign)
    return any(claim is None or not claim.checkout_key or claim.revision <= evidence.revision for claim in claims)


def _overpaid(evidence: Evidence) -> bool:
    sums = evidence.sums
    return sums.due is not None and sums.captured - sums.refunded > sums.due


def _paid_after_expiry(evidence: Evidence) -> bool:
    publication = evidence.facts.published.get(evidence.revision)
    expiry = publication.expires_at if publication is not None else evidence.facts.expired.get(evidence.revision)
    return bool(evidence.sums.captured) and expiry is not None and evidence.paid.get(evidence.revision, 0) > expiry


def _paid_after_recall(evidence: Evidence) -> bool:
    recalled_at = evidence.facts.recalled.get(evidence.revision)
    paid_at = evidence.paid.get(evidence.revision)
    return bool(evidence.sums.captured) and None not in (recalled_at, paid_at) and (paid_at or 0) >= (recalled_at or 0)


def _paid_old_revision(evidence: Evidence) -> bool:
    return bool(evidence.sums.captured) and any(revision < evidence.revision for revision in evidence.paid)


def _quote_id_conflict(evidence: Evidence) -> bool:
    return any(one.claim is not None and one.claim.conflict for one in evidence.purchase.objects.values())


def _renewal_disputed(evidence: Evidence) -> bool:
    return any(map(evidence.purchase.is_of_renewal, evidence.purchase.all("dispute")))


def _unknown_state(evidence: Evidence) -> bool:
    return any(not one.known for one in evidence.purchase.objects.values())


_HOLDS: Final[Mapping[Anomaly, Callable[[Evidence], bool]]] = {
    "coupon_changed": _coupon_changed,
    "currency_mismatch": lambda evidence: evidence.sums.mismatched,
    "foreign_session": _foreign_session,
    "overpaid": _overpaid,
    "paid_after_expiry": _paid_after_expiry,
    "paid_after_recall": _paid_after_recall,
    "paid_old_revision": _paid_old_revision,
    "quote_id_conflict": _quote_id_conflict,
    "renewal_disputed": _renewal_disputed,
    "unknown_state": _unknown_state,
}
