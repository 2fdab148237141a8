"""Replays, of dead letters and from the archive: what a preview says is what a replay does, and nothing is doubled."""

import asyncio
import random
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from asyncpg.pool import Pool

from dev.lives import life
from quittance.broker import STRIPE_EVENTS
from tests.cli.conftest import Command
from tests.support.broken import break_charges, mend_charges
from tests.support.handling import accepted, takes
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.support.processes import Program
from tests.support.system import System, system
from workers import WORKERS
from workers.runtime import batch

PAID = "SELECT count(*) FROM emails WHERE kind = 'paid'"


def lives(number: int) -> list[Any]:
    """`number` quotes that were paid by card."""
    return [life("card", f"replay-{n}", quote_id=f"Q-{n}") for n in range(number)]


@pytest.fixture
async def running(database_url: str, amqp_url: str) -> AsyncIterator[System]:
    """Every worker and the relay, as processes; retries come quickly."""
    async with system(database_url, amqp_url, RETRY_SCHEDULE="0.05") as it:
        await it.start("archive", "checkouts", "customers", "documents", "quotes", "notifications", "relay")
        yield it


async def counted(database: Pool, state: str) -> int:
    count: int = await database.fetchval("SELECT count(*) FROM failed_deliveries WHERE state = $1", state)
    return count


async def quiet(database: Pool, number: int) -> None:
    """`number` quotes are there, and nothing is under way."""

    async def settled() -> bool:
        quotes = await database.fetchval("SELECT count(*) FROM quotes WHERE data -> 'documents' <> '[]'")
        under_way = await database.fetchval("SELECT count(*) FROM outbox")
        return bool(quotes == number and not under_way)

    await eventually(settled, timeout=30)


def said(changes: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("quote_id", "sequence", "previous", "status", "amount_captured", "changed", "cause")
    return [tuple(str(change[name]) for name in names) for change in changes]


@pytest.mark.slow
async def test_a_handler_is_broken_mended_previewed_and_replayed(
    running: System, cli: Command, amqp: Broker, database: Pool
) -> None:
    """The whole of an SRE's evening, with a hundred events."""
    events = [accepted(one) for told in lives(20) for one in told.events]
    random.Random(5).shuffle(events)
    charges = [event for event in events if event.type.startswith("charge.")]
    await amqp.publish(*(event for event in events if event not in charges))
    await eventually(lambda: _tried(database, len(events) - len(charges)), timeout=60)
    await break_charges(database)
    await amqp.publish(*charges)
    failing = len(charges)
    await eventually(lambda: _dead(database, failing), timeout=60)

    groups = (await cli("dead-letters", "list", "--group-by", "fingerprint", "--json")).ok().json
    assert [group["deliveries"] for group in groups] == [failing]
    quote = "Q-0"
    one = (await cli("dead-letters", "list", "--quote", quote, "--json")).ok().json
    shown = (await cli("quotes", "show", quote, "--json")).ok().json
    assert sum("NOT COUNTED" in sentence for sentence in shown["why"]) == len(one)

    # Still broken: a preview says so, and a replay has it dead again, its history kept.
    still = (await cli("dead-letters", "replay", one[0]["id"], "--dry-run", "--json")).ok().json
    assert [step["outcome"] for step in still["steps"]] == ["fails"]
    assert "broken" in still["steps"][0]["error"]
    vain = await cli("dead-letters", "replay", one[0]["id"], "--json")
    assert (vain.code, vain.json["states"]) == (1, {"dead": 1})

    await mend_charges(database)
    before = await _state(database)
    preview = (await cli("dead-letters", "replay", "--quote", quote, "--dry-run", "--json")).ok().json
    assert await _state(database) == before
    assert quote in (await cli("dead-letters", "replay", "--quote", quote, "--dry-run")).ok().out
    replay = await cli("dead-letters", "replay", "--quote", quote, "--actor", "ann", "--note", "bug 12", "--json")
    report = replay.ok().json
    assert report["states"] == {"resolved": len(one)}
    assert said(report["status_changes"]) == said(preview["status_changes"])
    assert report["status_changes"]

    rest = (await cli("dead-letters", "replay", "--all", "--rate", 1000, "--yes")).ok()
    assert f"{failing - len(one)} resolved" in rest.out
    assert (await cli("dead-letters", "list", "--json")).ok().json == []
    await quiet(database, 20)
    statuses = await database.fetch("SELECT status, amount_captured = amount_due AS whole FROM quotes")
    assert {(row["status"], row["whole"]) for row in statuses} == {("paid", True)}
    assert await database.fetchval(PAID) == 20

    history = (await cli("dead-letters", "show", one[0]["id"], "--json")).ok().json["history"]
    assert [entry["action"] for entry in history][-4:] == ["replayed", "dead_lettered", "replayed", "resolved"]
    assert history[-2]["actor"] == "ann"
    assert "bug 12" in history[-2]["note"]

    # All of it once more, from the archive: each effect has a key of its own.
    told = await database.fetchval("SELECT count(*) FROM quote_status_changes")
    again = (await cli("events", "replay", "--type", "*", "--yes", "--rate", 2000, "--json")).ok().json
    assert again["sent"]["quotes"] == len(events)
    assert (again["failed"], again["status_changes"], again["mails"]) == ([], [], [])
    await quiet(database, 20)
    assert await database.fetchval("SELECT count(*) FROM quote_status_changes") == told
    assert await database.fetchval(PAID) == 20


async def _tried(database: Pool, number: int) -> bool:
    """Whether the quotes worker has handled so many of Stripe's events."""
    handled = "SELECT count(*) FROM inbox WHERE queue = 'quotes' AND event_id LIKE 'evt%'"
    return bool(await database.fetchval(handled) == number)


async def _dead(database: Pool, number: int) -> bool:
    return await counted(database, "dead") == number


async def _state(database: Pool) -> dict[str, list[Any]]:
    """Everything that a preview must leave as it was."""
    return {
        table: await database.fetch(f"SELECT * FROM {table} ORDER BY 1, 2, 3")
        for table in ("quotes", "quote_status_changes", "stripe_objects", "documents", "emails", "outbox", "inbox")
    } | {"failed_deliveries": await database.fetch("SELECT * FROM failed_deliveries ORDER BY id")}


async def test_a_preview_of_a_first_payment_shows_statuses_mails_and_what_stripe_is_asked(
    cli: Command, database: Pool
) -> None:
    """Nothing has been handled but by the archive: a preview runs all workers, one after the other."""
    events = [accepted(one) for one in life("card", "first", quote_id="Q-first").events]
    await batch.run(database, "archive", WORKERS["archive"].handle, events)
    before = await _state(database)
    preview = (
        (await cli("events", "replay", "--quote", "Q-first", "--dry-run", "--json", STRIPE_API_KEY="sk_test_1"))
        .ok()
        .json
    )
    assert await _state(database) == before
    assert preview["status_changes"][-1]["status"] == "paid"
    assert preview["status_changes"][-1]["documents"]
    assert {step["outcome"] for step in preview["steps"]} == {"handled"}
    assert {step["queue"] for step in preview["steps"]} == {
        "checkouts",
        "customers",
        "documents",
        "quotes",
        "notifications",
    }
    assert [mail["kind"] for mail in preview["mails"]] == ["paid"]
    assert [(row["quote_id"], row["state"]) for row in preview["stripe_requests"]] == [("Q-first", "due")]
    assert preview["crm_events"][0]["type"] == "quote.payment_status_changed"
    assert preview["rows"]["quotes"]["inserted"] == 1
    told = (await cli("events", "replay", "--quote", "Q-first", "--dry-run")).ok().out
    assert "Nothing was changed." in told
    assert "customers that would be looked up at Stripe" in told


async def test_without_a_relay_a_replay_says_what_it_waits_for(cli: Command, amqp: Broker, database: Pool) -> None:
    from tests.cli.test_dead_letters import event, fail

    number = await fail(database, "quotes", event(1), ValueError("a bug"))
    await database.execute("UPDATE failed_deliveries SET state = 'dead', next_at = NULL")
    answer = await cli("dead-letters", "replay", number, "--timeout", 4)
    assert answer.code == 1
    assert "is `python -m workers relay` running?" in answer.err
    left = (await cli("dead-letters", "list", "--state", "replaying", "--json")).ok().json
    assert [row["id"] for row in left] == [number]


async def test_ctrl_c_takes_back_what_was_not_sent(database: Pool, database_url: str, amqp_url: str) -> None:
    from tests.cli.test_dead_letters import event, fail
    from tests.support.processes import program

    for number in range(5):
        await fail(database, "quotes", event(number), ValueError("a bug"))
    await database.execute("UPDATE failed_deliveries SET state = 'dead', next_at = NULL")
    arguments = ("-m", "quittance.cli", "dead-letters", "replay", "--all", "--rate", "0.01")
    async with program(*arguments, DATABASE_URL=database_url, AMQP_URL=amqp_url) as running:
        await _interrupt(running)
        assert await running.ended() == 1
        assert any("5 of 5 were taken back" in line for line in running.lines)
    assert await counted(database, "dead") == 5


async def _interrupt(running: Program) -> None:
    import signal

    await running.logged("5 deliveries")
    await asyncio.sleep(0)
    running.signal(signal.SIGINT)


async def test_a_replay_hands_on_to_the_relay_and_returns_at_once(cli: Command, database: Pool) -> None:
    from tests.cli.test_dead_letters import event, fail

    for number in range(3):
        await fail(database, "quotes", event(number), ValueError("a bug"))
    answer = (
        await cli("dead-letters", "replay", "--state", "retrying", "--all", "--no-wait", "--rate", "2", "--json")
    ).ok()
    assert answer.json["states"] == {"under way": 3}
    rows = await database.fetch("SELECT next_at, replay_id FROM failed_deliveries ORDER BY next_at")
    assert {row["replay_id"] for row in rows} == {answer.json["replay_id"]}
    pauses = [(later["next_at"] - sooner["next_at"]).total_seconds() for sooner, later in pairwise(rows)]
    assert pauses == [0.5, 0.5]


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay"],
        ["replay", "--queue", "letters", "--type", "a"],
        ["replay", "--queue", "notifications", "--type", "a"],  # no event of Stripe's goes there
        ["replay", "evt_1", "--rate", "0"],
    ],
)
async def test_wrong_use_of_events_replay_is_exit_2(cli: Command, arguments: list[str]) -> None:
    assert (await cli("events", *arguments)).code == 2


async def test_a_replay_to_one_queue_sends_what_that_queue_takes_and_nothing_else(cli: Command, database: Pool) -> None:
    events = [accepted(one) for one in life("card", "one-queue", quote_id="Q-one").events]
    await batch.run(database, "archive", WORKERS["archive"].handle, events)
    taken = [event for event in events if takes(WORKERS["documents"], STRIPE_EVENTS, event.type)]
    assert 0 < len(taken) < len(events)
    again = await cli("events", "replay", "--quote", "Q-one", "--queue", "documents", "--no-wait", "--yes", "--json")
    assert again.ok().json["sent"] == {"documents": len(taken)}
    other = next(event for event in events if event not in taken)
    named = await cli("events", "replay", other.id, "--queue", "documents", "--no-wait", "--json")
    assert named.ok().json["sent"] == {}
    assert f"documents does not take {other.type}" in named.err


async def test_events_replay_of_what_is_not_there(cli: Command) -> None:
    named = await cli("events", "replay", "evt_none")
    assert named.code == 1
    assert "evt_none" in named.err
    assert (await cli("events", "replay", "--type", "charge.succeeded", "--json")).ok().json["sent"] == {}
