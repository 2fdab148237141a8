"""Three broker nodes, one or two of them killed under a steady stream: what was answered 200 has its effects, all of it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from asyncpg.pool import Pool

from dev.cluster import Cluster
from tests.cluster.sender import Sender
from tests.ingest.ingress import Ingress
from tests.ingest.ingress import running as ingress_running
from tests.support.polling import eventually
from tests.support.processes import workers

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(180)]

GAP = 1.0  # seconds without a 200 when one of three dies (issue 4)
RECOVERY = 30.0  # seconds until all works again, once a majority is back
STEADY = 1.5  # seconds of stream before and after a fault

ARCHIVED = "SELECT event_id FROM events"
HANDLED = "SELECT event_id FROM inbox WHERE queue = 'quotes'"
WRONG = "SELECT event_id, reason, error FROM failed_deliveries"


@pytest.fixture
def urls(nodes: Cluster) -> str:
    return nodes.urls("tests")


class Running:
    """Ingress, workers, relay and a sender."""

    def __init__(self, ingress: Ingress, sender: Sender, database: Pool) -> None:
        self.ingress = ingress
        self.sender = sender
        self._database = database

    async def steady(self, seconds: float = STEADY) -> None:
        """Return after some time of stream."""
        begun, until = len(self.sender.accepted), time.monotonic() + seconds
        await eventually(lambda: time.monotonic() > until and len(self.sender.accepted) > begun + 20, RECOVERY)

    async def check(self, within: float) -> None:
        """All that was accepted is archived and handled, and nothing failed."""
        accepted = set(self.sender.accepted)

        async def lost(query: str) -> bool:
            missing = accepted - {row[0] for row in await self._database.fetch(query)}
            assert not missing, f"{len(missing)} of {len(accepted)}, such as {sorted(missing)[:3]}"
            return True

        await eventually(lambda: lost(ARCHIVED), within, every=0.2)
        await eventually(lambda: lost(HANDLED), within, every=0.2)
        assert await self._database.fetch(WRONG) == []


@asynccontextmanager
async def system(nodes: Cluster, urls: str, database: Pool, database_url: str, folder: Path) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        ingress = stack.enter_context(ingress_running(folder, urls))
        one = await stack.enter_async_context(
            workers("archive", "quotes", "documents", "relay", database_url=database_url, amqp_url=urls)
        )
        await one.logged("queue.consuming", times=3)
        sender = Sender(ingress, uuid4().hex[:6])
        async with sender.running():
            running = Running(ingress, sender, database)
            await running.steady()
            try:
                yield running
            finally:
                await asyncio.to_thread(nodes.start)  # or what was begun would never be accepted
        await running.check(RECOVERY)


async def test_the_queues_leader_is_killed(
    nodes: Cluster, urls: str, database: Pool, database_url: str, tmp_path: Path
) -> None:
    """Ingress is connected to another node: every event is confirmed by the two that are left."""
    victim = await asyncio.to_thread(nodes.leader_of, "quotes", vhost="tests")
    # Its address stands last, so that it is the leader that is lost and not the connection too.
    others = ",".join(node.url_of("tests") for node in nodes.nodes if node is not nodes[victim])
    async with system(nodes, f"{others},{nodes[victim].url_of('tests')}", database, database_url, tmp_path) as it:
        killed_at = time.monotonic()
        await asyncio.to_thread(nodes[victim].kill)
        await it.steady(2)
        gap = it.sender.longest_gap(killed_at, time.monotonic())
        print(f"leader killed: {gap:.3f} s without a 200, {len(it.sender.refused)} refused")
        assert gap < GAP
        assert await asyncio.to_thread(nodes.leader_of, "quotes", vhost="tests") not in (victim, -1)
        assert not it.sender.refused, "the connection was to another node: no event had to be sent twice"


async def test_the_node_that_ingest_is_connected_to_is_killed(
    nodes: Cluster, urls: str, database: Pool, database_url: str, tmp_path: Path
) -> None:
    """It moves on to the next address at once."""
    async with system(nodes, urls, database, database_url, tmp_path) as it:
        victim = nodes.connected_to(it.ingress.process.pid)
        killed_at = time.monotonic()
        await asyncio.to_thread(nodes[victim].kill)
        await it.steady(2)
        gap = it.sender.longest_gap(killed_at, time.monotonic())
        print(f"ingest's node killed: {gap:.3f} s without a 200, {len(it.sender.refused)} refused")
        assert gap < 2 * GAP
        assert nodes.connected_to(it.ingress.process.pid) != victim


async def test_the_node_is_killed_that_leads_the_queues_and_that_all_are_connected_to(
    nodes: Cluster, urls: str, database: Pool, database_url: str, tmp_path: Path
) -> None:
    """INVARIANT: who comes back before another leads, and is refused, is not refused for as long as the node is away."""
    victim = await asyncio.to_thread(nodes.leader_of, "quotes", vhost="tests")
    await asyncio.to_thread(lead_all, nodes, victim)
    first = sorted(nodes.nodes, key=lambda node: node is not nodes[victim])
    addresses = ",".join(node.url_of("tests") for node in first)
    async with system(nodes, addresses, database, database_url, tmp_path) as it:
        assert nodes.connected_to(it.ingress.process.pid) == victim
        killed_at = time.monotonic()
        await asyncio.to_thread(nodes[victim].kill)
        await it.steady(3)
        gap = it.sender.longest_gap(killed_at, time.monotonic())
        print(f"leader and connection killed: {gap:.3f} s without a 200, {len(it.sender.refused)} refused")
        assert gap < RECOVERY / 3
        await it.check(RECOVERY)
        assert not nodes[victim].is_running
        left = "SELECT count(*) FROM outbox"
        await eventually(lambda: relayed(database, left), RECOVERY, every=0.2)


def lead_all(nodes: Cluster, number: int) -> None:
    """Make a node the leader of every queue, as after a first start."""
    others = [node for node in nodes.nodes if node is not nodes[number]]
    for node in others:
        node.stop()
        node.start()


async def relayed(database: Pool, statement: str) -> bool:
    """Whether nothing waits in the outbox."""
    return bool(await database.fetchval(statement) == 0)


async def test_two_of_three_are_killed(
    nodes: Cluster, urls: str, database: Pool, database_url: str, tmp_path: Path
) -> None:
    """INVARIANT: without a majority there is no 200; with one again, all goes on."""
    async with system(nodes, urls, database, database_url, tmp_path) as it:
        await asyncio.gather(*(asyncio.to_thread(nodes[number].kill) for number in (1, 2)))
        # What had been confirmed by then may still be on its way to the sender.
        killed_at = time.monotonic() + 0.2
        await eventually(lambda: it.sender.refused_since(killed_at + 5), 20)
        assert it.sender.accepted_between(killed_at, time.monotonic()) == 0
        await asyncio.to_thread(nodes.start)
        up_at = time.monotonic()
        await it.steady(0.5)
        print(f"two of three killed: a 200 again {time.monotonic() - up_at:.1f} s after they were up")
