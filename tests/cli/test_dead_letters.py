"""`quittance dead-letters list|show|discard`: what failed is found, explained, and given up only with a reason."""

from typing import Any

import pytest
from asyncpg.pool import Pool

from quittance.errors import Rejected
from tests.cli.conftest import Command
from tests.support.handling import accepted
from workers.runtime import failures

SCHEDULE = (60.0,)


def event(number: int, event_type: str = "charge.succeeded", quote: str = "Q-1", **envelope: Any) -> Any:
    body = {
        "id": f"evt_{number}",
        "type": event_type,
        "created": 1_790_000_000,
        "data": {"object": {"id": f"ch_{number}", "metadata": {"quote_id": quote}}},
    }
    return accepted(body | envelope)


async def fail(database: Pool, queue: str, one: Any, error: Exception) -> int:
    async with database.acquire() as db:
        return (await failures.record(db, queue, one, one.headers(), error, SCHEDULE)).id


@pytest.fixture
async def failed(database: Pool) -> list[int]:
    """Three dead letters of two causes, and one that is retried."""
    unreadable = Rejected("unreadable_payload", "amount is no amount in minor units")
    return [
        await fail(database, "quotes", event(1), unreadable),
        await fail(database, "documents", event(1), unreadable),
        await fail(
            database, "quotes", event(2, "invoice.paid", "Q-2", livemode=True), Rejected("stripe_refused", "no")
        ),
        await fail(database, "quotes", event(3), ValueError("a bug")),
    ]


async def test_nothing_is_an_empty_array(db_cli: Command) -> None:
    assert (await db_cli("dead-letters", "list", "--json")).ok().json == []
    assert (await db_cli("dead-letters", "list", "--group-by", "reason", "--json")).ok().json == []
    assert "no failed delivery" in (await db_cli("dead-letters", "list")).ok().out


async def test_list_shows_what_is_dead_newest_first(db_cli: Command, failed: list[int]) -> None:
    rows = (await db_cli("dead-letters", "list", "--json")).ok().json
    assert [row["id"] for row in rows] == [failed[2], failed[1], failed[0]]
    assert rows[2] | {"first_failed_at": "", "last_failed_at": "", "fingerprint": ""} == {
        "id": failed[0],
        "queue": "quotes",
        "account": "self",
        "livemode": False,
        "event_id": "evt_1",
        "type": "charge.succeeded",
        "quote_id": "Q-1",
        "state": "dead",
        "reason": "unreadable_payload",
        "error": "amount is no amount in minor units",
        "fingerprint": "",
        "attempts": 1,
        "first_failed_at": "",
        "last_failed_at": "",
        "next_at": None,
    }
    told = (await db_cli("dead-letters", "list")).ok().out
    assert "evt_1" in told
    assert "evt_3" not in told


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--queue", "documents"], [1]),
        (["--type", "invoice.paid"], [2]),
        (["--reason", "unreadable_payload"], [1, 0]),
        (["--quote", "Q-2"], [2]),
        (["--quote", "Q-3"], []),
        (["--mode", "live"], [2]),
        (["--account", "acct_1"], []),
        (["--state", "retrying"], [3]),
        (["--state", "any"], [3, 2, 1, 0]),
        (["--state", "dead,retrying", "--queue", "quotes"], [3, 2, 0]),
        (["--since", "1h"], [2, 1, 0]),
        (["--since", "2000-01-01", "--until", "2000-01-02T10:00:00+02:00"], []),
        (["--limit", "1"], [2]),
    ],
)
async def test_filters(db_cli: Command, failed: list[int], filters: list[str], expected: list[int]) -> None:
    rows = (await db_cli("dead-letters", "list", *filters, "--json")).ok().json
    assert [row["id"] for row in rows] == [failed[place] for place in expected]


@pytest.mark.parametrize("command", ["list", "replay", "discard"])
async def test_no_option_has_a_name_with_a_dash_at_its_end(cli: Command, command: str) -> None:
    """INVARIANT: every command that chooses dead letters takes the same filters, by the same names."""
    told = (await cli("dead-letters", command, "--help")).ok().out
    assert "--type " in told
    assert "--type-" not in told


async def test_a_quote_is_found_through_a_charge_that_does_not_name_it(db_cli: Command, database: Pool) -> None:
    refund = accepted({"id": "evt_9", "type": "refund.created", "data": {"object": {"id": "re_9", "charge": "ch_9A"}}})
    await fail(database, "quotes", refund, Rejected("unreadable_payload"))
    await database.execute(
        "INSERT INTO stripe_objects (account, livemode, object_id, quote_id, kind, snapshot)"
        " VALUES ('self', false, 'ch_9A', 'Q-9', 'charge', '{}')"
    )
    await database.execute(
        "INSERT INTO events (created, account, livemode, event_id, type, ids, body, received_at)"
        " VALUES (to_timestamp(0), 'self', false, 'evt_9', 'refund.created', '{ch_9A}', '', now())"
    )
    rows = (await db_cli("dead-letters", "list", "--quote", "Q-9", "--json")).ok().json
    assert [row["event_id"] for row in rows] == ["evt_9"]


async def test_groups_count_deliveries_of_one_cause(db_cli: Command, failed: list[int]) -> None:
    rows = (await db_cli("dead-letters", "list", "--group-by", "reason", "--json")).ok().json
    assert [(row["reason"], row["deliveries"], row["events"]) for row in rows] == [
        ("unreadable_payload", 2, 1),
        ("stripe_refused", 1, 1),
    ]
    for group in ("fingerprint", "type", "queue", "quote"):
        rows = (await db_cli("dead-letters", "list", "--group-by", group, "--json")).ok().json
        assert sum(row["deliveries"] for row in rows) == 3
        assert group in (await db_cli("dead-letters", "list", "--group-by", group)).ok().out
    fingerprint = (await db_cli("dead-letters", "list", "--group-by", "fingerprint", "--json")).json[0]["fingerprint"]
    rows = (await db_cli("dead-letters", "list", "--fingerprint", fingerprint[:6], "--json")).ok().json
    assert {row["id"] for row in rows} == {failed[0], failed[1]}


async def test_show_says_why_and_what_helps_and_keeps_the_body_back(db_cli: Command, failed: list[int]) -> None:
    shown = (await db_cli("dead-letters", "show", failed[3], "--json")).ok().json
    assert (shown["state"], shown["reason"], shown["error"]) == ("retrying", "handler_failed", "a bug")
    assert "ValueError: a bug" in shown["traceback"]
    assert shown["headers"]["event-id"] == "evt_3"
    assert [(entry["actor"], entry["action"]) for entry in shown["history"]] == [("worker quotes", "failed")]
    assert "body" not in shown
    with_body = (await db_cli("dead-letters", "show", failed[3], "--body", "--json")).ok().json
    assert '"id":"ch_3"' in with_body["body"]
    told = (await db_cli("dead-letters", "show", failed[0])).ok().out
    assert f"quittance dead-letters replay {failed[0]} --dry-run" in told
    assert "ch_1" not in told
    assert "ch_1" in (await db_cli("dead-letters", "show", failed[0], "--body")).ok().out


async def test_show_of_what_is_not_there(db_cli: Command) -> None:
    answer = await db_cli("dead-letters", "show", 999, "--json")
    assert (answer.code, answer.json) == (1, [])
    assert "no failed delivery 999" in answer.err


async def test_an_escape_sequence_in_an_error_does_not_reach_the_terminal(db_cli: Command, database: Pool) -> None:
    number = await fail(database, "quotes", event(5), Rejected("unreadable_payload", "\x1b[2Jgone\u202e"))
    for command in (("list",), ("show", number)):
        out = (await db_cli("dead-letters", *command)).ok().out
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "gone" in out


async def test_discard_keeps_the_row_and_says_who_and_why(db_cli: Command, failed: list[int], database: Pool) -> None:
    previewed = (
        (await db_cli("dead-letters", "discard", failed[0], "--note", "made up", "--dry-run", "--json")).ok().json
    )
    assert [row["state"] for row in previewed] == ["dead"]
    rows = (
        (await db_cli("dead-letters", "discard", failed[0], "--note", "made up", "--actor", "ann", "--json")).ok().json
    )
    assert [(row["id"], row["state"]) for row in rows] == [(failed[0], "discarded")]
    shown = (await db_cli("dead-letters", "show", failed[0], "--json")).ok().json
    assert {key: shown["history"][-1][key] for key in ("actor", "action", "note")} == {
        "actor": "ann",
        "action": "discarded",
        "note": "made up",
    }
    by_filter = (await db_cli("dead-letters", "discard", "--queue", "quotes", "--note", "drill")).ok()
    assert "1 failed delivery discarded" in by_filter.out
    history = await database.fetch("SELECT actor FROM failed_delivery_history WHERE action = 'discarded' ORDER BY id")
    assert [row["actor"] for row in history] == ["ann", "tester"]
    again = await db_cli("dead-letters", "discard", failed[0], "--note", "twice")
    assert again.code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["discard", "1"],
        ["discard", "1", "--note", "  "],
        ["discard", "--note", "all of it"],
        ["discard", "1", "--note", "x", "--state", "resolved"],
        ["list", "--state", "gone"],
        ["list", "--group-by", "mood"],
        ["list", "--since", "yesterday-ish"],
        ["list", "--mode", "both"],
        ["show"],
        ["show", "one"],
        ["replay"],
        ["replay", "1", "--state", "resolved"],
        ["replay", "1", "--rate", "0"],
        ["mend"],
    ],
)
async def test_wrong_use_is_exit_2(db_cli: Command, arguments: list[str]) -> None:
    answer = await db_cli("dead-letters", *arguments)
    assert answer.code == 2
    assert "Traceback" not in answer.err


async def test_a_missing_setting_is_exit_2_and_a_server_away_exit_1() -> None:
    from tests.support.cli import quittance

    missing = await quittance("dead-letters", "list")
    assert missing.code == 2
    assert "DATABASE_URL is not set" in missing.err
    away = await quittance("dead-letters", "list", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert away.code == 1
    assert "the database does not answer" in away.err
    assert "Traceback" not in away.err


async def test_a_database_without_tables_is_told_to_be_initialised(servers: Any) -> None:
    from uuid import uuid4

    from tests.support.cli import quittance

    url = servers.add_database(f"empty_{uuid4().hex[:8]}")
    answer = await quittance("dead-letters", "list", DATABASE_URL=url)
    assert answer.code == 1
    assert "quittance init" in answer.err
