"""Three broker nodes: the queues' leader killed, the node that ingest is connected to, and two, which leaves no majority."""

import asyncio
import time
from itertools import pairwise
from typing import Final, cast

from dev.cluster import Cluster
from fire.row import Broken, Row
from fire.system import INGEST, System

VHOST: Final = "/"
ONE_LESS: Final = 5.0  # seconds that the others go on alone
NO_MAJORITY: Final = 8.0
# What a majority had confirmed before may still be on its way to the sender.
ON_ITS_WAY: Final = 0.5
MAJORITY: Final = "two of three nodes are a majority: what they confirm is stored, and nobody waits for the third"


def _nodes(system: System) -> Cluster:
    return cast("Cluster", system.servers.broker)


async def _without(system: System, *numbers: int, seconds: float) -> tuple[float, float]:
    """Kill nodes, and start them again; from when to when they were gone (monotonic)."""
    nodes = _nodes(system)
    await asyncio.gather(*(asyncio.to_thread(nodes[number].kill) for number in numbers))
    killed = time.monotonic()
    try:
        await asyncio.sleep(seconds)
        ended = time.monotonic()
    finally:
        await asyncio.to_thread(nodes.start)
    return killed, ended


def _gap(system: System, since: float, until: float) -> float:
    """The longest time without a 200 between two moments."""
    moments = [since, *(at for at, status in system.stream.answers if since < at < until and status == 200), until]
    return max(later - earlier for earlier, later in pairwise(moments))


async def _leader_killed(system: System) -> None:
    nodes = _nodes(system)
    victim = await asyncio.to_thread(nodes.leader_of, "quotes", vhost=VHOST)
    gone = await _without(system, victim, seconds=ONE_LESS)
    system.notes.append(f"at most {_gap(system, *gone):.2f} s without a 200 while the leader was gone")


async def _own_node_killed(system: System) -> None:
    victim = _nodes(system).connected_to(system.pid(INGEST))
    gone = await _without(system, victim, seconds=ONE_LESS)
    system.notes.append(f"at most {_gap(system, *gone):.2f} s without a 200 while ingest's node was gone")


async def _two_killed(system: System) -> None:
    killed, ended = await _without(system, 1, 2, seconds=NO_MAJORITY)
    stream = system.stream
    if given := stream.answered(200, killed + ON_ITS_WAY, ended):
        raise Broken(f"{given} times 200 without a majority")
    if not stream.answered(503, killed + ON_ITS_WAY, ended):
        raise Broken("no 503 without a majority")


ROWS: Final = (
    Row("cluster-leader-killed", MAJORITY, 30.0, _leader_killed, place="cluster"),
    Row("cluster-ingest-node-killed", MAJORITY, 30.0, _own_node_killed, place="cluster"),
    Row(
        "cluster-two-killed",
        "without a majority no 200 but 503; with one again all goes on",
        45.0,
        _two_killed,
        place="cluster",
    ),
)
