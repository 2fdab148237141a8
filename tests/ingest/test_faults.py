"""The broker away, blocked, hung or without queues: no 200 that is not durable, no wait without an end, and it heals."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from dev.servers import BrokerControl, Servers
from tests.ingest.ingress import PATH, Answer, Ingress, ask, event_body, in_flight, running, signed
from tests.support.messages import Broker
from tests.support.polling import eventually

AT_ONCE = 1.0  # seconds; "503 at once" leaves room for a busy machine
BUDGET = 4.0


def assert_refused(answer: Answer, *reasons: str, within: float) -> None:
    assert (answer.status, answer.retry_after) == (503, "5"), answer.reason
    assert answer.reason in reasons
    assert answer.seconds < within


@pytest.mark.faults
async def test_with_the_broker_stopped_it_answers_503_at_once_and_is_ready_soon_after_its_return(
    ingress: Ingress, client: aiohttp.ClientSession, killable_broker: BrokerControl
) -> None:
    assert (await ask(client, ingress)).status == 200
    await asyncio.to_thread(killable_broker.stop)
    try:
        for _ in range(20):
            assert_refused(await ask(client, ingress), "broker_away", within=AT_ONCE)
        assert not ingress.is_ready()
        async with client.get(f"{ingress.url}/healthz") as answer:
            assert answer.status == 200, "alive all the same: a restart would mend nothing"
    finally:
        await asyncio.to_thread(killable_broker.start)

    await asyncio.to_thread(ingress.await_ready)
    assert (await ask(client, ingress)).status == 200
    absences = ingress.lines("broker.unusable") + ingress.lines("broker.lost")
    assert 1 <= len(absences) <= 4, "no line for every attempt"


@pytest.mark.faults
async def test_with_the_broker_killed_in_the_middle_every_200_is_in_the_queue(
    ingress: Ingress, amqp_url: str, client: aiohttp.ClientSession, killable_broker: BrokerControl
) -> None:
    """INVARIANT: no 200 while it is not durable."""
    accepted: set[str] = set()
    refused = 0
    ended = asyncio.Event()

    async def send(sender: int) -> None:
        nonlocal refused
        number = 0
        while not ended.is_set():
            number += 1
            answer = await ask(client, ingress, f"evt_{sender}_{number}")
            if answer.status == 200:
                accepted.add(f"evt_{sender}_{number}")
            else:
                assert answer.status == 503
                assert answer.seconds < BUDGET + AT_ONCE
                refused += 1
                await asyncio.sleep(0.01)

    senders = [asyncio.create_task(send(number)) for number in range(16)]
    await eventually(lambda: len(accepted) > 300)
    await asyncio.to_thread(killable_broker.kill)
    await eventually(lambda: refused > 50)
    await asyncio.to_thread(killable_broker.start)
    await asyncio.to_thread(ingress.await_ready)
    before = len(accepted)
    await eventually(lambda: len(accepted) > before + 100)
    ended.set()
    await asyncio.gather(*senders)

    async with Broker.at(amqp_url) as broker:
        stored = {json.loads(message.body)["id"] for message in await broker.get("archive", 10**6)}
    assert accepted <= stored


@pytest.mark.faults
async def test_it_starts_while_the_broker_is_down_and_heals_by_itself(
    amqp_url: str, tmp_path: Path, client: aiohttp.ClientSession, killable_broker: BrokerControl
) -> None:
    await asyncio.to_thread(killable_broker.stop)
    try:
        with running(tmp_path, amqp_url, ready=False) as ingress:
            assert_refused(await ask(client, ingress), "broker_away", within=AT_ONCE)
            assert not ingress.is_ready()
            await asyncio.to_thread(killable_broker.start)
            await asyncio.to_thread(ingress.await_ready)
            assert (await ask(client, ingress)).status == 200
    finally:
        await asyncio.to_thread(killable_broker.start)


@pytest.mark.faults
async def test_with_the_broker_blocked_it_answers_503_and_goes_on_when_the_alarm_ends(
    ingress: Ingress, client: aiohttp.ClientSession, killable_broker: BrokerControl
) -> None:
    """The broker tells of an alarm only to who publishes: the first publish waits out its budget, no other does."""
    await asyncio.to_thread(killable_broker.ctl, "set_vm_memory_high_watermark", "absolute", "1")
    try:
        assert_refused(await ask(client, ingress), "not_confirmed", within=BUDGET + AT_ONCE)
        for _ in range(20):
            assert_refused(await ask(client, ingress), "broker_blocked", within=AT_ONCE)
        assert not ingress.is_ready()
    finally:
        await asyncio.to_thread(killable_broker.ctl, "set_vm_memory_high_watermark", "absolute", "1GB")

    await asyncio.to_thread(ingress.await_ready)
    assert (await ask(client, ingress)).status == 200
    await eventually(lambda: ingress.lines("broker.unblocked"))
    assert not ingress.lines("broker.lost"), "a blocked connection is no lost one"


@pytest.mark.faults
async def test_with_the_broker_hung_it_answers_503_within_its_budget_and_heals(
    ingress: Ingress, client: aiohttp.ClientSession, killable_broker: BrokerControl
) -> None:
    await asyncio.to_thread(killable_broker.pause)
    try:
        answers = await asyncio.gather(*(ask(client, ingress, f"evt_{number}") for number in range(50)))
        for answer in answers:
            assert_refused(answer, "not_confirmed", "broker_away", within=BUDGET + AT_ONCE)
        await eventually(lambda: not ingress.is_ready(), 5)
        assert_refused(await ask(client, ingress), "broker_away", within=AT_ONCE)
    finally:
        await asyncio.to_thread(killable_broker.resume)

    await asyncio.to_thread(ingress.await_ready)
    assert (await ask(client, ingress)).status == 200


@pytest.mark.faults
async def test_while_the_broker_hangs_only_so_many_wait_and_the_others_are_told_at_once(
    ingress: Ingress, client: aiohttp.ClientSession, killable_broker: BrokerControl
) -> None:
    await asyncio.to_thread(killable_broker.pause)
    try:
        answers = await asyncio.gather(*(ask(client, ingress, f"evt_{number}") for number in range(700)))
    finally:
        await asyncio.to_thread(killable_broker.resume)

    assert {answer.status for answer in answers} == {503}
    told = Counter(answer.reason for answer in answers)
    assert told["too_many_waiting"] == 200
    assert told["not_confirmed"] + told["broker_away"] == 500
    await eventually(lambda: accepts(client, ingress), 20)
    assert await in_flight(client, ingress, 0)


async def accepts(client: aiohttp.ClientSession, ingress: Ingress) -> bool:
    """Whether it takes an event now: a broker that has just come back may need longer for the first than it is given."""
    return (await ask(client, ingress)).status == 200


async def test_a_connection_that_is_closed_under_it_costs_no_more_than_a_moment(
    amqp_url: str, tmp_path: Path, client: aiohttp.ClientSession, servers: Servers
) -> None:
    if not servers.managed:
        pytest.skip("AMQP_URL names a server whose connections are not ours to close")
    with running(tmp_path, amqp_url) as ingress:
        await asyncio.to_thread(
            servers.rabbitmqctl, "close_all_connections", "--vhost", amqp_url.rpartition("/")[2], "test"
        )
        await eventually(lambda: ingress.lines("broker.lost"))
        await asyncio.to_thread(ingress.await_ready)
        assert (await ask(client, ingress)).status == 200


async def test_an_event_that_no_queue_takes_is_503(
    fresh_amqp_url: str, tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    """INVARIANT: an unroutable publish is acknowledged by the broker too, and is no 200."""
    with running(tmp_path, fresh_amqp_url) as ingress:
        async with Broker.at(fresh_amqp_url) as broker:
            await broker.channel.queue_unbind("archive", "stripe.events", "#")
            body = event_body("evt_1", "no.worker.wants.it")
            answers = await asyncio.gather(
                *(client.post(ingress.url + PATH, data=body, headers=signed(body)) for _ in range(20))
            )
            for answer in answers:
                assert answer.status == 503
                assert await answer.json() == {"error": "unroutable"}
            await broker.channel.queue_bind("archive", "stripe.events", "#")
        assert (await ask(client, ingress)).status == 200


async def test_without_the_exchange_it_is_not_ready_and_says_what_is_missing(
    fresh_amqp_url: str, tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    with running(tmp_path, fresh_amqp_url) as ingress:
        async with Broker.at(fresh_amqp_url) as broker:
            await broker.channel.exchange_delete("stripe.events")
            assert_refused(await ask(client, ingress), "broker_away", "exchange_missing", within=BUDGET)
            await eventually(lambda: ingress.lines("broker.unusable"))
            assert ingress.lines("broker.unusable")[-1]["reason"] == "exchange_missing"
            assert_refused(await ask(client, ingress), "exchange_missing", within=AT_ONCE)
            assert not ingress.is_ready()

            await broker.channel.exchange_declare("stripe.events", exchange_type="topic", durable=True)
            await broker.channel.queue_bind("archive", "stripe.events", "#")
        await asyncio.to_thread(ingress.await_ready)
        assert (await ask(client, ingress)).status == 200


async def test_a_queue_that_is_full_is_503(fresh_amqp_url: str, tmp_path: Path, client: aiohttp.ClientSession) -> None:
    with running(tmp_path, fresh_amqp_url) as ingress:
        async with Broker.at(fresh_amqp_url) as broker:
            await broker.channel.queue_declare(
                "tiny",
                durable=True,
                arguments={"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"},
            )
            await broker.channel.queue_bind("tiny", "stripe.events", "#")
        answers = [await ask(client, ingress, f"evt_{number}") for number in range(10)]

        assert answers[0].status == 200
        assert_refused(answers[-1], "queue_refused", within=BUDGET)


async def test_it_needs_no_database(ingress: Ingress, client: aiohttp.ClientSession) -> None:
    """It is not even told of one: the environment that the tests give it holds no DATABASE_URL."""
    assert b"DATABASE_URL" not in Path(f"/proc/{ingress.process.pid}/environ").read_bytes()
    assert (await ask(client, ingress)).status == 200
    modules = Path(f"/proc/{ingress.process.pid}/maps").read_text()
    assert "asyncpg" not in modules
