"""Who may send what to this door, and that a token is kept nowhere."""

import json
from typing import Any

import pytest
from asyncpg.pool import Pool

from quittance import publishing
from quittance.broker import CRM_QUEUE, DEAD_LETTERS
from quittance.cli.tokens import REVOKE
from quittance.tokens import new_token, token_hash
from tests.commands.conftest import (
    PUBLISH,
    RECALL,
    Connect,
    Crm,
    Running,
    dead_letter,
    everything,
    nothing_waits,
    quote,
)
from tests.support.messages import Broker
from tests.support.polling import eventually
from workers import WORKERS, commands


async def revoke(database: Pool, crm: Crm) -> None:
    token_id = await database.fetchval("SELECT id FROM api_tokens WHERE token_hash = $1", token_hash(str(crm.token)))
    await database.fetch(REVOKE, [token_id])


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer qtn_test_short", "Basic {}", "{}", "Bearer {}x", "Bearer Bearer {}", "Bearer\x00{}"],
)
async def test_a_token_that_is_none_is_refused(crm: Crm, running: Running, database: Pool, header: str) -> None:
    token, crm.token = str(crm.token), None
    async with running():
        answer = await crm.published("Q-1", quote(), headers={"authorization": header.format(token)})
        assert (answer.code, answer.json["status"]) == ("no_token", 401)
    assert await database.fetchval("SELECT count(*) FROM published_quotes") == 0
    assert token not in await everything(database)


async def test_headers_of_any_other_type_are_refused(crm: Crm, running: Running) -> None:
    crm.token = None
    async with running():
        for value in (7, True, bytearray(b"\xff\xfe"), ["Bearer x"], {"a": 1}, None):
            assert (await crm.published("Q-1", quote(), headers={"authorization": value})).code == "no_token"
        both = {"authorization": "Bearer x", "Authorization": "Bearer y"}
        assert (await crm.published("Q-1", quote(), headers=both)).code == "no_token"


async def test_an_unknown_token_and_one_that_was_revoked_are_refused(
    crm: Crm, connect: Connect, running: Running, database: Pool
) -> None:
    stranger = await connect()
    stranger.token = new_token(livemode=False)
    async with running():
        assert (await stranger.published("Q-1", quote())).code == "no_token"
        assert (await crm.published("Q-1", quote())).accepted
        await revoke(database, crm)
        assert (await crm.asked(RECALL, {"quote_id": "Q-1"})).code == "no_token"
    assert await database.fetchval("SELECT recalled_at FROM published_quotes") is None


async def test_a_token_reaches_no_other_account_and_no_other_mode(
    crm: Crm, connect: Connect, running: Running, database: Pool
) -> None:
    other, live = await connect("acct_2"), await connect("acct_1", live=True)
    async with running():
        assert (await crm.published("Q-1", quote())).accepted
        for stranger in (other, live):
            assert (await stranger.asked(RECALL, {"quote_id": "Q-1"})).code == "not_found"
            # Theirs is another quote, whatever it is called.
            theirs = await stranger.published("Q-1", quote(title="Mine"))
            assert theirs.json["outcome"] == "published"
        assert (await crm.published("Q-1", quote())).json["outcome"] == "unchanged"
    rows = await database.fetch("SELECT account, livemode, content->>'title' AS title FROM published_quotes")
    assert {tuple(row) for row in rows} == {
        ("acct_1", False, "A quote"),
        ("acct_2", False, "Mine"),
        ("acct_1", True, "Mine"),
    }


async def test_a_command_without_authority_takes_no_message_id_from_its_owner(
    crm: Crm, connect: Connect, running: Running
) -> None:
    """The CRM sends with an old token, then the very same message with a new one."""
    reader = await connect("acct_1", "read")
    token, crm.token = crm.token, None
    async with running():
        assert (await crm.published("Q-1", quote(), message_id="m-1")).code == "no_token"
        assert (await reader.published("Q-1", quote(), message_id="m-1")).code == "no_permission"
        crm.token = token
        assert (await crm.published("Q-1", quote(), message_id="m-1")).accepted


async def test_what_was_mended_is_no_duplicate_of_what_was_not(crm: Crm, running: Running) -> None:
    async with running():
        bad = await crm.published("Q-1", quote(), message_id="m-1", content_type="text/plain")
        assert bad.code == "not_json"
        assert (await crm.published("Q-1", quote(), message_id="m-1")).accepted


async def test_a_token_revoked_between_commit_and_ack_changes_no_answer(
    crm: Crm, running: Running, database: Pool
) -> None:
    """What was handled comes again, and its token is revoked by then: it stays handled, and is not answered twice."""
    await crm.publish("Q-1", quote(), message_id="m-1")
    async with running():
        assert (await crm.answer()).accepted
        await revoke(database, crm)
        await crm.publish("Q-1", quote(), message_id="m-1")
        assert (await crm.published("Q-2", quote())).code == "no_token"
    assert await crm.nothing_more()


def ours() -> list[str]:
    return [*(worker.QUEUE.name for worker in WORKERS.values()), CRM_QUEUE, DEAD_LETTERS]


@pytest.mark.parametrize(
    "reply_to",
    [
        *ours(),
        "amq.rabbitmq.reply-to",
        "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAyNzc",
        "amq.topic",
        "a\nb",
        "\x00",
        "a\x7f",
    ],
)
async def test_answers_go_to_no_queue_of_ours(
    crm: Crm, running: Running, database: Pool, amqp: Broker, reply_to: str
) -> None:
    """INVARIANT: nobody can have us write into a queue of ours. It is not done either: nobody could be told."""
    depths = {name: await amqp.depth(name) for name in ours()}
    if reply_to == "amq.rabbitmq.reply-to":
        return  # the broker itself refuses that name of who does not consume it
    async with running():
        await crm.publish("Q-1", quote(), reply_to=reply_to)
        row = await dead_letter(database)
        assert (await crm.published("Q-2", quote())).accepted
        await eventually(lambda: nothing_waits(database))
    assert row["reason"] == "command_refused" and row["error"].startswith("reply_to_refused")
    assert await database.fetchval("SELECT count(*) FROM published_quotes WHERE quote_id = 'Q-1'") == 0
    assert {name: await amqp.depth(name) for name in ours()} == depths


async def test_a_pattern_says_which_queues_may_be_answered(
    crm: Crm, running: Running, database: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLY_TO_PATTERN", r"crm-replies-\w+")
    commands.settings.cache_clear()
    async with running():
        await crm.publish("Q-1", quote(), reply_to="somebody.else")
        assert "reply_to_refused" in (await dead_letter(database))["error"]
        assert (await crm.published("Q-2", quote())).accepted


async def test_a_probe_is_answered_to_nobody_but_the_doctor(
    crm: Crm, running: Running, amqp: Broker, database: Pool
) -> None:
    """A header alone makes a message a probe: it must not make us write where the sender may not."""
    async with running():
        await crm.send(PUBLISH, b"", headers={"probe": "x"}, reply_to="quotes")
        await crm.send(PUBLISH, b"", headers={"probe": "x"})
        # With a body it is a command, and is not dropped.
        assert (await crm.asked(PUBLISH, {"quote_id": "Q-1", "quote": quote()}, headers={"probe": "x"})).accepted
    assert await amqp.depth("quotes") == 0
    assert await crm.nothing_more()


FORGED = {
    "event-id": "m-1#1",
    "account": "acct_1",
    "livemode": False,
    "created": 0,
    "received-at": "1790000000.000000",
    "about": json.dumps({"message_id": "m-1", "reply_to": "quotes", "token_id": 1}),
    "replay-id": "r-1",
    "last-try": True,
}


async def test_headers_of_our_own_form_are_not_believed(crm: Crm, running: Running, database: Pool) -> None:
    """INVARIANT: through the exchange or past it, only a token, or a row of failed_deliveries, makes a command."""
    token_id = await database.fetchval("SELECT id FROM api_tokens")
    crm.token = None
    forged: dict[str, Any] = {**FORGED, "about": json.dumps({"message_id": "m-1", "token_id": token_id})}
    async with running():
        for headers in (forged, {**forged, "failed-delivery-id": 1}, {**forged, "failed-delivery-id": True}):
            answer = await crm.published("Q-1", quote(), headers=headers)
            assert answer.code == "no_token"
            past = await crm.asked(
                "commands", {"quote_id": "Q-1", "quote": quote()}, headers=headers, exchange="", message_type=PUBLISH
            )
            assert past.code == "no_token"
    assert await database.fetchval("SELECT count(*) FROM published_quotes") == 0


async def test_a_good_token_past_the_exchange_is_no_known_command(crm: Crm, running: Running) -> None:
    async with running():
        answer = await crm.asked("commands", {"quote_id": "Q-1", "quote": quote()}, exchange="")
    assert answer.code == "unknown_command"


async def test_a_row_cannot_be_named_through_the_exchange(crm: Crm, running: Running, database: Pool) -> None:
    """A parked command runs when the relay sends it, not when somebody names its number."""
    async with running():
        await crm.publish("Q-1", quote(), reply_to="quotes")
        row = await dead_letter(database)
        crm.token = None
        answer = await crm.published("Q-2", quote(), headers={"failed-delivery-id": row["id"]})
        assert answer.code == "no_token"
        attempts = await database.fetchval("SELECT attempts FROM failed_deliveries WHERE id = $1", row["id"])
    assert attempts == row["attempts"]


async def test_no_token_is_kept_anywhere(
    crm: Crm, connect: Connect, running: Running, database: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INVARIANT: not in failed_deliveries (dead, retried, given up by the broker), inbox, outbox or an answer; nor its hash."""
    revoked, unknown = await connect(), await connect()
    await revoke(database, revoked)
    unknown.token = new_token(livemode=True)

    publish = publishing.publish

    async def broken(db: Any, account: str, livemode: bool, quote_id: str, *rest: Any, **more: Any) -> Any:
        if quote_id == "Q-broken":
            raise ValueError("told to raise")
        return await publish(db, account, livemode, quote_id, *rest, **more)

    monkeypatch.setattr(publishing, "publish", broken)
    seen = []
    async with running(relay=False):
        for each in (crm, revoked, unknown):
            await each.publish("Q-1", quote())
            await each.publish("Q-2", quote(), reply_to=None)
            await each.send(PUBLISH, b"{", reply_to=None)
            await each.publish("Q-broken", quote())
            await each.send("commands", {"quote_id": "Q-3"}, exchange="", reply_to=None)
            # As the broker does with what it gave up.
            dying = {"x-death": [{"queue": "commands", "count": 1, "reason": "delivery_limit"}]}
            await each.send(PUBLISH, {"quote_id": "Q-4", "quote": 1}, exchange="dead-letters", headers=dying)

        async def over() -> bool:
            open_rows = await database.fetchval(
                "SELECT count(*) FROM failed_deliveries WHERE state IN ('retrying', 'replaying')"
            )
            total = await database.fetchval("SELECT count(*) FROM failed_deliveries")
            seen.append(await everything(database))
            assert open_rows == 0 and total >= 10, (open_rows, total)
            return True

        await eventually(over, timeout=30)
    for each in (crm, revoked, unknown):
        token = str(each.token)
        for text in seen:
            assert token[9:] not in text and token_hash(token).hex() not in text
            assert "authorization" not in text.lower()
    assert await database.fetchval("SELECT count(*) FROM failed_deliveries WHERE reason = 'handler_failed'") >= 1
