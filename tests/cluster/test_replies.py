"""The CRM's reply queue is a quorum queue, and its leader dies."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from asyncpg.pool import Pool

from dev.cluster import Cluster
from tests.commands.conftest import nothing_waits
from tests.commands.test_replies import store, told
from tests.conftest import SETTLED_AFTER
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.support.processes import workers

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(180)]

QUORUM: dict[str, Any] = {"x-queue-type": "quorum", "x-overflow": "reject-publish"}
PATIENCE = 30.0  # seconds


async def test_an_answer_arrives_though_the_leader_of_its_queue_is_gone(
    nodes: Cluster, database: Pool, database_url: str
) -> None:
    """INVARIANT: a channel that the queue has refused is not the one that goes on being refused for as long as the node is
    away.
    """
    victim, queue = nodes[2], f"crm-replies-{uuid4().hex[:8]}"
    async with Broker.at(victim.url_of("tests")) as amqp:  # whose node leads what is declared there
        await amqp.channel.queue_declare(queue, durable=True, arguments=QUORUM)
    await asyncio.sleep(SETTLED_AFTER)
    urls = f"{nodes[0].url_of('tests')},{nodes[1].url_of('tests')}"
    async with workers("relay", database_url=database_url, amqp_url=urls) as relay:
        await relay.logged("workers.started")
        try:
            await asyncio.to_thread(victim.kill)
            await store(database, [told(queue, 1)])
            await eventually(lambda: nothing_waits(database), PATIENCE, every=0.2)
            assert not victim.is_running
        finally:
            await asyncio.to_thread(nodes.start)
    async with Broker.at(nodes[0].url_of("tests")) as amqp:
        assert {message.body for message in await amqp.get(queue)} == {told(queue, 1).body}
