"""R14's documents as pure functions: any order of the same facts is one document; nothing unreadable gets through."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dev.lives import LIVES, Life, life
from dev.stripe_events import SHAPES
from quittance.domain.document_owners import Change, Entry, Named, ObjectKey, name, named_from, take
from quittance.domain.documents import Document, Kept, document_of, facts_from, merged
from quittance.domain.tracked import Seen
from quittance.errors import Rejected

DOCUMENT_FAMILIES = ("charge", "refund", "invoice")
KEPT = msgspec.json.Decoder(Kept)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def facts_in(one: Life) -> dict[str, list[Kept]]:
    """Every fact about a document in a life's events, per object."""
    facts: dict[str, list[Kept]] = {}
    for event in one.events:
        if event["type"].split(".")[0] in DOCUMENT_FAMILIES:
            for fact in facts_from(Seen(event["created"], event["id"], event["type"]), event["data"]["object"]):
                facts.setdefault(fact.subject.id, []).append(fact)
    return facts


def folded(facts: list[Kept]) -> Kept:
    kept = facts[0]
    for fact in facts[1:]:
        kept = merged(kept, fact)
    return kept


def the_document(facts: list[Kept]) -> Document:
    document = document_of(folded(facts))
    assert document is not None
    return document


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(LIVES)), st.sampled_from(SHAPES), st.data())
def test_every_order_and_duplication_of_an_objects_facts_is_one_document(which: str, shape: Any, data: Any) -> None:
    for facts in facts_in(life(which, 1, shape=shape)).values():
        shuffled = data.draw(st.permutations(facts + facts[: data.draw(st.integers(0, len(facts)))]))
        # Put back and taken out again, as waiting facts are.
        stored = [KEPT.decode(msgspec.json.encode(fact)) for fact in shuffled]
        cut = data.draw(st.integers(0, len(stored)))
        halves = [folded(half) for half in (stored[:cut], stored[cut:]) if half]
        assert folded(halves) == folded(facts)


def document_after(which: str, shape: Any, kind: str) -> list[Document]:
    documents = [the_document(facts) for facts in facts_in(life(which, 1, shape=shape, amount=2000)).values()]
    return [document for document in documents if document.kind == kind]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("which", "status", "paid", "refunded"),
    [
        ("card", "succeeded", 2000, 0),
        ("debit_settles", "succeeded", 2000, 0),
        ("debit_fails", "failed", 0, 0),
        ("debit_fails_after_settling", "failed", 0, 0),
        ("authorised", "uncaptured", 0, 0),
        ("captured_in_part", "succeeded", 1000, 0),
        ("refunded", "refunded", 2000, 2000),
        ("refunded_in_part", "partially_refunded", 2000, 1000),
        ("refunded_charge_only", "partially_refunded", 2000, 1000),
        ("refunded_refund_only", "refunded", 2000, 2000),
        ("refund_fails", "succeeded", 2000, 0),
    ],
)
def test_r14_a_one_time_payment_has_a_receipt_that_keeps_up(
    shape: Any, which: str, status: str, paid: int, refunded: int
) -> None:
    [receipt] = document_after(which, shape, "receipt")
    assert (receipt.status, receipt.amount, receipt.amount_paid, receipt.amount_refunded) == (
        status,
        2000,
        paid,
        refunded,
    )
    assert receipt.currency == "usd"
    assert receipt.url is not None
    assert receipt.url.startswith("https://pay.stripe.com/receipts/")


@pytest.mark.parametrize("shape", SHAPES)
def test_r14_a_recurring_payment_has_invoices_with_number_links_and_status(shape: Any) -> None:
    first, renewal = document_after("subscription_past_due", shape, "invoice")
    assert (first.status, first.amount, first.amount_paid) == ("paid", 2000, 2000)
    assert (renewal.status, renewal.amount, renewal.amount_paid) == ("open", 2000, 0)
    for invoice in (first, renewal):
        assert invoice.number
        assert (invoice.url or "").startswith("https://invoice.stripe.com/")
        assert (invoice.pdf_url or "").startswith("https://pay.stripe.com/")


def a_charge(event: str, at: int, kind: str = "charge.updated", **fields: Any) -> list[Kept]:
    charge = {"id": "ch_1", "object": "charge", "amount": 2000, "currency": "USD", "status": "succeeded"}
    return facts_from(Seen(at, event, kind), charge | {"amount_captured": 2000, "amount_refunded": 0} | fields)


def test_a_receipt_number_is_not_forgotten_by_an_event_of_the_same_second() -> None:
    numbered = a_charge("evt_1", 10, receipt_number="1000-1000")
    bare = a_charge("evt_2", 10, receipt_number=None)
    assert the_document(numbered + bare).number == the_document(bare + numbered).number == "1000-1000"


def test_a_receipt_follows_its_newest_link() -> None:
    old, new = (a_charge(f"evt_{at}", at, receipt_url=f"https://pay.stripe.com/{at}") for at in (10, 11))
    assert the_document(new + old).url == the_document(old + new).url == "https://pay.stripe.com/11"


def test_a_link_that_a_browser_would_run_is_none() -> None:
    assert the_document(a_charge("evt_1", 1, receipt_url="javascript:alert(1)")).url is None


def test_a_charge_of_an_old_version_without_optional_fields_is_a_receipt() -> None:
    [fact] = facts_from(
        Seen(5, "evt_1", "charge.succeeded"),
        {"id": "ch_1", "amount": 500, "currency": "usd", "paid": True, "captured": True},
    )
    document = the_document([fact])
    assert (document.status, document.amount_paid, document.number, document.url) == ("succeeded", 500, None, None)


def test_a_refund_that_comes_before_its_charge_waits_for_it() -> None:
    refund = {"id": "re_1", "object": "refund", "charge": "ch_1", "amount": 2000, "status": "succeeded"}
    [early] = facts_from(Seen(20, "evt_2", "refund.created"), refund)
    assert (early.subject.id, document_of(early)) == ("ch_1", None)
    assert the_document([early, *a_charge("evt_1", 10)]).status == "refunded"


def test_a_dispute_is_no_document() -> None:
    assert facts_from(Seen(1, "evt_1", "charge.dispute.created"), {"id": "du_1", "charge": "ch_1", "amount": 5}) == []


def test_an_unknown_state_is_shown_as_unknown_and_gives_way_to_a_known_one() -> None:
    unknown = a_charge("evt_9", 99, status="quantum")
    assert the_document(unknown).status == "unknown"
    assert the_document(unknown + a_charge("evt_1", 1)).status == "succeeded"


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(["charge.succeeded", "charge.refund.updated", "refund.created", "invoice.paid", "invoice.upcoming"]),
    st.dictionaries(
        st.sampled_from(
            ["id", "object", "amount", "amount_captured", "amount_refunded", "captured", "status", "paid", "currency",
             "receipt_url", "receipt_number", "refunds", "charge", "total", "amount_paid", "number", "invoice_pdf",
             "hosted_invoice_url", "status_transitions", "finalized_at", "created", "payment_intent", "metadata"]
        ),
        json_values,
    ),
    st.integers(),
)  # fmt: skip
def test_whatever_the_object_holds_it_is_read_or_rejected(kind: str, obj: dict[str, Any], created: int) -> None:
    obj = {"id": "x_1", **obj}
    try:
        facts = facts_from(Seen(created, "evt_1", kind), obj)
    except Rejected as rejected:
        assert rejected.reason == "unreadable_payload"
        return
    for fact in facts:
        document = document_of(fact)
        assert KEPT.decode(msgspec.json.encode(fact)) == fact
        if document is not None and document.amount_refunded is not None:
            assert 0 <= document.amount_refunded < 1 << 63


@given(json_values)
def test_a_naming_that_is_none_is_rejected(subject: Any) -> None:
    try:
        named_from(subject)
    except Rejected as rejected:
        assert rejected.reason == "unreadable_payload"


# Whose document it is ------------------------------------------------------------------------------------------------

KEY = ObjectKey("self", False, "ch_1")


def told_in_the_end(steps: list[Named | Kept]) -> tuple[tuple[str, Document] | None, list[Change]]:
    """Namings and facts as they come, an older naming passed over as the worker does; what was told, last and ever."""
    entries = {KEY: Entry(), ObjectKey("self", False, "ch_2"): Entry()}
    newest, changes = dict[str, int](), list[Change]()
    for step in steps:
        if isinstance(step, Kept):
            changes += take(entries, "self", False, [step])
        elif step.version >= newest.get(step.quote_id, 0):
            newest[step.quote_id] = step.version
            changes += name(entries, "self", False, step)
    return entries[KEY].told, changes


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_order_of_namings_and_facts_ends_with_the_same_owner(data: Any) -> None:
    facts = a_charge("evt_1", 1) + a_charge("evt_2", 2, amount_refunded=500)
    namings = [
        Named("Q-A", 1, frozenset({"ch_1"})),
        Named("Q-A", 2, frozenset({"ch_1", "ch_2"})),
        Named("Q-A", 4, frozenset()),
        Named("Q-B", 3, frozenset({"ch_1"})),
    ]
    steps = data.draw(st.permutations([*facts, *namings, *namings[:2]]))
    told, changes = told_in_the_end(steps)
    assert told is not None
    assert (told[0], told[1].status) == ("Q-B", "partially_refunded")
    # Whoever was told of it before has been told that it is his no more.
    last = {change.quote_id: change.withdrawn for change in changes}
    assert last.pop("Q-B") is False
    assert set(last.values()) <= {True}


def test_nothing_is_told_twice() -> None:
    fact, naming = a_charge("evt_1", 1)[0], Named("Q-A", 1, frozenset({"ch_1"}))
    _, changes = told_in_the_end([fact, naming, fact, naming, fact])
    assert [(change.quote_id, change.withdrawn) for change in changes] == [("Q-A", False)]
