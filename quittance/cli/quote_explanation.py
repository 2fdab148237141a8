"""Why a quote is in its state: the rule that decided (RULES S4), the sums (S3), what was left out and what is missing."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from quittance.cli.output import moment, money
from quittance.cli.quote_loading import Quote
from quittance.domain.quote import QuoteFacts
from quittance.domain.status import QuoteState, state_of
from quittance.domain.sums import captured_of
from quittance.domain.tracked import Tracked

# The first rule that matches decides; in words, with the figures that made it match.
RULES: Final[Mapping[str, str]] = {
    "not_enabled": "it was published with payment off, and nothing was captured",
    "disputed": "a dispute is open ({dispute})",
    "dispute_lost": "a dispute is lost, and what is left ({net}) is less than what is due ({due})",
    "refunded": "all that was captured ({captured}) was refunded ({refunded})",
    "partially_refunded": "part of what was captured ({captured}) was refunded ({refunded})",
    "partially_paid": "what was captured ({captured}) is less than what is due ({due})",
    "processing": "a payment is under way: a charge is pending, or a session is complete and not paid yet",
    "recalled": "revision {revision} was recalled, and no money came in",
    "expired": "revision {revision} has expired, and no money came in",
    "payment_failed": "the newest attempt of revision {revision} failed",
    "checkout_started": "the newest attempt of revision {revision} is an open session",
    "pending": "there is no attempt of revision {revision} under way, and no money came in",
}
PAID: Final = "what is left of what was captured ({captured} - {refunded} refunded - {lost} lost = {net}) covers what is due ({due})"
PAID_UNKNOWN_DUE: Final = "money was captured ({captured}), and what is due is not known"
PAID_FREE: Final = "a session needed no payment"

NOT_COUNTED: Final = (
    "NOT COUNTED: {type} {event_id} is {state} in queue {queue} ({reason}); "
    "`quittance dead-letters replay {id} --dry-run` shows what it would do."
)
NO_CUSTOMER: Final = "NO CUSTOMER YET: looking it up at Stripe is {request_state}: {request_error}"
NOT_TOLD: Final = "NOT TOLD YET: {number} for {destination}, the oldest since {since}: `quittance doctor` says why."
OVERTAKEN: Final = (
    "The last change told was {told}; by this version's rules its facts now make it {now} ({rule}). The next event of "
    "the quote will tell that; `quittance events replay --quote {quote} --queue quotes` does it now."
)

ANOMALIES: Final[Mapping[str, str]] = {
    "coupon_changed": "its coupon was edited or deleted in Stripe while it could be checked out",
    "currency_mismatch": "money in another currency than the quote's came in, and is not summed",
    "foreign_session": "a session that we did not create names this quote: only its captured money counts",
    "overpaid": "more was captured than is due",
    "paid_after_expiry": "it was paid after it had expired",
    "paid_after_recall": "it was paid after it had been recalled",
    "paid_old_revision": "money of an older revision came in",
    "quote_id_conflict": "an object names one quote in its metadata and another one elsewhere: metadata wins",
    "renewal_disputed": "a payment of a renewal is disputed: the headline looks at the first purchase alone",
    "unknown_state": "Stripe says a state of an object that this version does not know; it ranks lowest",
}


def explain(quote: Quote) -> list[str]:
    """Sentences that say why the quote is in its state, the deciding one first."""
    state = state_of(quote.row["quote_id"], quote.facts, quote.objects)
    told = quote.data["status"]
    if state.status == told:
        sentences = [f"{told}, because {_rule(state)}."]
    else:
        overtaken = OVERTAKEN.format(told=told, now=state.status, rule=_rule(state), quote=quote.row["quote_id"])
        sentences = [overtaken]
    sentences += [f"Anomaly {name}: {ANOMALIES.get(name, name)}." for name in state.anomalies]
    sentences.append(_origin(quote.facts, quote.objects, quote.row["quote_id"]))
    sentences += _money(quote, state)
    sentences += _paid_at(state)
    sentences += _missing(quote)
    return sentences


def _rule(state: QuoteState) -> str:
    figures = _figures(state)
    if state.status != "paid":
        return RULES[state.status].format(**figures)
    if state.sums.due is not None and state.sums.net >= state.sums.due > 0:
        return PAID.format(**figures)
    return (PAID_UNKNOWN_DUE if state.sums.captured else PAID_FREE).format(**figures)


def _figures(state: QuoteState) -> dict[str, Any]:
    sums, exponent = state.sums, state.exponent
    amounts = {
        "due": sums.due,
        "captured": sums.captured,
        "refunded": sums.refunded,
        "lost": sums.lost,
        "net": sums.net,
    }
    written: dict[str, Any] = {name: money(amount, sums.currency, exponent) for name, amount in amounts.items()}
    return written | {"dispute": state.dispute_status, "revision": state.revision}


def _origin(facts: QuoteFacts, objects: Mapping[str, Tracked], quote_id: str) -> str:
    """How the quote came to be ours (S1)."""
    if facts.published:
        revisions = ", ".join(str(revision) for revision in sorted(facts.published))
        return f"It was published here (revision {revisions})."
    claims = [
        (one.claim.key, one) for one in objects.values() if one.claim is not None and one.claim.quote_id == quote_id
    ]
    if not claims:
        return "It was adopted; none of the objects kept names it any more."
    (from_metadata, _, event_id), first = min(claims, key=lambda claim: (not claim[0][0], claim[0]))
    where = "metadata.quote_id" if from_metadata else "client_reference_id"
    return f"It was not published here: adopted, as {first.kind} {first.id} names it in {where} ({event_id})."


def _money(quote: Quote, state: QuoteState) -> list[str]:
    """Where the sums come from: each charge of the quote, and whether it counts."""
    sentences = []
    for charge in sorted((one for one in quote.objects.values() if one.kind == "charge"), key=lambda one: one.id):
        amount = money(captured_of(charge), charge.currency, state.exponent)
        if charge.status == "succeeded":
            sentences.append(f"Charge {charge.id} succeeded: {amount} captured.")
        else:
            sentences.append(f"Charge {charge.id} is {charge.status}: it counts nothing.")
    if state.sums.captured and not sentences:
        sentences.append("No charge is known yet: the paid session's own total stands in for it.")
    return sentences


def _paid_at(state: QuoteState) -> list[str]:
    if state.paid_at is None:
        return []
    at = moment(datetime.fromtimestamp(state.paid_at, UTC))
    return [f"Revision {state.paid_revision} was first seen paid at {at}; that stays, whatever happens later."]


def _missing(quote: Quote) -> list[str]:
    """What would change the picture if it were there."""
    sentences = [
        NOT_COUNTED.format(**failed) for failed in quote.failed if failed["state"] in ("dead", "retrying", "replaying")
    ]
    waiting_for = [customer for customer in quote.customers if customer["request_state"] in ("due", "refused")]
    sentences += [NO_CUSTOMER.format(**customer) for customer in waiting_for]
    for waiting in quote.unpublished:
        since = moment(waiting["oldest"])
        sentences.append(NOT_TOLD.format(number=waiting["changes"], destination=waiting["destination"], since=since))
    return sentences
