"""Commands that fail are parked without their token, and handled when they are sent again."""

import asyncio
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from asyncpg.pool import Pool
from pamqp.commands import Basic

from quittance import publishing
from quittance.cli.tokens import REVOKE
from tests.commands.conftest import Connect, Crm, Running, dead_letter, everything, quote
from tests.support.cli import quittance
from tests.support.messages import Broker
from tests.support.polling import eventually


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Publishing raises, until `broken()` mends it."""
    original = publishing.publish

    async def raises(*_: Any, **__: Any) -> Any:
        raise ValueError("told to raise")

    monkeypatch.setattr(publishing, "publish", raises)
    return lambda: monkeypatch.setattr(publishing, "publish", original)


async def parked(database: Pool) -> Any:
    """Wait for the one failed delivery that waits for its next attempt."""

    async def found() -> Any:
        rows = await database.fetch("SELECT * FROM failed_deliveries WHERE state = 'retrying'")
        assert len(rows) == 1, rows
        return rows[0]

    return await eventually(found)


async def test_a_command_that_failed_is_done_and_answered_when_it_is_sent_again(
    crm: Crm, running: Running, database: Pool, broken: Callable[[], None]
) -> None:
    async with running(schedule=(1.0,)):
        message_id = await crm.publish("Q-1", quote(), correlation_id="c-\x00é")
        row = await parked(database)
        assert (row["account"], row["livemode"], row["reason"]) == ("acct_1", False, "handler_failed")
        assert json.loads(json.loads(row["headers"])["about"])["token_id"] > 0
        broken()
        answer = await crm.answer()
        again = await crm.published("Q-1", quote())
    assert (answer.accepted, answer.correlation_id) == (True, "c-\x00é")
    assert (answer.json["message_id"], answer.json["command"]) == (message_id, "quote.published")
    assert answer.json["outcome"] == "published" and again.json["outcome"] == "unchanged"
    assert await database.fetchval("SELECT state FROM failed_deliveries") == "resolved"
    assert str(crm.token)[9:] not in await everything(database)


async def test_a_token_that_was_revoked_meanwhile_ends_it(
    crm: Crm, running: Running, database: Pool, broken: Callable[[], None]
) -> None:
    async with running(schedule=(1.0,)):
        await crm.publish("Q-1", quote())
        row = await parked(database)
        await database.fetch(REVOKE, [json.loads(json.loads(row["headers"])["about"])["token_id"]])
        broken()
        assert (await crm.answer()).code == "no_token"
    assert await database.fetchval("SELECT count(*) FROM published_quotes") == 0


async def test_two_accounts_fail_with_the_same_message_side_by_side(
    connect: Connect, running: Running, database: Pool, broken: Callable[[], None]
) -> None:
    one, other = await connect("acct_1"), await connect("acct_2")
    async with running(schedule=(1.0,)):
        for each in (one, other):
            await each.publish("Q-1", quote(), message_id="m-1")

        async def both() -> bool:
            rows = await database.fetch("SELECT account FROM failed_deliveries WHERE state = 'retrying' ORDER BY 1")
            return [row[0] for row in rows] == ["acct_1", "acct_2"]

        await eventually(both)
        broken()
        assert (await one.answer()).json["account"] == "acct_1"
        assert (await other.answer()).json["account"] == "acct_2"


async def test_a_dead_command_is_previewed_and_replayed(
    crm: Crm, running: Running, database: Pool, database_url: str, amqp: Broker, broken: Callable[[], None]
) -> None:
    cli = partial(quittance, DATABASE_URL=database_url, AMQP_URL=amqp.url)
    async with running(schedule=()):
        await crm.publish("Q-1", quote())
        row = await dead_letter(database)
        assert row["reason"] == "handler_failed"
        broken()
        preview = (await cli("dead-letters", "replay", str(row["id"]), "--dry-run", "--json")).ok().json
        assert await database.fetchval("SELECT count(*) FROM published_quotes") == 0
        told = [one for one in preview["events"] if one["type"] == "quote.accepted"]
        assert [one["object"]["outcome"] for one in told] == ["published"]
        assert await crm.nothing_more()
        (await cli("dead-letters", "replay", str(row["id"]), "--yes")).ok()
        assert (await crm.answer()).json["outcome"] == "published"


async def test_what_the_broker_gave_up_is_filed_without_its_token_and_tried_once_more(
    crm: Crm, running: Running, database: Pool
) -> None:
    """As it comes from the queue after twenty deaths of the worker."""
    dying = {"x-death": [{"queue": "commands", "count": 1, "reason": "delivery_limit"}]}
    body = {"quote_id": "Q-1", "quote": quote()}
    async with running():
        await crm.send("quote.published", body, exchange="dead-letters", headers=dying)
        assert (await crm.answer()).accepted
        assert str(crm.token)[9:] not in await everything(database)
    row = await database.fetchrow("SELECT account, reason, state, headers FROM failed_deliveries")
    assert row is not None
    assert (row["account"], row["reason"], row["state"]) == ("acct_1", "crashed_worker", "resolved")


# What a client that is not ours may put into a message's properties, and ours cannot read ------------------------------


def short(value: bytes) -> bytes:
    return bytes([len(value)]) + value


def table(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


UNREADABLE: dict[str, dict[str, bytes]] = {
    "a correlation id that is no UTF-8": {"correlation_id": short(b"\xff\xfe")},
    "a message id that is no UTF-8": {"message_id": short(b"\xff" * 255)},
    "a reply_to that is no UTF-8": {"reply_to": short(b"\xff" * 200)},
    "a content type that is no UTF-8": {"content_type": short(b"\xff")},
    "a header's name that is no UTF-8": {"headers": table(short(b"\xff") + b"t\x01")},
    "a time in microseconds": {"timestamp": struct.pack(">Q", 1_790_000_000_000_000)},
    "the last time that there is": {"timestamp": b"\xff" * 8},
    "tables in tables": {"headers": b""},
}


def nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = short(b"a") + b"F" + table(inner)
    return table(inner)


@contextmanager
def marshalled(raw: dict[str, bytes]) -> Iterator[None]:
    """Messages leave this process with these bytes for properties, whatever else they have."""
    original = Basic.Properties.marshal

    def marshal(self: Basic.Properties) -> bytes:
        flags, parts = 0, []
        for name in self.__slots__:
            value = getattr(self, name)
            if name in raw:
                parts.append(raw[name])
            elif value not in (None, ""):
                parts.append(self.encode_property(name, value))
            else:
                continue
            flags |= self.flags[name]
        return struct.pack(">H", flags) + b"".join(parts)

    Basic.Properties.marshal = marshal  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Basic.Properties.marshal = original  # type: ignore[method-assign]


@pytest.mark.parametrize("name", UNREADABLE)
async def test_properties_that_cannot_be_read_end_nobody_s_connection(
    crm: Crm, running: Running, database: Pool, name: str
) -> None:
    """INVARIANT: a stranger's client cannot stop the queue. Broken by a library that raises while it reads a frame: the
    connection ends, the message comes again, and the next connection ends.
    """
    raw = {"headers": nested(2_000)} if name == "tables in tables" else UNREADABLE[name]
    await crm.publish("Q-1", quote())
    with marshalled(raw):
        await crm.publish("Q-odd", quote())
    await crm.publish("Q-2", quote())
    async with running() as consumer:
        answers = await crm.answers(2 if "reply_to" in raw else 3)
        if "reply_to" in raw:
            assert "reply_to_refused" in (await dead_letter(database))["error"]
        await asyncio.sleep(0)
        assert consumer.ready
    told = {answer.json["quote_id"]: answer for answer in answers}
    assert told["Q-1"].accepted and told["Q-2"].accepted
    if "Q-odd" in told:
        odd = told["Q-odd"]
        assert odd.accepted == ("timestamp" in raw), odd.json
