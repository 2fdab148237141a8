"""Processes that come and go: nothing that was begun is left without an answer, and nothing answered is lost."""

import asyncio
import json
import time
from pathlib import Path

import aiohttp
import pytest

from dev.servers import BrokerControl
from tests.ingest.ingress import PATH, Ingress, ask, event_body, in_flight, running, signed
from tests.support.messages import Broker
from tests.support.polling import eventually


async def test_sigterm_under_load_answers_all_that_it_took_and_loses_nothing(
    amqp: Broker, tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    """INVARIANT: what it began to answer it answers; a client that keeps its connection is told to take another."""
    accepted: set[str] = set()
    unanswered: list[str] = []
    with running(tmp_path, amqp.url) as ingress:

        async def send(sender: int) -> None:
            for number in range(100_000):
                event_id = f"evt_{sender}_{number}"
                try:
                    answer = await ask(client, ingress, event_id)
                except aiohttp.ClientConnectorError:
                    return  # it listens no more
                except aiohttp.ClientError as error:
                    unanswered.append(f"{event_id}: {error!r}")
                    return
                assert answer.status == 200
                accepted.add(event_id)

        senders = [asyncio.create_task(send(number)) for number in range(24)]
        await eventually(lambda: len(accepted) > 300)
        started = time.monotonic()
        ingress.process.terminate()
        await asyncio.gather(*senders)
        assert await asyncio.to_thread(ingress.process.wait, 12) == 0
        assert time.monotonic() - started < 10

    assert unanswered == []
    stored = {json.loads(message.body)["id"] for message in await amqp.get("archive", 10**6)}
    assert accepted <= stored
    assert ingress.lines("ingest.stopped")


async def test_who_keeps_a_connection_is_told_that_it_ends(amqp_url: str, tmp_path: Path) -> None:
    with running(tmp_path, amqp_url) as ingress:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as client:
            async with client.get(f"{ingress.url}/readyz") as answer:
                assert answer.status == 200
            ingress.process.terminate()
            await eventually(lambda: ingress.lines("ingest.draining"))
            async with client.get(f"{ingress.url}/readyz") as answer:
                assert (answer.status, (await answer.json())["reason"]) == (503, "draining")
            body = event_body("evt_1")
            async with client.post(ingress.url + PATH, data=body, headers=signed(body)) as answer:
                assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert await asyncio.to_thread(ingress.process.wait, 12) == 0


async def test_a_new_process_accepts_its_first_request(
    amqp_url: str, tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    """It joins others on their port when it can publish, not before."""
    with running(tmp_path, amqp_url, ready=False) as ingress:
        assert (await ask(client, ingress)).status == 200
        said = [json.loads(line)["event"] for line in ingress.text().splitlines()]
        assert said.index("broker.connected") < said.index("ingest.listening")


@pytest.mark.faults
async def test_sigterm_while_the_broker_hangs_ends_within_ten_seconds(
    ingress: Ingress, client: aiohttp.ClientSession, killable_broker: BrokerControl
) -> None:
    await asyncio.to_thread(killable_broker.pause)
    try:
        waiting = [asyncio.create_task(ask(client, ingress, f"evt_{number}")) for number in range(10)]
        async with asyncio.timeout(3):
            while not await in_flight(client, ingress, 10):
                pass
        started = time.monotonic()
        ingress.process.terminate()
        assert await asyncio.to_thread(ingress.process.wait, 12) == 0
        assert time.monotonic() - started < 10
        assert {answer.status for answer in await asyncio.gather(*waiting)} == {503}
    finally:
        await asyncio.to_thread(killable_broker.resume)


async def test_several_processes_share_a_port(amqp: Broker, tmp_path: Path) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as client:
        with (
            running(tmp_path / "1", amqp.url) as first,
            running(tmp_path / "2", amqp.url, INGEST_PORT=str(first.port)) as second,
        ):
            assert second.port == first.port
            for number in range(40):
                assert (await ask(client, first, f"evt_{number}")).status == 200
            assert second.stop() == 0
            for number in range(40, 60):
                assert (await ask(client, first, f"evt_{number}")).status == 200
    assert {json.loads(message.body)["id"] for message in await amqp.get("archive")} == {f"evt_{n}" for n in range(60)}
