"""What is one address, and who stands for it: the pure rules."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quittance.domain.customers import (
    LONGEST_ADDRESS,
    AddressFact,
    Alias,
    Link,
    customer_fact,
    known_of,
    name_of_buyer,
    normalised,
    seniority,
    sighting,
)
from quittance.domain.ranks import Key
from quittance.errors import Rejected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Ann@Example.COM", "ann@example.com"),
        ("  ann@example.com\r\n", "ann@example.com"),
        ("\u00a0ann@example.com\u2003", "ann@example.com"),
        ("ann.o+quotes@example.com", "ann.o+quotes@example.com"),
        ("JU\u0308RGEN@example.com", "jürgen@example.com"),
        ("STRASSE@example.com", "strasse@example.com"),
        ("straße@example.com", "straße@example.com"),
        ('"a@b"@example.com', '"a@b"@example.com'),
    ],
)
def test_r18_spellings_of_one_address_are_one(written: str, expected: str) -> None:
    """INVARIANT: case, surrounding space and the form of accents make no second customer; nothing else makes one of two."""
    assert normalised(written) == expected


def test_r18_dots_plus_signs_and_sharp_s_make_different_addresses() -> None:
    """INVARIANT: no cleverness: these may be different people."""
    distinct = ["ann@example.com", "a.nn@example.com", "ann+x@example.com", "anß@example.com", "anss@example.com"]
    assert len({normalised(address) for address in distinct}) == len(distinct)


@pytest.mark.parametrize(
    "written",
    [
        None,
        "",
        " ",
        "@",
        "ann",
        "ann@",
        "@example.com",
        "ann @example.com",
        "ann@exa mple.com",
        "ann\x00@example.com",
        "ann\u200b@example.com",
        "ann@example.com\nbcc: eve@example.com",
        "\ud800@example.com",
        "a" * LONGEST_ADDRESS + "@example.com",
    ],
)
def test_what_is_no_address_is_none(written: str | None) -> None:
    """INVARIANT: what cannot be an address makes no customer, and nothing that Postgres refuses."""
    assert normalised(written) is None


@given(st.text() | st.emails() | st.builds("{}@{}".format, st.text(min_size=1), st.text(min_size=1)))
def test_normalising_twice_changes_nothing(written: str) -> None:
    """INVARIANT: a normalised address is its own normal form. Otherwise a row could not be found by what it holds."""
    once = normalised(written)
    assert once is None or (normalised(once) == once and len(once) <= LONGEST_ADDRESS)
    if once is not None:
        once.encode()


def customer(
    rank: str, at: int, email: object = None, former: object = "?", event_id: str = "evt_1"
) -> AddressFact | None:
    previous = {} if former == "?" else {"email": former}
    return customer_fact(rank, at, event_id, {"id": "cus_1", "email": email}, previous)


def alias_of(*facts: AddressFact | None) -> Alias:
    alias = Alias({})
    for fact in facts:
        if fact is not None:
            alias = alias.with_fact(fact)
    return alias


def test_s2_the_address_of_a_customer_is_that_of_the_greatest_fact() -> None:
    """INVARIANT: (rank, created, id) decides, in every order: deleted, updated, created, seen."""
    facts = [
        sighting("cus_1", "seen@example.com", 900, "evt_9"),
        customer("created", 100, "created@example.com"),
        customer("updated", 200, "first@example.com", "created@example.com", "evt_2"),
        customer("updated", 300, "second@example.com", "first@example.com", "evt_3"),
        customer("updated", 300, "third@example.com", "second@example.com", "evt_4"),
    ]
    for order in permutations(facts):
        alias = alias_of(*order)
        assert alias.address == "third@example.com"
        standing = seniority("cus_1", alias)
        assert standing is not None
        assert standing.since == 300


def test_s2_a_deleted_customer_keeps_its_last_address_and_stands_for_none() -> None:
    """INVARIANT: a deletion is final, also when it overtakes the creation, and also when it names no address."""
    for order in permutations([customer("created", 1, "ann@example.com"), customer("deleted", 2, event_id="evt_2")]):
        alias = alias_of(*order)
        assert (alias.address, alias.deleted, seniority("cus_1", alias)) == ("ann@example.com", True, None)
    assert alias_of(customer("deleted", 2, "ann@example.com")).address == "ann@example.com"


def test_an_address_that_is_taken_away_is_gone() -> None:
    """INVARIANT: an update without an address says that there is none, whatever else it is about."""
    facts = [customer("created", 1, "ann@example.com"), customer("updated", 2, None, event_id="evt_2")]
    for order in permutations(facts):
        alias = alias_of(*order)
        assert (alias.address, alias.email, seniority("cus_1", alias)) == (None, None, None)


def test_a_customer_created_without_an_address_says_nothing_of_one() -> None:
    """INVARIANT: what a session showed stays until Stripe tells that it has stored another."""
    seen = sighting("cus_1", "ann@example.com", 1, "evt_1")
    assert customer("created", 2, None) is None
    assert alias_of(seen).address == "ann@example.com"


@pytest.mark.parametrize("obj", [{}, {"id": None}, {"id": 7}, {"id": ""}, {"id": "x" * 256}, {"id": {"id": "cus_1"}}])
def test_a_customer_without_an_id_is_rejected(obj: dict[str, object]) -> None:
    """INVARIANT: what cannot be read is said so, not passed over."""
    with pytest.raises(Rejected):
        customer_fact("updated", 1, "evt_1", obj, {})


@pytest.mark.parametrize("email", [7, ["ann@example.com"], {"email": "ann@example.com"}, True])
def test_an_address_of_another_type_reads_as_absent(email: object) -> None:
    """INVARIANT: only a text or null says something of the address."""
    assert customer("updated", 1, email) is None
    assert customer("created", 1, email) is None


def test_a_moved_customer_has_been_there_since_it_moved() -> None:
    """INVARIANT: coming back to an address is coming anew: who came meanwhile is the senior."""
    came_back = alias_of(
        customer("created", 1, "ann@example.com"),
        customer("updated", 2, "bob@example.com", "ann@example.com", "evt_2"),
        customer("updated", 9, "ann@example.com", "bob@example.com", "evt_3"),
        customer("updated", 12, "ann@example.com", event_id="evt_4"),
        sighting("cus_1", "ann@example.com", 11, "evt_5"),
    )
    standing = seniority("cus_1", came_back)
    assert standing is not None
    assert standing.since == 9


def test_another_spelling_is_no_move() -> None:
    """INVARIANT: a customer that only writes its address otherwise keeps its seniority."""
    alias = alias_of(
        customer("created", 1, "ann@example.com"),
        customer("updated", 9, "Ann@Example.com", "ann@example.com", "evt_2"),
    )
    standing = seniority("cus_1", alias)
    assert standing is not None
    assert standing.since == 1
    assert alias.email == "Ann@Example.com"


def link(email: str | None, customer_id: str | None = None) -> Link:
    return Link(Key(0, 5, 1, "evt_1"), "Q-1", customer_id, email, "checkout.session.completed", True)


def test_known_of_a_session() -> None:
    """INVARIANT: the buyer's spelling while it is the address; the canonical customer, else the session's own if it lives."""
    ann, bob = sighting("cus_1", "ann@example.com", 1, "evt_1"), sighting("cus_1", "Bob@example.com", 1, "evt_1")
    gone = customer("deleted", 1, "ann@example.com")
    assert known_of(link("Ann@Example.com"), alias_of(), None) == ("Ann@Example.com", None)
    assert known_of(link("Ann@Example.com"), alias_of(), "cus_9") == ("Ann@Example.com", "cus_9")
    assert known_of(link("Ann@Example.com", "cus_1"), alias_of(ann), "cus_1") == ("Ann@Example.com", "cus_1")
    assert known_of(link("Ann@Example.com", "cus_1"), alias_of(bob), "cus_1") == ("Bob@example.com", "cus_1")
    assert known_of(link(None, "cus_1"), alias_of(), None) == (None, "cus_1")
    assert known_of(link("ann@example.com", "cus_1"), alias_of(gone), None) == ("ann@example.com", None)
    assert known_of(link("no address"), alias_of(), None) == (None, None)


@pytest.mark.parametrize(
    ("session", "name"),
    [
        ({}, None),
        ({"customer_details": None}, None),
        ({"customer_details": {"name": "Ann Other"}}, "Ann Other"),
        ({"customer_details": {"name": "Ann Other", "business_name": "Example Ltd"}}, "Example Ltd"),
        ({"customer_details": {"name": "Ann"}, "collected_information": {"business_name": " Example "}}, "Example"),
        ({"customer_details": {"name": "A", "individual_name": "Ann Other", "business_name": None}}, "Ann Other"),
        ({"customer_details": {"name": " "}}, None),
        ({"customer_details": {"name": 7}}, None),
        ({"customer_details": {"name": "x" * 300}}, "x" * 256),
    ],
)
def test_r19_the_name_is_the_companys_else_the_contacts(session: dict[str, object], name: str | None) -> None:
    """INVARIANT: company name, else the contact's first and last name; never more than Stripe takes."""
    assert name_of_buyer(session) == name
