"""What is counted (RULES S3), in minor units of the quote's currency."""

from dataclasses import dataclass

from quittance.domain.purchase import PAID_SESSION, Purchase, tied
from quittance.domain.tracked import Tracked

COUNTING_REFUNDS = ("requires_action", "pending", "succeeded")


@dataclass(frozen=True)
class Sums:
    """`due` is None while unknown; `mismatched` says that money of another currency was left out."""

    currency: str | None
    due: int | None
    captured: int
    refunded: int
    lost: int
    mismatched: bool

    @property
    def net(self) -> int:
        """What the seller still has of it."""
        return self.captured - self.refunded - self.lost


def sums_of(
    purchase: Purchase, *, published_currency: str | None, published_due: int | None, foreign: set[str]
) -> Sums:
    """The sums of a first purchase; `foreign` holds ids of sessions that count only by their captured money."""
    sessions = _newest_first([one for one in purchase.all("session") if one.id not in foreign])
    currency = published_currency or _currency(purchase, sessions)
    charges = [charge for charge in purchase.first_charges if charge.currency in (currency, None)]
    refunds = _within(purchase.first_refunds, currency)
    disputes = _within(purchase.first_disputes, currency)
    standing_in = [one for one in sessions if one.currency in (currency, None) and _stands_in(purchase, one)]
    everything = (*purchase.first_charges, *purchase.first_refunds, *purchase.first_disputes, *sessions)
    return Sums(
        currency=currency,
        due=published_due if published_due is not None else _due(purchase, sessions),
        captured=sum(map(captured_of, charges)) + sum(one.amount or 0 for one in standing_in),
        refunded=_refunded(purchase, charges, refunds),
        lost=sum(dispute.amount or 0 for dispute in disputes if dispute.status == "lost"),
        mismatched=any(one.currency not in (currency, None) for one in everything),
    )


def captured_of(charge: Tracked) -> int:
    """Money that was captured and not lost to a failing bank debit: a pending or failed charge counts 0."""
    return (charge.captured or 0) if charge.status == "succeeded" else 0


def _stands_in(purchase: Purchase, session: Tracked) -> bool:
    """While a paid session has no known charge, its total stands in for one."""
    return session.status == "paid" and not purchase.charges_of(session)


def _refunded(purchase: Purchase, charges: list[Tracked], refunds: list[Tracked]) -> int:
    of_charge: dict[str | None, list[Tracked]] = {}
    for refund in refunds:
        of_charge.setdefault(_charge_of(purchase, charges, refund), []).append(refund)
    known = sum(refunded_of(charge, of_charge.pop(charge.id, [])) for charge in charges)
    # What is left names a charge that is not known yet.
    return known + sum(_counting(refund) for refunds in of_charge.values() for refund in refunds)


def refunded_of(charge: Tracked, refunds: list[Tracked]) -> int:
    """Refunds known by themselves, and what `amount_refunded` says beyond all of them (older accounts send only
    `charge.refunded`); never what a partial capture released, nor more than was captured.
    """
    unnamed = max(0, (charge.refunded or 0) - sum(refund.amount or 0 for refund in refunds))
    total = max(0, sum(map(_counting, refunds)) + unnamed - charge.released)
    return total if charge.captured is None else min(total, charge.captured)


def _counting(refund: Tracked) -> int:
    return (refund.amount or 0) if refund.status in COUNTING_REFUNDS else 0


def _charge_of(purchase: Purchase, charges: list[Tracked], refund: Tracked) -> str | None:
    named = tied(refund, "charge")
    for charge in charges:
        if charge.id in named:
            return charge.id
    intents = tied(refund, "intent")
    of_intent = [charge for charge in charges if purchase.intents_of_charge(charge) & intents] if not named else []
    captured = [charge for charge in of_intent if captured_of(charge)]
    return next((charge.id for charge in captured or of_intent), None)


def _within(found: list[Tracked], currency: str | None) -> list[Tracked]:
    return [one for one in found if one.currency in (currency, None)]


def _newest_first(sessions: list[Tracked]) -> list[Tracked]:
    return sorted(sessions, key=lambda session: (session.created, session.id), reverse=True)


def _currency(purchase: Purchase, sessions: list[Tracked]) -> str | None:
    invoices = _first_invoices(purchase)
    intents = [one for one in _newest_first(purchase.all("intent")) if one.id in purchase.first_intents]
    candidates = (*sessions, *invoices, *intents, *purchase.first_charges)
    return next((one.currency for one in candidates if one.currency is not None), None)


def _due(purchase: Purchase, sessions: list[Tracked]) -> int | None:
    """The newest session's total; else the first invoice's; else the intent's amount. Never what is left to pay."""
    intents = [one for one in _newest_first(purchase.all("intent")) if one.id in purchase.first_intents]
    candidates = (*sessions[:1], *_first_invoices(purchase)[:1], *intents[:1])
    return next((one.amount for one in candidates if one.amount is not None), None)


def _first_invoices(purchase: Purchase) -> list[Tracked]:
    return _newest_first([one for one in purchase.all("invoice") if one.id in purchase.first_invoices])


def needs_no_payment(purchase: Purchase, foreign: set[str]) -> bool:
    """Whether a session of ours was completed without a payment (a discount of 100 %, a trial). Stripe has called that
    `paid` as well.
    """
    completed = (one for one in purchase.all("session") if one.status in PAID_SESSION and one.id not in foreign)
    return any(one.status == PAID_SESSION[1] or one.amount == 0 for one in completed)
