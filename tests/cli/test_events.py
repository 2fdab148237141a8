"""`quittance events list|show`: the archive, searched by everything that an SRE may hold in hand."""

import json
from typing import Any

import pytest
from asyncpg.pool import Pool

from dev.lives import life
from tests.cli.conftest import Command
from tests.support.handling import accepted, pump
from workers import WORKERS


@pytest.fixture
async def archived(database: Pool) -> list[dict[str, Any]]:
    """A paid quote, handled by every worker; an event of another account, which none of them uses."""
    told = life("card", "archived", quote_id="Q-1").events
    other = {"id": "evt_other", "type": "payout.paid", "account": "acct_2", "livemode": True, "created": 1_800_000_000}
    other["data"] = {"object": {"id": "po_1A"}}
    await pump(list(WORKERS.values()), [accepted(one) for one in [*told, other]], database)
    return [*told, other]


async def test_list_is_newest_first_and_holds_no_body(db_cli: Command, archived: list[dict[str, Any]]) -> None:
    rows = (await db_cli("events", "list", "--json")).ok().json
    assert len(rows) == len(archived)
    assert rows[0]["event_id"] == "evt_other"
    assert [row["created"] for row in rows] == sorted((row["created"] for row in rows), reverse=True)
    assert set(rows[0]) == {
        "event_id",
        "type",
        "account",
        "livemode",
        "created",
        "received_at",
        "api_version",
        "bytes",
    }
    assert "evt_other" in (await db_cli("events", "list")).ok().out


async def test_search(db_cli: Command, archived: list[dict[str, Any]]) -> None:
    async def found(*filters: str) -> set[str]:
        return {row["event_id"] for row in (await db_cli("events", "list", *filters, "--json")).ok().json}

    ours = {event["id"] for event in archived} - {"evt_other"}
    charge = next(event for event in archived if event["type"] == "charge.succeeded")["data"]["object"]["id"]
    assert await found("--quote", "Q-1") == ours
    assert await found("--id", "po_1A") == {"evt_other"}
    assert await found("--id", charge) == {event["id"] for event in archived if charge in json.dumps(event)}
    assert await found("--type", "charge.*") == {e["id"] for e in archived if e["type"].startswith("charge.")}
    assert await found("--type", "payout.paid") == {"evt_other"}
    assert await found("--mode", "test") == ours
    assert await found("--account", "acct_2") == {"evt_other"}
    assert await found("--since", "2027-01-01") == {"evt_other"}
    assert await found("--until", "2027-01-01T00:00:00+00:00") == ours
    assert len(await found("--limit", "1")) == 1
    assert await found("--id", "nothing") == set()


async def test_show_says_what_became_of_an_event(
    db_cli: Command, archived: list[dict[str, Any]], database: Pool
) -> None:
    session = next(event for event in archived if event["type"] == "checkout.session.completed")
    shown = (await db_cli("events", "show", session["id"], "--json")).ok().json
    assert {entry["queue"] for entry in shown["handled"]} == {"archive", "checkouts", "customers", "quotes"}
    assert shown["queues"] == ["checkouts", "customers", "quotes"]
    assert shown["failed"] == []
    assert "body" not in shown
    cause = await database.fetchval("SELECT cause_id FROM quote_status_changes WHERE sequence = 1")
    caused = (await db_cli("events", "show", cause, "--json")).ok().json["caused"]
    assert [(change["quote_id"], change["sequence"]) for change in caused][:1] == [("Q-1", 1)]
    email = session["data"]["object"]["customer_details"]["email"]
    told = (await db_cli("events", "show", session["id"])).ok().out
    assert "handled by" in told
    assert email not in told
    with_body = (await db_cli("events", "show", session["id"], "--body", "--json")).ok().json
    assert json.loads(with_body["body"]) == session
    assert email in (await db_cli("events", "show", session["id"], "--body")).ok().out


async def test_show_of_what_no_worker_uses(db_cli: Command, archived: list[dict[str, Any]]) -> None:
    assert "archived only" in (await db_cli("events", "show", "evt_other")).ok().out


async def test_one_id_in_two_accounts_is_asked_about(db_cli: Command, database: Pool) -> None:
    events = [{"id": "evt_0", "type": "a", "account": name, "created": 1_790_000_000} for name in ("acct_1", "acct_2")]
    await pump([WORKERS["archive"]], [accepted(event) for event in events], database)
    answer = await db_cli("events", "show", "evt_0")
    assert answer.code == 1
    assert "acct_1 (test)" in answer.err
    shown = (await db_cli("events", "show", "evt_0", "--account", "acct_2", "--json")).ok().json
    assert shown["account"] == "acct_2"


async def test_an_event_that_is_not_there(db_cli: Command) -> None:
    answer = await db_cli("events", "show", "evt_none", "--json")
    assert (answer.code, answer.json) == (1, [])
