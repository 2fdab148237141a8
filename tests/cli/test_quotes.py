"""`quittance quotes list|show`: why is it in this state?"""

from typing import Any

import pytest
from asyncpg.pool import Pool

from dev.lives import LIVES, life
from tests.cli.conftest import Command
from tests.support.handling import accepted, pump
from workers import WORKERS

# Of each life, what its page must say beside the status.
SAYS = {
    "card": "covers what is due",
    "declined_then_expired": "the newest attempt of revision 1 failed",
    "debit_fails_after_settling": "that stays, whatever happens later",
    "authorised": "a payment is under way",
    "captured_in_part": "is less than what is due",
    "double_payment": "Anomaly overpaid",
    "free": "a session needed no payment",
    "refunded": "was refunded",
    "refunded_in_part": "part of what was captured",
    "dispute_open": "a dispute is open",
    "dispute_lost": "a dispute is lost",
    "subscription": "covers what is due",
}


async def tell(database: Pool, name: str, **given: Any) -> Any:
    told = life(name, name, **{"quote_id": f"Q-{name}", **given})
    await pump(list(WORKERS.values()), [accepted(one) for one in told.events], database)
    return told


@pytest.mark.parametrize("name", sorted(SAYS))
async def test_show_says_why(db_cli: Command, database: Pool, name: str) -> None:
    told = await tell(database, name)
    shown = (await db_cli("quotes", "show", f"Q-{name}", "--json")).ok().json
    assert shown["status"] == told.expected.status
    assert shown["why"][0].startswith(f"{told.expected.status}, because ")
    assert any(SAYS[name] in sentence for sentence in shown["why"]), shown["why"]
    assert any("adopted" in sentence for sentence in shown["why"])
    out = (await db_cli("quotes", "show", f"Q-{name}")).ok().out
    for sentence in shown["why"]:
        assert sentence in out
    for event in shown["changes"]:
        assert event["cause_id"] in out


async def test_every_life_can_be_explained(database: Pool) -> None:
    """No status, anomaly or object is without words."""
    from quittance.cli import quote_loading
    from quittance.cli.quote_explanation import explain

    for name in LIVES:
        told = await tell(database, name)
        async with database.acquire() as db:
            [row] = await quote_loading.find(db, f"Q-{name}", None, None)
            why = explain(await quote_loading.load(db, row))
        assert why[0].startswith(f"{told.expected.status}, because "), name


async def test_json_holds_everything_that_hangs_on_the_quote(db_cli: Command, database: Pool) -> None:
    await tell(database, "refunded")
    shown = (await db_cli("quotes", "show", "Q-refunded", "--json")).ok().json
    assert shown["account"] == "self"
    assert shown["livemode"] is False
    assert {fact["kind"] for fact in shown["facts"]} >= {"session", "intent", "charge", "refund"}
    assert [change["sequence"] for change in shown["changes"]] == list(range(1, len(shown["changes"]) + 1))
    assert [document["kind"] for document in shown["documents"]] == ["receipt"]
    assert [mail["kind"] for mail in shown["mails"]] == ["paid"]
    assert shown["failed_deliveries"] == []
    assert shown["data"]["quote_id"] == "Q-refunded"
    [customer] = shown["customers"]
    assert customer["session_id"].startswith("cs_test_")


async def test_a_change_that_is_not_published_is_said(db_cli: Command, database: Pool) -> None:
    await tell(database, "card")
    await database.execute(
        "INSERT INTO outbox (destination, bucket, stream, exchange, routing_key, event_id, type, headers, body)"
        """ VALUES ('crm', 1, 'Q-card', 'crm.events', 'k', 'Q-card:9', 't', '{"account": "self", "livemode": false}', '')"""
    )
    shown = (await db_cli("quotes", "show", "Q-card", "--json")).ok().json
    assert any("NOT TOLD YET: 1 for crm" in sentence for sentence in shown["why"])


async def test_list_and_its_filters(db_cli: Command, database: Pool) -> None:
    assert (await db_cli("quotes", "list", "--json")).ok().json == []
    await tell(database, "card")
    await tell(database, "double_payment")
    await tell(database, "dispute_open", account="acct_9")

    async def found(*filters: str) -> set[str]:
        return {row["quote_id"] for row in (await db_cli("quotes", "list", *filters, "--json")).ok().json}

    assert await found() == {"Q-card", "Q-double_payment", "Q-dispute_open"}
    assert await found("--status", "disputed") == {"Q-dispute_open"}
    assert await found("--anomaly", "overpaid") == {"Q-double_payment"}
    assert await found("--account", "acct_9") == {"Q-dispute_open"}
    assert await found("--mode", "live") == set()
    assert await found("--until", "1h") == set()
    assert "Q-card" in (await db_cli("quotes", "list")).ok().out


async def test_a_quote_of_two_accounts_is_asked_about(db_cli: Command, database: Pool) -> None:
    for account in ("acct_1", "acct_2"):
        events = life("card", account, quote_id="Q-1", account=account).events
        await pump(list(WORKERS.values()), [accepted(one) for one in events], database)
    answer = await db_cli("quotes", "show", "Q-1")
    assert answer.code == 1
    assert "acct_1 (test), acct_2 (test)" in answer.err
    shown = (await db_cli("quotes", "show", "Q-1", "--account", "acct_2", "--json")).ok().json
    assert shown["account"] == "acct_2"


async def test_a_quote_that_is_not_there(db_cli: Command) -> None:
    answer = await db_cli("quotes", "show", "Q-none", "--json")
    assert (answer.code, answer.json) == (1, [])
    assert "quittance events list --id Q-none" in answer.err
