"""`python -m web` as a process: its environment, its port, its end; and the whole way from a request to the CRM."""

import asyncio
import json
import signal
import socket
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
from asyncpg.pool import Pool

from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.support.processes import Program, program, workers
from tests.web.conftest import Api, make_token, quote

NO_BROKER = "amqp://guest@127.0.0.1:1/"  # which the API does not need


def web(database_url: str, amqp_url: str = NO_BROKER, **environment: str) -> Any:
    given = {"WEB_HOST": "127.0.0.1", "WEB_PORT": "0", "DATABASE_URL": database_url, "AMQP_URL": amqp_url}
    return program("-m", "web", **(given | environment))


async def address(running: Program) -> str:
    line = json.loads(await running.logged("web.listening", timeout=60))
    return f"http://127.0.0.1:{line['port']}"


async def test_every_fault_of_the_environment_is_said_at_once() -> None:
    wrong = {
        "PUBLIC_URL": "ftp://x",
        "WEB_PORT": "x",
        "CURRENCY_POLICY": "hubspot-1999",
        "STRIPE_CONNECT_CLIENT_ID": "x",
    }
    async with program("-m", "web", **wrong) as running:
        assert await running.ended(60) == 2
    told = "\n".join(running.lines)
    for name in ("DATABASE_URL", "AMQP_URL", "PUBLIC_URL", "WEB_PORT", "CURRENCY_POLICY", "STRIPE_CONNECT_CLIENT_ID"):
        assert name in told
    assert "Traceback" not in told
    query = {"PUBLIC_URL": "https://x.example/?a=b", "AMQP_URL": NO_BROKER, "DATABASE_URL": "postgresql://x/y"}
    async with program("-m", "web", **query) as running:
        assert await running.ended(60) == 2
    assert "PUBLIC_URL must be an address without" in "\n".join(running.lines)


async def test_a_port_that_is_taken_is_exit_1(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with web(database_url, WEB_PORT=str(taken.getsockname()[1])) as running:
            assert await running.ended(60) == 1
    assert "web.cannot_listen" in "\n".join(running.lines)


async def test_it_serves_lets_expire_and_ends_in_good_order(
    database_url: str, database: Pool, session: aiohttp.ClientSession
) -> None:
    token = await make_token(database, "acct_1")
    async with AsyncExitStack() as stack:
        both = [await stack.enter_async_context(web(database_url, PUBLIC_URL="https://q.example/")) for _ in range(2)]
        apis = [Api(session, await address(running), token) for running in both]
        ready = await apis[0].ask("GET", "/readyz")
        assert (ready.status, ready.json) == (200, {"ready": True})
        answers = await asyncio.gather(
            *(api.publish("Q-1", quote(expires_on="2100-01-01")) for api in apis for _ in range(3))
        )
        assert sorted(answer.status for answer in answers) == [200] * 5 + [201]
        assert answers[0].json["url"].startswith("https://q.example/q/")
        await database.execute("UPDATE published_quotes SET expires_at = now()")

        async def expired() -> bool:
            return bool((await apis[1].read("Q-1")).json["state"] == "expired")

        await eventually(expired)
        count = await database.fetchval("SELECT count(*) FROM outbox WHERE event_id = 'quote.expired:Q-1:1'")
        assert count == 1
        async with session.get(f"{apis[0].base}/metrics") as metrics:
            assert 'route="/v1/quotes/{quote_id}"' in await metrics.text()
        for running in both:
            running.signal(signal.SIGTERM)
        assert [await running.ended(20) for running in both] == [0, 0]
        for running in both:
            logged = "\n".join(running.lines)
            assert "web.stopped" in logged
            assert token not in logged
            assert "sal@example.com" not in logged


async def test_from_a_request_to_the_crm(
    database_url: str, database: Pool, amqp: Broker, session: aiohttp.ClientSession
) -> None:
    """The API without a broker of its own; the outbox, the relay, the quotes worker, the queue `crm`."""
    token = await make_token(database, "acct_1")
    where = {"database_url": database_url, "amqp_url": amqp.url}
    async with web(database_url) as front, workers("quotes", "relay", **where):
        api = Api(session, await address(front), token)
        assert (await api.publish("Q-1", quote())).status == 201
        assert (await api.publish("Q-2", quote(payment_enabled=False))).status == 201

        async def status(quote_id: str, wanted: str) -> bool:
            payment = (await api.read(quote_id)).json["payment"]
            return payment is not None and payment["status"] == wanted

        await eventually(lambda: status("Q-1", "pending"), timeout=60)
        await eventually(lambda: status("Q-2", "not_enabled"), timeout=60)
        await api.recall("Q-1")
        await eventually(lambda: status("Q-1", "recalled"), timeout=60)
        told: list[str] = []

        async def all_told() -> bool:
            told.extend(json.loads(message.body)["id"] for message in await amqp.get("crm"))
            return len(told) >= 3

        await eventually(all_told, timeout=30)
        feed = [change["id"] for change in (await api.changes()).json["changes"]]
    assert sorted(told) == sorted(feed) == ["Q-1:1", "Q-1:2", "Q-2:1"]
