"""The events that the demo, the benchmark and the tests are made of: are they what Stripe would send?"""

import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest
import stripe

from bench.bodies import numbered_lives
from dev.lives import LIVES, life
from dev.stripe_events import API_VERSIONS, SHAPES, Json, Shape, body, event, sign, with_fresh_ids

ALL = [(name, shape) for name in LIVES for shape in SHAPES]


@pytest.mark.parametrize(("name", "shape"), ALL)
def test_a_life_is_told_the_same_way_each_time_with_ids_of_its_own(name: str, shape: Shape) -> None:
    told = life(name, 7, shape=shape)
    assert told.events == life(name, 7, shape=shape).events
    assert told.name == name
    ids = Counter(str(sent["id"]) for sent in told.events)
    assert set(ids.values()) == {1}
    assert not ids.keys() & {str(sent["id"]) for sent in life(name, 8, shape=shape).events}
    assert {sent["api_version"] for sent in told.events} == {API_VERSIONS[shape]}
    times = [sent["created"] for sent in told.events]
    assert times == sorted(times)


@pytest.mark.parametrize(("name", "shape"), ALL)
def test_stripes_own_library_accepts_every_event(name: str, shape: Shape) -> None:
    for sent in life(name, 7, shape=shape, account="acct_1Test00000000000").events:
        payload = body(sent)
        header = sign(payload, "whsec_test", time.time())
        taken = stripe.Webhook.construct_event(payload, header, "whsec_test")
        assert (taken.id, taken.type, taken.account) == (sent["id"], sent["type"], "acct_1Test00000000000")


def test_stripes_known_answer_is_reproduced() -> None:
    """The vector of stripe-dotnet's tests, over its recorded `customer.created`."""
    folder = os.environ.get("STRIPE_PAYLOADS")
    if not folder:
        pytest.skip("STRIPE_PAYLOADS is not set")
    (file,) = Path(folder).glob("stripedotnet__customer.created__*.json")
    header = sign(file.read_bytes(), "webhook_secret", 1533204620)
    assert header == "t=1533204620,v1=2220f87ef101a04665f11cdf770523143f875572008577fa0f20882ddb9cc3c7"


def test_the_shapes_tie_invoice_and_subscription_where_their_release_does() -> None:
    def invoice_and_intent(shape: Shape) -> tuple[Json, Json]:
        events = life("subscription", 7, shape=shape).events
        by_type = {sent["type"]: sent["data"]["object"] for sent in events}
        return by_type["invoice.paid"], by_type["payment_intent.succeeded"]

    newer, intent = invoice_and_intent("endive")
    assert newer["parent"]["subscription_details"]["metadata"]["quote_id"] == "Q-7"
    assert not {"subscription", "subscription_details", "payment_intent", "charge", "paid"} & newer.keys()
    assert "invoice" not in intent

    older, intent = invoice_and_intent("acacia")
    assert older["subscription_details"]["metadata"]["quote_id"] == "Q-7"
    assert older["payment_intent"] == intent["id"]
    assert intent["invoice"] == older["id"]
    assert "parent" not in older


def test_the_fields_are_those_of_real_objects() -> None:
    """Against recorded answers of the API of 2026-03-25.dahlia: what they have, ours have, expansions apart."""
    folder = os.environ.get("STRIPE_PAYLOADS")
    if not folder:
        pytest.skip("STRIPE_PAYLOADS is not set")
    ours = {sent["data"]["object"]["object"]: sent["data"]["object"] for name in LIVES for sent in life(name, 7).events}
    expanded = {"refunds", "payments", "confirmation_secret", "tax", "invoice_credit_balance", "next_invoice_sequence"}
    seen = set()
    for file in Path(folder, "api_responses").glob("pay_dahlia__*.json"):
        real = json.loads(file.read_bytes())
        if (kind := real["object"]) in ours:
            seen.add(kind)
            assert real.keys() - ours[kind].keys() <= expanded, file.name
    assert {"checkout.session", "charge", "payment_intent", "invoice", "invoice_payment"} <= seen


def test_repeated_ids_are_replaced() -> None:
    twice = [event("evt_same", "plan.created", {"object": "plan"}, created=1) for _ in range(3)]
    ids = [sent["id"] for sent in with_fresh_ids(twice)]
    assert ids[0] == "evt_same"
    assert len(set(ids)) == 3


def test_copies_of_the_benchmarks_lives_share_no_id() -> None:
    lives = list(numbered_lives("RUN", 0, 40))
    ids = [event_id for told in lives for event_id, _ in told]
    assert len(set(ids)) == len(ids)
    for told in lives:
        for event_id, payload in told:
            assert json.loads(payload)["id"] == event_id
    subjects = [
        {json.loads(payload)["data"]["object"]["id"] for _, payload in told if b"checkout.session" in payload}
        for told in lives
    ]
    assert len(set.union(*subjects)) == len(lives)
