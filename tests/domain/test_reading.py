"""Reading only what is used must not lose what is used."""

import json
from pathlib import Path

import pytest

from dev.lives import LIVES, life
from dev.stripe_events import SHAPES
from quittance.domain.facts import facts_of
from quittance.domain.tracked import Seen
from quittance.errors import Rejected
from quittance.event import Event, data_of, decode_envelope, event_of
from tests.support.random_lives import as_event
from workers.quotes import FACTS


def facts_by_both(event: Event) -> tuple[object, object]:
    seen = Seen(event.created, event.id, event.type)
    return facts_of(seen, *FACTS.read(event.body)), facts_of(seen, *data_of(event))


@pytest.mark.parametrize("name", LIVES)
def test_the_fields_that_are_read_are_all_that_the_facts_need(name: str) -> None:
    for shape in SHAPES:
        for sent in life(name, 1, shape=shape).events:
            some, whole = facts_by_both(as_event(sent))
            assert some == whole, sent["type"]


def test_real_payloads_read_the_same_in_part_and_as_a_whole(payloads: Path) -> None:
    compared = 0
    for file in sorted(payloads.glob("*.json")):
        raw = json.dumps(json.loads(file.read_bytes())).encode()
        event = event_of(decode_envelope(raw), raw, 0.0)
        try:
            some, whole = facts_by_both(event)
        except Rejected:
            continue
        compared += 1
        assert some == whole, file.name
    assert compared > 150


def test_an_object_of_odd_types_is_read_as_a_whole() -> None:
    raw = b'{"id":"evt_1","type":"charge.succeeded","data":{"object":{"id":"ch_1"},"previous_attributes":[]}}'
    assert FACTS.read(raw) == ({"id": "ch_1"}, {})
