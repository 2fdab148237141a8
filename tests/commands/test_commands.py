"""quote.published and quote.recalled as messages: what is done, and what is answered."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asyncpg.pool import Pool
from pamqp.commands import Basic

from quittance.broker import BrokerAway
from tests.commands.conftest import PUBLISH, RECALL, Connect, Crm, Running, dead_letter, line, nothing_waits, quote
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.web.conftest import PUBLIC_URL
from workers.runtime.subscription import Subscription


async def revisions(database: Pool, quote_id: str) -> list[int]:
    rows = await database.fetch("SELECT revision FROM published_quotes WHERE quote_id = $1 ORDER BY revision", quote_id)
    return [row[0] for row in rows]


async def test_a_quote_is_published_and_the_answer_is_the_api_s(crm: Crm, running: Running, database: Pool) -> None:
    async with running():
        message_id = await crm.publish(
            "Q-1", quote(line(billing_frequency="monthly"), currency="EUR"), correlation_id="c/1"
        )
        answer = await crm.answer()
    assert (answer.type, answer.correlation_id) == ("quote.accepted", "c/1")
    assert (answer.about.content_type, answer.about.delivery_mode) == ("application/json", 2)
    told = answer.json
    assert (told["message_id"], told["command"], told["outcome"]) == (message_id, PUBLISH, "published")
    assert (told["quote_id"], told["account"], told["livemode"], told["revision"]) == ("Q-1", "acct_1", False, 1)
    assert told["url"].startswith(f"{PUBLIC_URL}/q/")
    assert (told["totals"]["due"], told["totals"]["recurring"]) == (10_000, 10_000)
    assert [warning["rule"] for warning in told["warnings"]] == ["R8"]
    assert told["state"] == "published" and told["expires_at"] is None
    rows = await database.fetch("SELECT type, routing_key FROM outbox WHERE destination = 'quittance'")
    assert [tuple(row) for row in rows] == [("quote.published", "quote.published")]


async def test_r17_again_changed_and_recalled(crm: Crm, running: Running, database: Pool) -> None:
    async with running():
        first = await crm.published("Q-1", quote())
        again = await crm.published("Q-1", quote())
        other = await crm.published("Q-1", quote(title="Another"))
        await crm.recall("Q-1", 7)
        late = await crm.answer()
        await crm.recall("Q-1", 1)
        recalled = await crm.answer()
        await crm.recall("Q-1")
        twice = await crm.answer()
        second = await crm.published("Q-1", quote(title="Another"))
    assert [one.json["outcome"] for one in (first, again, recalled, twice, second)] == [
        "published",
        "unchanged",
        "recalled",
        "unchanged",
        "published",
    ]
    assert again.json["url"] == first.json["url"] != second.json["url"]
    assert (other.code, other.json["status"], other.json["errors"][0]["rule"]) == (
        "published_with_other_content",
        409,
        "R17",
    )
    assert late.code == "not_the_newest_revision"
    assert (late.json["errors"][0]["given"], late.json["errors"][0]["allowed"]) == (7, 1)
    assert recalled.json["state"] == "recalled" and recalled.json["recalled_at"] is not None
    assert await revisions(database, "Q-1") == [1, 2]


async def test_without_a_correlation_id_the_answer_carries_the_message_s(crm: Crm, running: Running) -> None:
    async with running():
        message_id = await crm.publish("Q-1", quote())
        assert (await crm.answer()).correlation_id == message_id


@pytest.mark.parametrize("correlation_id", ["\x00\x01", "ä€😀" * 20, '"\\', "x" * 255])
async def test_any_correlation_id_comes_back_as_it_is(crm: Crm, running: Running, correlation_id: str) -> None:
    async with running():
        answer = await crm.published("Q-1", quote(), correlation_id=correlation_id)
    assert answer.accepted and answer.correlation_id == correlation_id


async def test_without_reply_to_it_is_done_and_nobody_is_told(crm: Crm, running: Running, database: Pool) -> None:
    async with running():
        await crm.publish("Q-1", quote(), reply_to=None)
        await crm.publish("Q-2", quote())
        assert (await crm.answer()).json["quote_id"] == "Q-2"
    assert await revisions(database, "Q-1") == [1]
    assert await crm.nothing_more()


async def test_what_is_refused_and_names_no_queue_is_a_dead_letter_that_says_why(
    crm: Crm, running: Running, database: Pool
) -> None:
    async with running():
        message_id = await crm.publish("Q-1", quote(line(unit_amount=0)), reply_to=None)
        row = await dead_letter(database)
    assert (row["queue"], row["account"], row["livemode"], row["reason"]) == (
        "commands",
        "acct_1",
        False,
        "command_refused",
    )
    assert row["event_id"].startswith(message_id)
    assert (row["type"], row["quote_id"]) == (PUBLISH, "Q-1")
    assert "R10 amount_too_small" in row["error"] and "R11 net_price_zero" in row["error"]


async def test_the_same_message_twice_is_handled_once_and_answered_once(
    crm: Crm, running: Running, database: Pool
) -> None:
    """In one batch, and later: handled again after the recall it would be revision 2."""
    for _ in range(3):
        await crm.publish("Q-1", quote(), message_id="m-1")
    async with running():
        assert (await crm.answer()).json["outcome"] == "published"
        await crm.recall("Q-1")
        assert (await crm.answer()).json["outcome"] == "recalled"
        await crm.publish("Q-1", quote(), message_id="m-1")
        assert (await crm.published("Q-2", quote())).json["quote_id"] == "Q-2"
    assert await revisions(database, "Q-1") == [1]
    assert await crm.nothing_more()


async def test_a_message_id_that_is_used_twice_by_mistake_costs_no_command(crm: Crm, running: Running) -> None:
    async with running():
        await crm.publish("Q-1", quote(), message_id="m-1")
        await crm.publish("Q-2", quote(), message_id="m-1")
        await crm.send(RECALL, {"quote_id": "Q-1"}, message_id="m-1")
        answers = await crm.answers(3)
    assert {(one.json["quote_id"], one.json["outcome"]) for one in answers} == {
        ("Q-1", "published"),
        ("Q-2", "published"),
        ("Q-1", "recalled"),
    }
    assert len({one.message_id for one in answers}) == 3


async def test_two_accounts_may_use_the_same_message_id(connect: Connect, running: Running, database: Pool) -> None:
    one, other, live = await connect("acct_1"), await connect("acct_2"), await connect("acct_1", live=True)
    async with running():
        for each in (one, other, live):
            await each.publish("Q-1", quote(), message_id="m-1")
        answers = [await each.answer() for each in (one, other, live)]
    assert all(answer.json["outcome"] == "published" for answer in answers)
    assert len({answer.message_id for answer in answers}) == 3
    assert await database.fetchval("SELECT count(*) FROM published_quotes") == 3


async def test_a_crash_between_commit_and_ack_makes_one_revision_and_one_answer(
    crm: Crm, running: Running, database: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The acks of two batches are lost with their channel: what was committed comes again, and is known."""
    acks = 0
    ack = Subscription.ack

    async def lost(self: Subscription, tag: int, *, multiple: bool) -> None:
        nonlocal acks
        acks += 1
        if acks <= 2:
            raise BrokerAway("a test cut it off")
        await ack(self, tag, multiple=multiple)

    monkeypatch.setattr(Subscription, "ack", lost)
    await crm.publish("Q-1", quote())
    await crm.recall("Q-1")
    await crm.publish("Q-1", quote())
    async with running():
        answers = await crm.answers(3)
        await crm.published("Q-2", quote())
        await eventually(lambda: acks > 2)
    assert [one.json["outcome"] for one in answers] == ["published", "recalled", "published"]
    assert await revisions(database, "Q-1") == [1, 2]
    assert await crm.nothing_more()
    assert await database.fetchval("SELECT count(*) FROM failed_deliveries WHERE state <> 'resolved'") == 0


@pytest.mark.parametrize("workers", [1, 3])
async def test_commands_about_one_quote_keep_their_order(crm: Crm, running: Running, workers: int) -> None:
    """INVARIANT: however many consume. Broken by a queue that is shared: a recall that overtakes finds nothing."""
    async with running(workers=workers):
        for number in range(60):
            await crm.publish("Q-1", quote(title=f"Take {number}"))
            await crm.recall("Q-1", number + 1)
        answers = await crm.answers(120, timeout=60)
    told = [(one.json["outcome"], one.json["revision"]) for one in answers]
    assert told == [(outcome, number + 1) for number in range(60) for outcome in ("published", "recalled")]


async def test_two_hundred_at_once(crm: Crm, running: Running, database: Pool) -> None:
    await asyncio.gather(*(crm.publish(f"Q-{number}", quote(), correlation_id=str(number)) for number in range(200)))
    async with running(workers=2):
        answers = await crm.answers(200, timeout=60)
        await eventually(lambda: nothing_waits(database))
    assert {(one.correlation_id, one.json["quote_id"], one.json["outcome"]) for one in answers} == {
        (str(number), f"Q-{number}", "published") for number in range(200)
    }
    assert await database.fetchval("SELECT count(*) FROM published_quotes") == 200
    assert await crm.nothing_more()


BAD: dict[str, tuple[dict[str, Any], bytes, str]] = {
    "no JSON": ({}, b'{"quote_id": ', "not_json"),
    "no UTF-8": ({}, b'{"quote_id": "\xff"}', "not_json"),
    "deep": ({}, b"[" * 100_000, "not_json"),
    "no object": ({}, b"[]", "quote_refused"),
    "nothing": ({}, b"", "not_json"),
    "too large": ({}, b" " * ((1 << 20) + 1), "body_too_large"),
    "much too large": ({}, b" " * (9 << 20), "body_too_large"),
    "no message id": ({}, b"{}", "message_id_missing"),
    "no content type": ({"content_type": None}, b"{}", "not_json"),
    "another content type": ({"content_type": "text/xml"}, b"{}", "not_json"),
    "compressed": ({"content_encoding": "gzip"}, b"\x1f\x8b", "compressed_body"),
    "a misspelt field": ({}, b'{"quote_id": "Q-9", "quotes": {}}', "quote_refused"),
    "an id that is no text": ({}, b'{"quote_id": 9, "quote": {}}', "quote_refused"),
    "an id with NUL": ({}, b'{"quote_id": "a\\u0000b", "quote": {}}', "quote_refused"),
    "a long id": ({}, b'{"quote_id": "%s", "quote": {}}' % (b"x" * 10_000), "quote_refused"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_message_is_refused_and_its_neighbours_are_not(
    crm: Crm, running: Running, database: Pool, name: str
) -> None:
    properties, body, code = BAD[name]
    await crm.publish("Q-1", quote())
    if name == "no message id":
        await without_message_id(crm, body)
    else:
        await crm.send(PUBLISH, body, **properties)
    await crm.publish("Q-2", quote())
    async with running():
        answers = await crm.answers(3)
    (bad,) = [answer for answer in answers if not answer.accepted]
    assert bad.code == code
    assert {answer.json["quote_id"] for answer in answers if answer.accepted} == {"Q-1", "Q-2"}
    assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0


async def without_message_id(crm: Crm, body: bytes) -> None:
    """aiormq gives every message an id; other clients do not."""
    with marshalled_without("message_id"):
        await crm.send(PUBLISH, body)


@contextmanager
def marshalled_without(name: str) -> Iterator[None]:
    """Messages leave this process without one of their properties."""
    original = Basic.Properties.marshal

    def marshal(self: Basic.Properties) -> bytes:
        kept = getattr(self, name)
        setattr(self, name, None)
        try:
            return original(self)
        finally:
            setattr(self, name, kept)

    Basic.Properties.marshal = marshal  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Basic.Properties.marshal = original  # type: ignore[method-assign]


async def test_two_hundred_and_one_of_them_poison(crm: Crm, running: Running, database: Pool) -> None:
    for number in range(200):
        if number == 77:
            await crm.send(PUBLISH, b"poison", reply_to=None, message_id="m-77")
        else:
            await crm.publish(f"Q-{number}", quote())
    async with running():
        answers = await crm.answers(199, timeout=60)
        row = await dead_letter(database)
    assert all(one.accepted for one in answers)
    assert (row["event_id"].partition("#")[0], row["reason"], row["body"]) == ("m-77", "command_refused", b"poison")
    assert row["error"].startswith("not_json (400)")


async def test_a_large_message_is_kept_as_far_as_a_command_may_go(crm: Crm, running: Running, database: Pool) -> None:
    async with running():
        await crm.send(PUBLISH, b"x" * (3 << 20), reply_to=None)
        row = await dead_letter(database)
    assert len(row["body"]) == 1 << 20
    assert row["error"].startswith("body_too_large (413)")


async def test_the_answer_is_in_the_transaction_of_what_it_tells(crm: Crm, running: Running, database: Pool) -> None:
    """No relay runs: the quote is published, and its answer waits."""
    async with running(relay=False):
        await crm.publish("Q-1", quote())

        async def there() -> bool:
            rows = await database.fetch("SELECT destination, body FROM outbox ORDER BY id")
            assert [row["destination"] for row in rows] == ["quittance", "replies"]
            return bool(json.loads(rows[1]["body"])["outcome"] == "published")

        await eventually(there)
    assert await revisions(database, "Q-1") == [1]
    assert await crm.nothing_more()


async def test_the_exchange_takes_no_other_commands(crm: Crm, amqp: Broker) -> None:
    with pytest.raises(Exception, match="no queue is bound"):
        await crm.send("quote.paid", {"quote_id": "Q-1"})
