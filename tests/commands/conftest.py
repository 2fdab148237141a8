"""A CRM that prefers messages: it publishes commands, and reads its answers from a queue of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from aiormq.exceptions import ChannelClosed
from asyncpg.pool import Pool
from pamqp.commands import Basic

from quittance import broker
from quittance.broker import CRM_COMMANDS
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.web.conftest import PUBLIC_URL, line, make_token, quote
from workers import commands
from workers.runtime import dead_letters, redelivery
from workers.runtime.consumer import Consumer
from workers.runtime.relay import Relay

__all__ = ["line", "make_token", "quote"]

PUBLISH = "quote.published"
RECALL = "quote.recalled"
SCHEDULE = (0.05, 0.05)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    type: str
    json: Any
    correlation_id: str | None
    message_id: str
    about: Basic.Properties

    @property
    def accepted(self) -> bool:
        return self.type == "quote.accepted"

    @property
    def code(self) -> str:
        """Why it was refused."""
        assert self.type == "quote.refused", self.json
        return str(self.json["code"])


@dataclass
class Crm:
    """Somebody with a token (or without) and a queue for answers."""

    broker: Broker
    token: str | None
    replies: str
    arrived: list[Answer] = field(default_factory=list)

    async def send(
        self,
        key: str,
        body: Any,
        *,
        headers: dict[str, Any] | None = None,
        exchange: str = CRM_COMMANDS,
        **properties: Any,
    ) -> str:
        """Publish a command; its message id. `properties` over the usual ones; None leaves one out."""
        given = {"message_id": uuid4().hex, "reply_to": self.replies, "content_type": "application/json", **properties}
        of_token = {} if self.token is None else {"authorization": f"Bearer {self.token}"}
        about = Basic.Properties(headers={**of_token, **(headers or {})}, delivery_mode=2, **given)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        await broker.publish(self.broker.channel, exchange, key, data, about, 10)
        return str(about.message_id)

    async def publish(self, quote_id: str, content: Any, **properties: Any) -> str:
        return await self.send(PUBLISH, {"quote_id": quote_id, "quote": content}, **properties)

    async def recall(self, quote_id: str, revision: int | None = None, **properties: Any) -> str:
        named = {} if revision is None else {"revision": revision}
        return await self.send(RECALL, {"quote_id": quote_id, **named}, **properties)

    async def answers(self, number: int, timeout: float = 15.0) -> list[Answer]:  # noqa: ASYNC109
        """Wait for that many in all, and take them."""

        async def enough() -> bool:
            self.arrived += await answers_in(self.broker, self.replies)
            assert len(self.arrived) >= number, [(one.type, one.json) for one in self.arrived]
            return True

        await eventually(enough, timeout)
        taken, self.arrived = self.arrived[:number], self.arrived[number:]
        return taken

    async def answer(self) -> Answer:
        """Wait for the next."""
        (one,) = await self.answers(1)
        return one

    async def asked(self, key: str, body: Any, **properties: Any) -> Answer:
        """Publish a command, and wait for its answer."""
        await self.send(key, body, **properties)
        return await self.answer()

    async def published(self, quote_id: str, content: Any, **properties: Any) -> Answer:
        return await self.asked(PUBLISH, {"quote_id": quote_id, "quote": content}, **properties)

    async def nothing_more(self) -> bool:
        """Whether no answer is there."""
        self.arrived += await answers_in(self.broker, self.replies)
        return not self.arrived


async def answers_in(open_broker: Broker, queue: str) -> list[Answer]:
    """Take what a queue for answers holds now."""
    taken: list[Answer] = []
    while True:
        got = await open_broker.channel.basic_get(queue, no_ack=True)
        if got.delivery_tag is None:
            return taken
        about = got.header.properties
        taken.append(
            Answer(about.message_type or "", json.loads(got.body), about.correlation_id, about.message_id or "", about)
        )


# `crm = await connect("acct_1", "publish", live=True)`
Connect = Callable[..., Any]


@pytest.fixture
async def reply_queue(amqp: Broker) -> AsyncIterator[Callable[..., Any]]:
    """`name = await reply_queue(**arguments)`: a queue for answers, gone after the test."""
    made: list[str] = []

    async def make(**arguments: Any) -> str:
        name = f"crm-replies-{uuid4().hex[:8]}"
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        await amqp.channel.queue_declare(name, durable=True, arguments=arguments)
        made.append(name)
        return name

    yield make
    async with Broker.at(amqp.url) as other:
        for name in made:
            try:
                await other.channel.queue_delete(name)
            except ChannelClosed:
                break


@pytest.fixture
def connect(amqp: Broker, database: Pool, reply_queue: Callable[..., Any]) -> Connect:
    async def made(account: str = "acct_1", *permissions: str, live: bool = False) -> Crm:
        token = await make_token(database, account, *permissions, live=live)
        return Crm(amqp, token, await reply_queue())

    return made


@pytest.fixture
async def crm(connect: Connect) -> Crm:
    """Somebody of account acct_1 in test mode."""
    made: Crm = await connect()
    return made


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the worker reads: web's address in these tests."""
    monkeypatch.setenv("PUBLIC_URL", PUBLIC_URL)
    commands.settings.cache_clear()


Running = Callable[..., AbstractAsyncContextManager[Consumer]]


@pytest.fixture
def running(database: Pool, amqp: Broker) -> Running:
    """`async with running(): …`: the worker, the relay of its answers, redelivery and dead letters in this process."""

    @asynccontextmanager
    async def run(
        schedule: tuple[float, ...] = SCHEDULE, *, relay: bool = True, workers: int = 1
    ) -> AsyncIterator[Consumer]:
        stopping = asyncio.Event()
        url, intakes = amqp.url, {commands.QUEUE.name: commands.INTAKE}
        consumers = [
            Consumer(commands.QUEUE, commands.handle, database, url, schedule, stopping, commands.INTAKE)
            for _ in range(workers)
        ]
        loops = [
            *(consumer.run() for consumer in consumers),
            redelivery.run(database, url, stopping),
            dead_letters.consume(database, url, stopping, intakes),
        ]
        relays = [Relay("replies", database, url, stopping)] if relay else []
        loops += [one.run() for one in relays]
        waking = asyncio.create_task(_wake(relays, stopping))
        tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            yield consumers[0]
        finally:
            stopping.set()
            for one in relays:
                one.wake()
            async with asyncio.timeout(15):
                await asyncio.gather(*tasks, waking)

    return run


async def _wake(relays: list[Relay], stopping: asyncio.Event) -> None:
    """As the listener does in a process, only more often."""
    while not stopping.is_set():
        for one in relays:
            one.wake()
        await asyncio.sleep(0.02)


async def nothing_waits(database: Pool) -> bool:
    """Whether every answer was published or dropped."""
    left = await database.fetchval("SELECT count(*) FROM outbox WHERE destination = 'replies'")
    assert left == 0, left
    return True


async def dead_letter(database: Pool) -> Any:
    """Wait for the one dead letter that there is; its row."""

    async def found() -> Any:
        rows = await database.fetch("SELECT * FROM failed_deliveries WHERE state = 'dead'")
        assert len(rows) == 1, rows
        return rows[0]

    return await eventually(found)


async def everything(database: Pool) -> str:
    """All that the database holds, but api_tokens, as text."""
    tables = await database.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition AND relname <> 'api_tokens'"
    )
    found = []
    for table in tables:
        rows = await database.fetch(f"SELECT * FROM {table['relname']}")
        found += [
            " ".join(value.decode("latin1") + value.hex() if isinstance(value, bytes) else str(value) for value in row)
            for row in rows
        ]
    return "\n".join(found)
