"""The door of a workers' process: command line, health, readiness, metrics, shutdown."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import pytest
from asyncpg.pool import Pool

from dev.servers import PostgresControl
from tests.runtime.conftest import event
from tests.runtime.test_outcomes import in_state
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.support.processes import ROOT, Program, workers

Process = Callable[..., AbstractAsyncContextManager[Program]]


async def get(port: int, path: str) -> tuple[int, str]:
    """Status and body of an answer."""
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/{path}") as answer:
        return answer.status, await answer.text()


async def port_of(one: Program) -> int:
    """Where it serves its metrics: it says so, as 0 means any port."""
    return int(json.loads(await one.logged("metrics.served"))["port"])


async def is_ready(port: int, wanted: int = 200) -> bool:
    status, text = await get(port, "readyz")
    assert status == wanted, text
    return True


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m workers arguments…` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "workers", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=30,
    )


def test_help_names_the_workers_and_says_what_they_read() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in (
        "accounts",
        "archive",
        "checkouts",
        "commands",
        "customers",
        "documents",
        "quotes",
        "notifications",
        "relay",
        "all",
        "DATABASE_URL",
    ):
        assert word in done.stdout


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("quotes", "nonsense")])
def test_a_wrong_name_is_exit_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_a_wrong_environment_is_exit_2_and_names_every_fault() -> None:
    done = run("quotes", AMQP_URL="http://x", METRICS_PORT="x", RETRY_SCHEDULE="soon", LOG_LEVEL="loud")
    assert done.returncode == 2
    for name in ("DATABASE_URL", "AMQP_URL", "METRICS_PORT", "RETRY_SCHEDULE", "LOG_LEVEL"):
        assert name in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


async def test_health_readiness_and_metrics(database: Pool, amqp: Broker, process: Process, effects: Any) -> None:
    async with process("relay") as one:
        port = await port_of(one)
        await eventually(lambda: is_ready(port))
        assert (await get(port, "healthz"))[0] == 200
        await amqp.publish(event(1), event(1), event(2, "reject"), event(3, emit=True))
        await in_state(database, "evt_2", "dead")

        async def counted() -> bool:
            _, text = await get(port, "metrics")
            lines = set(text.splitlines())
            assert 'quittance_events_handled_total{queue="quotes"} 3.0' in lines  # what it emitted comes back to it
            assert 'quittance_events_duplicate_total{queue="quotes"} 1.0' in lines
            assert 'quittance_events_dead_lettered_total{queue="quotes",reason="unreadable_payload"} 1.0' in lines
            assert 'quittance_outbox_relayed_total{destination="quittance"} 1.0' in lines
            assert 'quittance_outbox_rows{destination="crm"} 0.0' in lines
            for name in ("batch_events_bucket", "batch_seconds_bucket", "handled_lag_seconds_bucket"):
                assert f"quittance_{name}" in text
            return True

        await eventually(counted, timeout=15)
        assert await one.stop() == 0
        names = {json.loads(line)["event"] for line in one.lines}
        assert {"workers.started", "queue.consuming", "event.dead_lettered", "workers.stopped"} <= names


@pytest.mark.faults
async def test_not_ready_while_postgres_is_away(
    amqp: Broker, process: Process, effects: Any, killable_postgres: PostgresControl
) -> None:
    async with process() as one:
        port = await port_of(one)
        await eventually(lambda: is_ready(port))
        killable_postgres.stop("fast")
        try:
            await amqp.publish(event(1))
            await eventually(lambda: is_ready(port, 503))
            assert (await get(port, "healthz"))[0] == 200, "alive: nobody should restart it for that"
        finally:
            killable_postgres.start()
        await eventually(lambda: is_ready(port))


async def test_a_taken_port_is_a_warning(amqp: Broker, process: Process, effects: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with process(METRICS_PORT=str(taken.getsockname()[1])) as one:
            await one.logged("metrics.not_served")
            await one.logged("queue.consuming")
            assert await one.stop() == 0


async def test_a_batch_that_outlasts_the_grace_is_rolled_back_and_comes_again(
    amqp: Broker, process: Process, effects: Any
) -> None:
    await amqp.publish(event(1, "sleep", seconds=600))
    async with process() as one:
        await one.logged("queue.consuming")
        await eventually(lambda: depth_is(amqp, 0))
        began = time.monotonic()
        code = await one.stop(timeout=20)
        assert code == 0
        assert 8 < time.monotonic() - began < 15
    assert await effects() == []
    await eventually(lambda: depth_is(amqp, 1))


async def depth_is(amqp: Broker, wanted: int) -> bool:
    depth = await amqp.depth("quotes")
    assert depth == wanted
    return True


async def test_every_worker_starts_and_stops_in_one_process(database_url: str, amqp_url: str) -> None:
    environment = {
        "STRIPE_API_KEY": "sk_test_1",
        "STRIPE_API_BASE": "http://127.0.0.1:9",
        "SMTP_URL": "smtp://127.0.0.1:9",
        "MAIL_FROM": "quittance@example.com",
    }
    async with workers("all", database_url=database_url, amqp_url=amqp_url, **environment) as one:
        port = await port_of(one)
        await one.logged("queue.consuming", times=5)
        await eventually(lambda: is_ready(port))
        async with asyncio.timeout(5):
            assert await one.stop() == 0
