"""A private RabbitMQ node: own name, cookie, data and ports, all of it on loopback, with an epmd of its own.

The package's wrapper insists on its own account and folders, so the scripts behind it are called themselves. A node
finds others of the same name through epmd; the random name and the private epmd keep two nodes of one machine apart.
"""

import os
import secrets
import signal
import socket
import subprocess
from pathlib import Path

from dev.places import CannotStart, account, private_file, private_folder
from dev.processes import Ledger
from dev.programs import RabbitPrograms
from dev.server import Server

USER = "quittance"
LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
# Erlang would take every core: a broker that has to share them works for less with half (docs/operations.md).
SCHEDULERS = max(1, (os.cpu_count() or 1) // 2)
CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
default_user = {user}
default_pass = {password}
vm_memory_high_watermark.absolute = 1GB
raft.wal_max_size_bytes = 134217728
"""


class Epmd(Server):
    """Erlang's name service. Started here, or the node would leave one behind that nobody stops."""

    name = "epmd"
    farewell = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))

    def __init__(self, programs: RabbitPrograms, folder: Path, ledger: Ledger, log: Path, *, port: int) -> None:
        super().__init__(folder, ledger, log)
        self.port = port
        self._programs = programs

    def start(self) -> None:
        if self.is_running:
            return
        command = [str(self._programs.epmd), "-address", "127.0.0.1", "-port", str(self.port)]
        self._launch(command, dict(self._programs.environment))
        self._wait_until(lambda: accepts(self.port))


class RabbitMQ(Server):
    name = "RabbitMQ"

    def __init__(
        self,
        programs: RabbitPrograms,
        folder: Path,
        ledger: Ledger,
        log: Path,
        *,
        ports: tuple[int, int, int],
        node: str,
        password: str,
    ) -> None:
        super().__init__(private_folder(folder), ledger, log)
        self.port, self._distribution_port, epmd_port = ports
        self.epmd = Epmd(programs, folder, ledger, log, port=epmd_port)
        self._programs = programs
        self._node = node
        self._password = password

    @property
    def url(self) -> str:
        return self.url_of("")

    def url_of(self, vhost: str) -> str:
        return f"amqp://{USER}:{self._password}@127.0.0.1:{self.port}/{vhost}"

    @property
    def _environment(self) -> dict[str, str]:
        at = self.folder
        return {
            **self._programs.environment,
            "HOME": str(at),
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.epmd.port),
            "ERL_MAX_PORTS": "65536",  # else taken from the limit of open files, which may be a billion
            "ERL_CRASH_DUMP": str(at / "erl_crash.dump"),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONF_ENV_FILE": str(at / "no-such-file"),
            "RABBITMQ_CONFIG_FILE": str(at / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(at / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(at / "data"),
            "RABBITMQ_SCHEMA_DIR": str(at / "schema"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(at / "schema"),
            "RABBITMQ_PID_FILE": str(at / "pid"),
            "RABBITMQ_LOG_BASE": str(at),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{LOOPBACK} +S {SCHEDULERS}:{SCHEDULERS}",
            "RABBITMQ_CTL_ERL_ARGS": LOOPBACK,
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the node, so that our child is the node
        }

    def _configure(self) -> None:
        """Each time: the ports may be others than last time."""
        text = CONFIGURATION.format(port=self.port, user=USER, password=self._password)
        private_file(self.folder / "rabbitmq.conf", text)
        private_file(self.folder / "enabled_plugins", "[].\n")
        cookie = self.folder / ".erlang.cookie"
        if not cookie.exists():
            private_file(cookie, secrets.token_hex(20), mode=0o400)

    def start(self) -> None:
        if self.is_running:
            return
        self._configure()
        self.epmd.start()
        self._launch([str(self._programs.sbin / "rabbitmq-server")], self._environment)
        self._wait_until(lambda: accepts(self.port))
        self.ctl("await_startup")  # the port opens a moment before the node is ready

    def end(self) -> None:
        """For good, with the name service, which stop() leaves for the next start."""
        self.stop()
        self.epmd.stop()

    def ctl(self, *arguments: str, patience: float = 60.0) -> str:
        """rabbitmqctl against this node; what it printed."""
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(self._programs.sbin / "rabbitmqctl"), "--quiet", *arguments],
            **account().popen,
            env=self._environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
        if done.returncode != 0:
            raise CannotStart(f"rabbitmqctl {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def add_vhost(self, name: str) -> str:
        """A name space of its own for a test or a second system; its URL."""
        self.ctl("add_vhost", name)
        self.ctl("set_permissions", "-p", name, USER, ".*", ".*", ".*")
        return self.url_of(name)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
