"""A quote's first purchase (RULES S3): which of its Stripe objects count towards its headline.

What hangs on any other invoice (renewals) touches documents, `subscription_status` and the anomaly `renewal_disputed`.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from quittance.domain.tracked import Kind, Role, Tracked

PAID_SESSION: Final = ("paid", "no_payment_required")
NONE: Final[frozenset[str]] = frozenset()

Index = defaultdict[str, set[str]]


class Purchase:
    """All Stripe objects of one quote, by id, and what of them is its first purchase."""

    def __init__(self, objects: Mapping[str, Tracked], quote_id: str) -> None:
        self.objects, self.quote_id = objects, quote_id
        self._by_kind: defaultdict[Kind, list[Tracked]] = defaultdict(list)
        for tracked in objects.values():
            self._by_kind[tracked.kind].append(tracked)
        self._intents_of_charge = self._index_charges()
        self._invoices_of_intent, self._invoices_of_charge = self._index_invoices()
        self._invoices_of_session = {session.id: self._billed_by(session) for session in self.all("session")}
        self.first_invoices = self._first_invoices()
        self.first_intents = self._first_intents()
        self.first_charges = sorted(filter(self._is_first, self.all("charge")), key=lambda charge: charge.id)
        self.first_refunds = self._of_first_charges("refund")
        self.first_disputes = self._of_first_charges("dispute")

    def all(self, kind: Kind) -> list[Tracked]:
        """The quote's objects of one kind, renewals' included."""
        return self._by_kind[kind]

    def intents_of_charge(self, charge: Tracked) -> set[str] | frozenset[str]:
        """The payment intent of a charge, whichever of the two names the other."""
        return self._intents_of_charge.get(charge.id, NONE)

    def invoices_of_charge(self, charge: Tracked) -> set[str]:
        """The invoices that a charge pays, itself or through its payment intent."""
        invoices = set(self._invoices_of_charge.get(charge.id, NONE))
        for intent_id in self.intents_of_charge(charge):
            invoices |= self._invoices_of_intent.get(intent_id, NONE)
        return invoices

    def charges_of(self, session: Tracked) -> list[Tracked]:
        """The charges of one attempt."""
        return [charge for charge in self.first_charges if self._is_of(charge, session)]

    def revision_of(self, tracked: Tracked) -> int:
        """The revision of the quote that an object of the first purchase pays: its own claim's, else its attempt's, else
        that of the intent, invoice or subscription that carries the claim.
        """
        if (own := self._claimed_revision(tracked)) is not None:
            return own
        attempts = [session for session in self.all("session") if self._is_of(tracked, session)]
        near = [one for one in map(self._known, sorted(self._near(tracked))) if one is not None]
        for carriers in (attempts, near):
            revisions = [found for one in carriers if (found := self._claimed_revision(one)) is not None]
            if revisions:
                return max(revisions)
        return 1

    def is_of_renewal(self, dispute: Tracked) -> bool:
        """Whether a dispute is known to be about a later invoice of a subscription; not while its invoice is unknown."""
        charges = tied(dispute, "charge")
        intents = tied(dispute, "intent").union(
            *(self._intents_of_charge.get(charge_id, NONE) for charge_id in charges)
        )
        invoices = set[str]().union(
            *(self._invoices_of_charge.get(charge_id, NONE) for charge_id in charges),
            *(self._invoices_of_intent.get(intent_id, NONE) for intent_id in intents),
        )
        known = [one for one in map(self._known, invoices) if one is not None and tied(one, "subscription")]
        return bool(known) and not invoices & self.first_invoices

    def _index_charges(self) -> Index:
        intents: Index = defaultdict(set)
        for charge in self.all("charge"):
            intents[charge.id] |= tied(charge, "intent")
        for intent in self.all("intent"):
            for charge_id in tied(intent, "charge"):
                intents[charge_id].add(intent.id)
        return intents

    def _index_invoices(self) -> tuple[Index, Index]:
        """Per payment intent, and per charge, the invoices that it pays, whichever side says so."""
        of_intent: Index = defaultdict(set)
        of_charge: Index = defaultdict(set)
        for payer in (*self.all("intent"), *self.all("session")):
            intents = {payer.id} if payer.kind == "intent" else tied(payer, "intent")
            for intent_id in intents:
                of_intent[intent_id] |= tied(payer, "invoice")
        for charge in self.all("charge"):
            of_charge[charge.id] |= tied(charge, "invoice")
        for link in (*self.all("invoice"), *self.all("invoice_payment")):
            invoices = {link.id} if link.kind == "invoice" else tied(link, "invoice")
            for role, object_id in link.ties:
                if role == "intent":
                    of_intent[object_id] |= invoices
                elif role == "charge":
                    of_charge[object_id] |= invoices
        return of_intent, of_charge

    def _billed_by(self, session: Tracked) -> set[str]:
        """The invoice that a session names, or else shares a subscription with: older sessions name none."""
        subscriptions = tied(session, "subscription")
        created = (one for one in self.all("invoice") if one.billing_reason == "subscription_create")
        return tied(session, "invoice") | {one.id for one in created if tied(one, "subscription") & subscriptions}

    def _first_invoices(self) -> set[str]:
        """Ids of the invoices of the first purchase: created with the subscription, or named by a session."""
        created = {one.id for one in self.all("invoice") if one.billing_reason == "subscription_create"}
        return created.union(*(tied(session, "invoice") for session in self.all("session")))

    def _first_intents(self) -> set[str]:
        """Ids of the payment intents that carry the quote's id, of its sessions, and of its first invoice."""
        own = {intent.id for intent in self.all("intent") if self._claimed_revision(intent) is not None}
        of_invoices = {
            intent_id for intent_id, invoices in self._invoices_of_intent.items() if invoices & self.first_invoices
        }
        return own.union(of_invoices, *(tied(session, "intent") for session in self.all("session")))

    def _is_first(self, charge: Tracked) -> bool:
        intents = self.intents_of_charge(charge)
        if intents & self.first_intents or self.invoices_of_charge(charge) & self.first_invoices:
            return True
        return not intents and self._claimed_revision(charge) is not None

    def _of_first_charges(self, kind: Kind) -> list[Tracked]:
        """The refunds or disputes of the first purchase: by their charge; by their intent while that is unknown."""
        charges = {charge.id for charge in self.first_charges}
        found: list[Tracked] = []
        for one in self.all(kind):
            named = tied(one, "charge")
            elsewhere = any(charge_id not in charges and self._known(charge_id) for charge_id in named)
            if named & charges or (not elsewhere and tied(one, "intent") & self.first_intents):
                found.append(one)
        return found

    def _is_of(self, tracked: Tracked, session: Tracked) -> bool:
        """Whether an intent, invoice or charge belongs to an attempt."""
        invoices = {tracked.id} if tracked.kind == "invoice" else self.invoices_of_charge(tracked)
        intents = self.intents_of_charge(tracked) if tracked.kind == "charge" else {tracked.id}
        named_invoices = self._invoices_of_session[session.id]
        if intents & tied(session, "intent") or invoices & named_invoices:
            return True
        return any(self._invoices_of_intent.get(intent_id, NONE) & named_invoices for intent_id in intents)

    def _near(self, tracked: Tracked) -> set[str]:
        near = {object_id for _, object_id in tracked.ties} | self.intents_of_charge(tracked)
        near |= self.invoices_of_charge(tracked)
        subscriptions = (tied(one, "subscription") for one in map(self._known, near) if one is not None)
        return near.union(*subscriptions)

    def _known(self, object_id: str) -> Tracked | None:
        tracked = self.objects.get(object_id)
        return None if tracked is None or tracked.kind == "named" else tracked

    def _claimed_revision(self, tracked: Tracked) -> int | None:
        claim = tracked.claim
        return claim.revision if claim is not None and claim.quote_id == self.quote_id else None


def tied(tracked: Tracked, role: Role) -> set[str]:
    """The ids that an object names in one role."""
    return {object_id for tie_role, object_id in tracked.ties if tie_role == role}
