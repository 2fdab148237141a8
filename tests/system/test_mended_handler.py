"""A handler broken by mistake, a hundred events through it; mended, replayed: the state is right, nothing is doubled."""

import random
from collections import Counter
from functools import partial
from typing import Any

from asyncpg.pool import Pool

from quittance.event import Event
from tests.support.cli import quittance
from tests.support.crm_side import assert_told_in_order, assert_valid, everything_told
from tests.support.many_lives import VARIANTS, Story, told_lives
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.support.stripe_side import Stripe
from tests.support.system import ALL, System, by_queue, settled, system
from tests.system.ends import Rows, everything_as_it_must_be

SEED = 20230122
NAMES = ("card", "subscription_refunded", "refunded_in_part", "dispute_lost")

HISTORY = """
SELECT array_agg(action ORDER BY history.id) AS actions, count(*) AS rows
FROM failed_deliveries AS failed JOIN failed_delivery_history AS history ON failed_delivery_id = failed.id
GROUP BY failed.id
"""
STATES = "SELECT state, count(*) FROM failed_deliveries GROUP BY 1"


async def test_what_a_mistake_left_undone_is_done_by_a_replay(database: Pool, database_url: str, amqp_url: str) -> None:
    stories = told_lives("mended", VARIANTS[:2], NAMES)
    events = [event for story in stories for event in story.from_stripe]
    random.Random(SEED).shuffle(events)
    lost = by_queue((event.id, event.type) for event in events)["quotes"]
    assert len(lost) >= 100
    cli = partial(quittance, DATABASE_URL=database_url, AMQP_URL=amqp_url)
    async with system(database_url, amqp_url, RETRY_SCHEDULE="0.05") as running:
        running.instead["quotes"] = ("-m", "tests.system.broken_quotes")
        await running.start(*ALL)
        stripe = Stripe(running.url)
        await stripe.send(events)
        fingerprint = await all_dead(database, cli, len(lost))
        await nobody_was_told(database, running, amqp_url)
        await mended(running)
        await preview_changes_nothing(database, cli, fingerprint)
        report = await cli("dead-letters", "replay", "--fingerprint", fingerprint, "--yes", "--rate", 1000, "--json")
        assert report.ok().json["resolved"] == len(lost)
        await settled(running, stripe.events)
        rows = await everything_as_it_must_be(database, stories, running.mails)
        await resolved_with_their_history(database, lost)
        mails = len(running.mails.received)
        await replayed_once_more(cli, stories)
        await settled(running, stripe.events)
        assert len(running.mails.received) == mails
    again = await everything_as_it_must_be(database, stories, running.mails)
    assert numbers(again) == numbers(rows), "what was handled is handled again without a trace"
    told = await everything_told(amqp_url)
    assert assert_told_in_order(told, again) == 0
    assert_valid(told)


def numbers(rows: Rows) -> dict[Any, int]:
    return {key: row["sequence"] for key, row in rows.items()}


async def all_dead(database: Pool, cli: Any, number: int) -> str:
    """INVARIANT: each is a dead letter with its reason, and all of them are one group. Gives its fingerprint."""
    await eventually(lambda: only_dead(database, number), timeout=60)
    groups = (await cli("dead-letters", "list", "--group-by", "fingerprint", "--json")).ok().json
    assert [(group["deliveries"], group["events"]) for group in groups] == [(number, number)]
    (group,) = groups
    assert (group["queues"], group["reasons"]) == (["quotes"], ["handler_failed"])
    assert "amount_in_words" in group["newest_error"]
    shown = (await cli("dead-letters", "show", group["newest_id"], "--json")).ok().json
    assert "broken_quotes.py" in shown["traceback"]
    assert shown["attempts"] == 2
    assert Counter(entry["action"] for entry in shown["history"]) == {"failed": 1, "dead_lettered": 1}
    return str(group["fingerprint"])


async def only_dead(database: Pool, number: int) -> bool:
    states = {row[0]: row[1] for row in await database.fetch(STATES)}
    assert states == {"dead": number}
    return True


async def nobody_was_told(database: Pool, running: System, amqp_url: str) -> None:
    """The other workers went on; what a quote's status hangs on has not happened."""
    assert await database.fetchval("SELECT count(*) FROM quotes") == 0
    assert running.mails.received == []
    async with Broker.at(amqp_url) as broker:
        assert await broker.depth("crm") == 0


async def mended(running: System) -> None:
    """The mended worker is deployed in place of the broken one."""
    await running.stop("quotes")
    del running.instead["quotes"]
    await running.start("quotes")


async def preview_changes_nothing(database: Pool, cli: Any, fingerprint: str) -> None:
    """INVARIANT: a dry run says what would come of it, and leaves all as it was."""
    before = {row[0]: row[1] for row in await database.fetch(STATES)}
    asked = ("dead-letters", "replay", "--fingerprint", fingerprint, "--limit", 100, "--dry-run", "--json")
    preview = (await cli(*asked, MAIL_TO="sales@example.com")).ok().json
    assert {step["outcome"] for step in preview["steps"]} == {"handled"}
    assert {row[0]: row[1] for row in await database.fetch(STATES)} == before
    assert await database.fetchval("SELECT count(*) FROM quotes") == 0
    assert await database.fetchval("SELECT count(*) FROM outbox") == 0


async def resolved_with_their_history(database: Pool, lost: set[str]) -> None:
    rows = await database.fetch("SELECT event_id, state, attempts FROM failed_deliveries")
    assert {(row["event_id"], row["state"]) for row in rows} == {(event_id, "resolved") for event_id in lost}
    histories = [list(row["actions"]) for row in await database.fetch(HISTORY)]
    assert histories == [["failed", "dead_lettered", "replayed", "resolved"]] * len(lost)


async def replayed_once_more(cli: Any, stories: list[Story]) -> None:
    """Every event again through every worker, by its archive: as after a mistake that was noticed late."""
    every: list[Event] = [event for story in stories for event in story.from_stripe]
    answer = await cli("events", "replay", *(event.id for event in every), "--yes", "--rate", 1000, "--json")
    report = answer.ok().json
    assert report["status_changes"] == []
    assert report["mails"] == []
