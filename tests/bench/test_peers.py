"""What `make peers` counts and answers; the comparison itself is a program to run, not a test."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from bench.bodies import numbered_lives, templates
from bench.peers.catalogue import ALL
from bench.peers.environments import ENGINE, LOCK
from bench.peers.peer import Check, Peer, every, once
from bench.peers.report import entry
from bench.peers.rounds import Comparison, Figures
from bench.peers.stripe_stub import Objects

RUN = "STUBP0"


def figures(rate: float) -> Figures:
    return Figures(
        accepted_rate=2 * rate, processed_rate=rate, p50=0.01, p99=0.1, cpu=100.0, servers_cpu=50.0, refused=0
    )


def test_each_event_of_a_run_is_counted() -> None:
    sent = [event for told in numbered_lives(RUN, 0, 6) for event in told]
    assert Check("events", "", every).expected(RUN, 6) == len(sent)
    assert Check("sessions", "", once("checkout.session.completed")).expected(RUN, 6) == 6
    assert Check("subscriptions", "", once("customer.subscription.created")).expected(RUN, 6) == 3


def test_the_stub_knows_each_object_as_its_last_event_told_it() -> None:
    objects = Objects([RUN])
    for told in numbered_lives(RUN, 7, 2):
        last = {}
        for _, body in told:
            thing = msgspec.json.decode(body)["data"]["object"]
            last[thing["id"]] = thing
        for identifier, thing in last.items():
            assert objects.find(thing["object"], identifier) == thing


def test_the_stub_makes_up_what_no_event_tells_of() -> None:
    assert Objects([RUN]).find("product", "prod_000000000001")["object"] == "product"


@pytest.mark.parametrize("peer", ALL, ids=lambda peer: peer.name)
def test_medians_are_compared(peer: Peer) -> None:
    made = Comparison(ours=[figures(rate) for rate in (1_000, 90, 800)], theirs=[figures(rate) for rate in (9, 10, 99)])
    compared = entry(peer, made)
    assert compared.ratio == 80
    assert compared.met is True
    assert compared.ours_processed_rate == 800


def test_every_package_of_a_peer_has_a_hash_and_no_address() -> None:
    packages = re.split(r"\n(?=\S)", LOCK.read_text().strip())
    assert all("--hash=sha256:" in package for package in packages)
    locked = json.loads(Path(ENGINE, "package-lock.json").read_text())["packages"]
    assert all("integrity" in package for name, package in locked.items() if name)
    for text in (LOCK.read_text(), Path(ENGINE, "package-lock.json").read_text()):
        assert "://" not in text


def test_every_event_type_of_a_check_is_sent() -> None:
    types = {each.type for told in templates(RUN) for each in told}
    for peer in ALL:
        for check in peer.checks:
            assert any(map(check.of, types)), f"{peer.name}: {check.what}"
