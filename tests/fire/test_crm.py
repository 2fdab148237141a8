"""The CRM of the fault suite notices what is told in another order, or in other words."""

from typing import Any, cast

import msgspec

from fire.crm import Crm
from quittance.wire import Delivery, Wire


class Acked:
    def __init__(self) -> None:
        self.tags: list[int] = []

    def ack(self, tag: int, *, multiple: bool) -> None:
        assert not multiple
        self.tags.append(tag)


class Told:
    def __init__(self, tag: int, quote: str, sequence: int, text: str = "") -> None:
        self.tag = tag
        told: dict[str, Any] = {"id": f"{quote}:{sequence}", "subject": quote, "sequence": f"{sequence:010}"}
        self.body = msgspec.json.encode({**told, "text": text})


def heard(*told: Told) -> Crm:
    crm, channel = Crm(), Acked()
    for one in told:
        crm.take(cast("Wire", channel), cast("Delivery", one))
    assert channel.tags == [one.tag for one in told]
    return crm


def test_what_comes_in_order_and_what_comes_again_is_right() -> None:
    crm = heard(Told(1, "Q-1", 1), Told(2, "Q-1", 2), Told(3, "Q-2", 1), Told(4, "Q-1", 1), Told(5, "Q-1", 3))
    assert crm.overtaken == set()
    assert crm.sequences == {"Q-1": {1, 2, 3}, "Q-2": {1}}
    assert all(len(bodies) == 1 for bodies in crm.bodies.values())


def test_a_number_that_was_overtaken_is_noticed() -> None:
    assert heard(Told(1, "Q-1", 2), Told(2, "Q-1", 1)).overtaken == {"Q-1"}


def test_the_same_number_in_other_words_is_noticed() -> None:
    assert len(heard(Told(1, "Q-1", 1, "a"), Told(2, "Q-1", 1, "b")).bodies["Q-1:1"]) == 2
