"""A private cluster of three RabbitMQ nodes on loopback: what one node does in dev/servers.py, three do here.

    with cluster("test") as nodes:
        nodes.urls("/a-vhost")                 # one address for each node, comma-separated: what AMQP_URL takes
        nodes[nodes.leader_of("quotes", vhost="tests")].kill()
        nodes.start()                          # whatever is down, side by side

The nodes share a cookie and one name service of their own, and have random names: two clusters of one machine, or what a
killed one has left behind, never find each other. A node that sees no majority pauses itself (pause_minority): with two
of three gone, the third answers nobody.
"""

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from dev.places import CannotStart, Instance, free_ports, instance, private_file, private_folder
from dev.processes import Ledger
from dev.programs import RabbitPrograms
from dev.rabbitmq import USER, Epmd, RabbitMQ
from dev.setup import ensure_programs

SIZE: Final = 3
CONFIGURATION: Final = """\
cluster_formation.peer_discovery_backend = classic_config
cluster_partition_handling = pause_minority
net_ticktime = 15
"""
# Three that start side by side on a busy machine; each waits for the others' tables.
PATIENCE: Final = 120.0


class Node(RabbitMQ):
    """One of several: cookie, password and name service are the cluster's."""

    def __init__(  # noqa: PLR0917
        self,
        programs: RabbitPrograms,
        folder: Path,
        ledger: Ledger,
        log: Path,
        epmd: Epmd,
        names: list[str],
        number: int,
        *,
        password: str,
        cookie: str,
    ) -> None:
        listens, distribution = free_ports(2)
        ports = (listens, distribution, epmd.port)
        super().__init__(programs, folder, ledger, log, ports=ports, node=names[number], password=password)
        self.name = names[number]  # the ledger knows processes by name
        self.epmd = epmd
        self._names = names
        self._cookie = cookie

    def _configure(self) -> None:
        cookie = self.folder / ".erlang.cookie"
        if not cookie.exists():
            private_file(cookie, self._cookie, mode=0o400)
        super()._configure()
        peers = "".join(
            f"cluster_formation.classic_config.nodes.{number} = {name}\n" for number, name in enumerate(self._names, 1)
        )
        file = self.folder / "rabbitmq.conf"
        private_file(file, file.read_text() + CONFIGURATION + peers)

    def start(self) -> None:
        """Blocks until it is one of a majority: where two are down, start both at once."""
        if self.is_running:
            return
        self._configure()
        self._launch([str(self._programs.sbin / "rabbitmq-server")], self._environment)
        self._wait_until(self.pid_file.exists, PATIENCE)
        self.ctl("await_startup", patience=PATIENCE)

    def kill(self) -> None:
        super().kill()
        self.pid_file.unlink(missing_ok=True)

    @property
    def pid_file(self) -> Path:
        return self.folder / "pid"


class Cluster:
    """The nodes, by number."""

    def __init__(self, nodes: list[Node], epmd: Epmd) -> None:
        self.nodes = nodes
        self._epmd = epmd

    def __getitem__(self, number: int) -> Node:
        return self.nodes[number]

    def urls(self, vhost: str = "") -> str:
        """The nodes' addresses, comma-separated."""
        return ",".join(node.url_of(vhost) for node in self.nodes)

    def start(self) -> None:
        """Start what is down, side by side, and return when all of it serves."""
        self._epmd.start()
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            for started in [pool.submit(node.start) for node in self.nodes]:
                started.result()

    def stop(self) -> None:
        """All of them; what they hold stays."""
        for node in self.nodes:
            node.stop()

    def kill(self) -> None:
        """All of them at once."""
        for node in self.nodes:
            node.kill()

    def pause(self) -> None:
        """As of one node: connections stay, nothing answers."""
        for node in self.nodes:
            node.pause()

    def resume(self) -> None:
        """What is paused."""
        for node in self.nodes:
            node.resume()

    def end(self) -> None:
        """For good, and without ceremony: nothing of it is kept."""
        self.kill()
        self._epmd.stop()

    def ctl(self, *arguments: str) -> str:
        """rabbitmqctl against any node that runs."""
        for node in self.nodes:
            if node.is_running:
                return node.ctl(*arguments)
        raise CannotStart("no node of the cluster runs")

    def add_vhost(self, name: str) -> str:
        """Another name space; its addresses."""
        self.ctl("add_vhost", name)
        self.ctl("set_permissions", "-p", name, USER, ".*", ".*", ".*")
        return self.urls(name)

    def leaders(self, vhost: str) -> dict[str, int]:
        """Of each quorum queue of a vhost, the number of the node that leads it; -1 for one that none leads."""
        listed = json.loads(self.ctl("list_queues", "-p", vhost, "name", "leader", "--formatter", "json"))
        numbers = {node.name: number for number, node in enumerate(self.nodes)}
        return {queue["name"]: numbers.get(queue["leader"], -1) for queue in listed if "leader" in queue}

    def leader_of(self, queue: str, *, vhost: str) -> int:
        """The number of the node that leads `queue`."""
        return self.leaders(vhost)[queue]

    def connected_to(self, pid: int) -> int:
        """The number of the one node that a process has connections to."""
        ports = {node.port: number for number, node in enumerate(self.nodes)}
        connections = psutil.Process(pid).net_connections()
        peers = {getattr(one.raddr, "port", 0) for one in connections if one.status == psutil.CONN_ESTABLISHED}
        (found,) = peers & ports.keys()
        return ports[found]


def build(at: Instance) -> Cluster:
    _, programs = ensure_programs()
    logs = at.folder / "log"
    logs.mkdir(exist_ok=True)
    (epmd_port,) = free_ports(1)
    suffix, password, cookie = secrets.token_hex(4), secrets.token_urlsafe(18), secrets.token_hex(20)
    names = [f"q{suffix}n{number}@localhost" for number in range(1, SIZE + 1)]
    epmd = Epmd(programs, private_folder(at.folder / "epmd"), at.ledger, logs / "epmd.log", port=epmd_port)
    nodes = [
        Node(
            programs,
            at.folder / f"node{number + 1}",
            at.ledger,
            logs / f"node{number + 1}.log",
            epmd,
            names,
            number,
            password=password,
            cookie=cookie,
        )
        for number in range(SIZE)
    ]
    return Cluster(nodes, epmd)


@contextmanager
def cluster(purpose: str = "cluster") -> Iterator[Cluster]:
    """Three nodes until the block ends, however this process ends. Nothing is kept but their logs."""
    with instance(purpose, keep=False) as at:
        nodes = build(at)
        try:
            nodes.start()
            yield nodes
        finally:
            nodes.end()
