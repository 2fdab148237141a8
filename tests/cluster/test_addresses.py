"""Several addresses in AMQP_URL: taken apart, checked, and the first that answers is used."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from socket import socket

import pytest

from quittance import broker, wire
from quittance.addresses import HEAD_START, first_to_answer, place, split
from quittance.broker import CRM_QUEUE_MAX_BYTES, BrokerAway
from quittance.cli.doctor_broker import check_broker
from quittance.settings import Reader

Attempt = Callable[[str], Awaitable[str]]


@pytest.mark.parametrize(
    ("urls", "wanted"),
    [
        ("amqp://a", ("amqp://a",)),
        ("amqp://a/x,amqp://b/x", ("amqp://a/x", "amqp://b/x")),
        (" amqp://a , amqps://b?heartbeat=5 , ", ("amqp://a", "amqps://b?heartbeat=5")),
        ("amqp://user:pass,word@a/x,amqp://b", ("amqp://user:pass,word@a/x", "amqp://b")),
        ("amqp://a,amqp://a", ("amqp://a",)),
        ("amqp://a,http://b", ("amqp://a", "http://b")),
        ("", ("",)),
    ],
)
def test_split(urls: str, wanted: tuple[str, ...]) -> None:
    assert split(urls) == wanted


def test_a_place_holds_no_secret() -> None:
    assert place("amqp://user:hidden@host:5672/x") == "host:5672/x"
    assert "hidden" not in place("amqp://user:pass@host:hidden/x")


@pytest.mark.parametrize(
    ("urls", "fault"),
    [
        ("", "AMQP_URL is not set"),
        ("http://a", "AMQP_URL must begin with amqp:// or amqps://"),
        ("amqp://a,http://b", "AMQP_URL (address 2) must begin with amqp:// or amqps://"),
        ("amqp://a:x,amqp://b,amqp:///c", "AMQP_URL (address 1) is no address; AMQP_URL (address 3) names no host"),
    ],
)
def test_each_address_is_checked(urls: str, fault: str) -> None:
    reader = Reader({"AMQP_URL": urls})
    reader.amqp_url()
    assert "; ".join(reader.faults) == fault


def test_good_addresses_pass() -> None:
    reader = Reader({"AMQP_URL": "amqp://u:p@a:5672/x,amqps://u:p@b:5671/x"})
    assert split(reader.amqp_url()) == ("amqp://u:p@a:5672/x", "amqps://u:p@b:5671/x")
    assert reader.faults == []


async def take(attempt: Attempt, urls: str = "x://a,x://b,x://c") -> tuple[str, list[str]]:
    """What is taken, and what is let go of once its answer comes too late."""
    dropped: list[str] = []

    async def drop(answer: str) -> None:
        dropped.append(answer)

    return await first_to_answer(urls, attempt, drop, BrokerAway), dropped


async def test_the_first_is_asked_alone_and_one_that_refuses_is_passed_over_at_once() -> None:
    asked: list[str] = []

    async def attempt(url: str) -> str:
        asked.append(url)
        if url == "x://a":
            raise BrokerAway("refused")
        return url

    began = time.monotonic()
    assert (await take(attempt))[0] == "x://b"
    assert time.monotonic() - began < HEAD_START / 2
    assert asked == ["x://a", "x://b"]


async def test_one_that_is_silent_is_overtaken_and_let_go() -> None:
    let_go = asyncio.Event()

    async def attempt(url: str) -> str:
        if url == "x://a":
            try:
                await asyncio.Event().wait()
            finally:
                let_go.set()
        return url

    began = time.monotonic()
    assert (await take(attempt))[0] == "x://b"
    assert HEAD_START * 0.9 < time.monotonic() - began < HEAD_START + 1
    async with asyncio.timeout(1):
        await let_go.wait()


async def test_where_none_answers_each_one_is_named() -> None:
    async def attempt(url: str) -> str:
        raise BrokerAway(f"refused by {url[-1]}")

    with pytest.raises(BrokerAway, match=r"a: refused by a; b: refused by b; c: refused by c"):
        await take(attempt)


async def test_a_cancellation_lets_go_of_all() -> None:
    running: set[str] = set()
    all_gone = asyncio.Event()

    async def attempt(url: str) -> str:
        running.add(url)
        try:
            await asyncio.Event().wait()
        finally:
            running.discard(url)
            if not running:
                all_gone.set()
        return url

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(HEAD_START + 0.2):
            await take(attempt)
    async with asyncio.timeout(1):
        await all_gone.wait()


async def test_both_clients_pass_over_what_refuses_and_what_is_silent(amqp_url: str) -> None:
    with closing(socket()) as refuses, closing(socket()) as silent:
        refuses.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        urls = ",".join([*(f"amqp://127.0.0.1:{one.getsockname()[1]}/" for one in (refuses, silent)), amqp_url])
        began = time.monotonic()
        async with wire.connected(urls, "test", confirms=True) as channel:
            assert not channel.lost.done()
        async with broker.connected(urls, "test") as connection:
            assert not connection.is_closed
        assert time.monotonic() - began < 2 * HEAD_START + 2


async def test_doctor_names_a_node_that_is_gone(amqp_url: str) -> None:
    checks = await check_broker(f"amqp://user:hidden@127.0.0.1:1/tests,{amqp_url}", CRM_QUEUE_MAX_BYTES, probe=False)
    [gone] = [check for check in checks if check.state == "warning" and check.area == "broker"]
    assert gone.says.startswith("127.0.0.1:1/tests does not answer")
    assert "hidden" not in gone.says
    assert any(check.says == f"{place(amqp_url)} answers" for check in checks)
    assert any("the login is accepted" in check.says for check in checks)
