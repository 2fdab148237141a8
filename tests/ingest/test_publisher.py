"""The publisher by itself, against the real broker: what a lost connection may and may not look like."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dev.servers import BrokerControl
from ingest import connection
from ingest.connection import Connection
from ingest.publisher import NotDurable, Publisher
from quittance.event import Event, decode_envelope, event_of
from tests.ingest.ingress import event_body
from tests.support.polling import eventually


def event(event_id: str) -> Event:
    body = event_body(event_id)
    return event_of(decode_envelope(body), body, time.time())


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    link = Connection(url)
    link.start()
    await asyncio.wait_for(link.begun.wait(), 10)
    try:
        yield link
    finally:
        await link.close()


@pytest.mark.faults
async def test_a_connection_found_dead_refuses_what_waits_and_cancels_nobody(
    amqp_url: str, killable_broker: BrokerControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INVARIANT: a dead peer ends no request without an answer (aiormq told of it by CancelledError)."""
    monkeypatch.setattr(connection, "PROBE_BUDGET", 60.0)  # so that heartbeats are what notices
    async with connected(f"{amqp_url}?heartbeat=1") as link:
        publisher = Publisher(link, budget=60.0)
        await publisher.publish(event("evt_1"))
        await asyncio.to_thread(killable_broker.pause)
        try:
            waiting = [asyncio.create_task(publisher.publish(event(f"evt_{number}"))) for number in range(5)]
            done, _ = await asyncio.wait(waiting, timeout=30)
            assert len(done) == 5
        finally:
            await asyncio.to_thread(killable_broker.resume)
        assert not any(task.cancelled() for task in waiting)
        assert {str(task.exception()) for task in waiting} == {"broker_away"}
        assert all(isinstance(task.exception(), NotDurable) for task in waiting)


@pytest.mark.faults
async def test_a_real_cancellation_stays_one(amqp_url: str, killable_broker: BrokerControl) -> None:
    async with connected(amqp_url) as link:
        publisher = Publisher(link)
        await asyncio.to_thread(killable_broker.pause)
        try:
            waiting = asyncio.create_task(publisher.publish(event("evt_1")))
            await eventually(lambda: publisher._waiting)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        finally:
            await asyncio.to_thread(killable_broker.resume)


async def test_what_was_given_up_does_not_confuse_what_follows(amqp_url: str) -> None:
    """A publish that ran out of its time may still be confirmed; later ones get their own confirms all the same."""
    async with connected(amqp_url) as link:
        hasty, patient = Publisher(link, budget=0.0), Publisher(link)
        for number in range(20):
            with pytest.raises(NotDurable, match="not_confirmed"):
                await hasty.publish(event(f"evt_given_up_{number}"))
            await patient.publish(event(f"evt_{number}"))


async def test_no_more_than_the_cap_wait(amqp_url: str) -> None:
    async with connected(amqp_url) as link:
        publisher = Publisher(link, most_waiting=10)
        results = await asyncio.gather(
            *(publisher.publish(event(f"evt_{number}")) for number in range(25)), return_exceptions=True
        )
        assert [result for result in results if result is None] == [None] * 10
        assert {str(result) for result in results if result is not None} == {"too_many_waiting"}
        await publisher.publish(event("evt_after"))
