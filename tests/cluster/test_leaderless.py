"""A queue without a leader is named by `quittance doctor`, and what it says to do helps."""

import asyncio
import contextlib
import os
import re
import signal

import pytest

from dev.rabbitmq import RabbitMQ
from dev.servers import Servers
from quittance import broker
from quittance.broker import BrokerAway
from tests.conftest import Topology
from tests.support.cli import Answer, quittance
from workers import WORKERS

pytestmark = [pytest.mark.faults, pytest.mark.slow]

NAMED = "has no leader"


def leaderless(answer: Answer) -> dict[str, str]:
    """Each queue that is said to have no leader, with the cure."""
    return {check["area"].removeprefix("queue "): check["cure"] for check in answer.json if NAMED in check["says"]}


async def break_queue(url: str, name: str, pid: int) -> None:
    """Declare `name` anew, and kill the broker at once: it comes back without having remembered the queue's log."""
    async with broker.connected(url, "test") as connection:
        channel = await broker.open_channel(connection, confirms=False)
        async with broker.calling(broker.CALL_TIMEOUT):
            await channel.queue_delete(name)
            await channel.queue_declare(name, durable=True, arguments=WORKERS[name].QUEUE.arguments())
        os.kill(pid, signal.SIGKILL)


async def test_it_is_named_with_a_cure_that_helps(servers: Servers, killable_broker: object, database_url: str) -> None:
    """The way in which it came about in practice: the only node dies within a moment of the declaration."""
    url = await asyncio.to_thread(servers.add_vhost, "leaderless")
    await asyncio.to_thread(Topology(url).settle)
    environment = {"DATABASE_URL": database_url, "AMQP_URL": url, "STRIPE_WEBHOOK_SECRETS": "whsec_1"}
    assert isinstance(servers.broker, RabbitMQ)
    with contextlib.suppress(BrokerAway):
        await break_queue(url, "documents", servers.broker.pid)
    await asyncio.to_thread(servers.broker.kill)
    await asyncio.to_thread(servers.broker.start)

    found = leaderless(await quittance("doctor", "--json", **environment))
    assert set(found) == {"documents"}
    refused = await quittance("init", **environment)
    assert refused.code == 1
    assert "queue documents does not answer, it may have no leader" in refused.err

    [command] = re.findall(r"`rabbitmqctl (delete_queue -p \S+ \S+)`", found["documents"])
    assert command == "delete_queue -p leaderless documents"
    assert "quittance events replay --queue documents" in found["documents"]
    await asyncio.to_thread(servers.rabbitmqctl, *command.split())
    (await quittance("init", **environment)).ok()
    assert leaderless(await quittance("doctor", "--json", **environment)) == {}
    await asyncio.to_thread(servers.rabbitmqctl, "delete_vhost", "leaderless")
