"""`quittance doctor`: each thing that can be wrong is said in words, with its cure; a sound system passes."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from asyncpg.pool import Pool

from dev.lives import life
from dev.servers import Servers
from quittance import broker
from quittance.broker import STRIPE_EVENTS
from quittance.cli.doctor_broker import refilled
from quittance.cli.schema_check import compare
from tests.cli.conftest import Command
from tests.support.cli import Answer, quittance
from tests.support.handling import accepted, pump
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.support.system import System, system
from workers import WORKERS

PROCESSES = (
    "accounts",
    "archive",
    "checkouts",
    "commands",
    "customers",
    "documents",
    "quotes",
    "notifications",
    "relay",
)


@pytest.fixture
async def running(database_url: str, fresh_amqp_url: str) -> AsyncIterator[System]:
    """Every worker and the relay on a vhost of its own, whose topology a test may break."""
    async with system(database_url, fresh_amqp_url) as it:
        await it.start(*PROCESSES)
        yield it


def doctor(it: System) -> Command:
    settings = {**it.environment, "AMQP_URL": it.amqp_url, "STRIPE_WEBHOOK_SECRETS": "whsec_1,whsec_2"}
    return partial(quittance, "doctor", **settings)


def wrong(answer: Answer, state: str = "fault") -> dict[str, list[str]]:
    """What is said of each area."""
    found: dict[str, list[str]] = {}
    for check in answer.json:
        if check["state"] == state:
            assert check["cure"], check
            found.setdefault(check["area"], []).append(check["says"])
    return found


@pytest.mark.slow
async def test_a_sound_system_passes_and_each_fault_is_named(running: System, database: Pool) -> None:
    examine = doctor(running)
    sound = (await examine("--json")).ok()
    assert wrong(sound) == {}
    assert wrong(sound, "warning") == {}
    says = [check["says"] for check in sound.json]
    assert "2 webhook secrets set" in says
    assert any("53 bindings" in line or "bindings tried" in line for line in says)
    assert "0 faults" in (await examine()).ok().out

    # A probe leaves nothing behind.
    async with Broker.at(running.amqp_url) as open_broker:
        assert [await open_broker.depth(name) for name in WORKERS] == [0] * len(WORKERS)
        assert await database.fetchval("SELECT count(*) FROM events") == 0
        assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0

        await open_broker.channel.queue_unbind("quotes", "stripe.events", routing_key="charge.refunded")
        answer = await examine("--json")
        assert answer.code == 1
        assert wrong(answer) == {"queue quotes": ["bindings are missing: stripe.events charge.refunded"]}
        assert wrong(await examine("--no-probe", "--json")) == {}

        # Nobody consumes it: the doctor reads the probes itself, and gives back nothing but what was there.
        await running.stop("quotes")
        answer = await examine("--json")
        assert [line.partition(";")[0] for line in wrong(answer)["queue quotes"]] == [
            "nobody consumes it",
            "bindings are missing: stripe.events charge.refunded",
        ]
        assert await open_broker.depth("quotes") == 0

        await quittance("init", DATABASE_URL=running.database_url, AMQP_URL=running.amqp_url)
        await running.start("quotes")
        assert wrong(await examine("--json")) == {}

        await open_broker.channel.queue_delete("documents")
        assert any("is missing" in line for line in wrong(await examine("--json"))["queue documents"])
        await open_broker.channel.queue_declare("documents", durable=True, arguments={"x-queue-type": "quorum"})
        assert any("has other arguments" in line for line in wrong(await examine("--json"))["queue documents"])
        other = await examine("--json", CRM_QUEUE_MAX_BYTES="2048")
        [cure] = [check["cure"] for check in other.json if (check["area"], check["state"]) == ("queue crm", "fault")]
        assert "give this command the CRM_QUEUE_MAX_BYTES that `quittance init` had" in cure
        await open_broker.channel.exchange_delete("crm.commands")
        assert "exchanges are missing: crm.commands" in wrong(await examine("--json"))["broker"]
        # Looking declares nothing.
        assert "exchanges are missing: crm.commands" in wrong(await examine("--json"))["broker"]


@pytest.mark.parametrize("name", [*WORKERS, broker.CRM_QUEUE, broker.DEAD_LETTERS])
def test_what_is_named_to_bring_back_a_lost_queue_is_a_command_that_takes_it(name: str) -> None:
    said = refilled(name)
    fed = name in WORKERS and STRIPE_EVENTS in WORKERS[name].QUEUE.bindings and name != "archive"
    assert (f"quittance events replay --queue {name} " in said) == fed
    own = name in WORKERS and broker.QUITTANCE_EVENTS in WORKERS[name].QUEUE.bindings
    assert ("our own events" in said) == (own and fed)


async def test_work_that_waits_or_failed_is_named(database: Pool, cli: Command) -> None:
    told = life("card", "doctor", quote_id="Q-1", begins=_days_ago(1))
    await pump(list(WORKERS.values()), [accepted(one) for one in told.events], database)
    await database.execute(
        "INSERT INTO outbox (destination, bucket, stream, exchange, routing_key, event_id, type, headers, body, queued_at)"
        " VALUES ('crm', 1, 'Q-1', 'crm.events', 'k', 'Q-1:9', 't', '{}', '', now() - interval '2 hours')"
    )
    await database.execute("UPDATE emails SET due_at = now() - interval '1 hour', error = '451 later'")
    await database.execute("UPDATE customer_requests SET state = 'due', due_at = now() - interval '1 hour'")
    await database.execute(
        "INSERT INTO failed_deliveries (queue, account, livemode, event_id, type, state, reason, next_at, body, headers)"
        " VALUES ('quotes', 'self', false, 'evt_a', 't', 'dead', 'handler_failed', NULL, '', '{}'),"
        "        ('quotes', 'self', false, 'evt_b', 't', 'retrying', 'handler_failed', now() - interval '1 hour', '', '{}')"
    )
    # The quotes worker never got the charge: its binding was missing then.
    await database.execute("UPDATE events SET archived_at = now() - interval '10 minutes'")
    await database.execute(
        "DELETE FROM inbox WHERE queue = 'quotes' AND event_id IN (SELECT event_id FROM events WHERE type = 'charge.succeeded')"
    )
    answer = await cli("doctor", "--no-probe", "--json")
    faults = wrong(answer)
    assert answer.code == 1
    assert faults["outbox"][0].startswith("1 change for crm not published yet, the oldest for 2 h")
    assert "451 later" in faults["mails"][0]
    assert "1 customer" in faults["customers at Stripe"][0]
    assert "overdue" in faults["failed deliveries"][0]
    assert faults["deliveries"] == ["queue quotes never got 1 event charge.succeeded that the archive has"]
    assert "1 dead letter of queue quotes" in wrong(answer, "warning")["failed deliveries"]
    # Nobody runs here, and each queue says so.
    assert all("nobody consumes it" in faults[f"queue {name}"][0] for name in (*WORKERS, "dead-letters"))
    out = (await cli("doctor", "--no-probe", "--quiet")).out
    assert "cure: start `python -m workers quotes`" in out
    assert "  ok  " not in out


def _days_ago(days: int) -> int:
    import time

    return int(time.time()) - days * 86_400


async def test_tables_that_differ_are_named(database: Pool, cli: Command) -> None:
    async def shape() -> list[str]:
        said = wrong(await cli("doctor", "--no-probe", "--json")).get("database", [])
        return [line for line in said if "differ" in line or "no tables" in line]

    assert await shape() == []
    await database.execute("CREATE INDEX of_their_own ON quotes (title)")
    await database.execute("ALTER TABLE quotes ADD COLUMN of_their_own text")
    assert await shape() == []
    await database.execute("DROP INDEX outbox_unpublished")
    await database.execute("ALTER TABLE emails DROP CONSTRAINT emails_state_check")
    await database.execute("ALTER TABLE quotes ALTER COLUMN locale DROP NOT NULL")
    [line] = await shape()
    assert "index outbox_unpublished is missing" in line
    assert "constraint emails_state_check on emails is missing" in line
    assert "column quotes.locale is `text 'en'::text`" in line
    await database.execute("DROP TABLE events CASCADE")
    assert await shape() == ["it has no tables of ours"]


def test_comparing_names_what_is_missing_and_what_is_different() -> None:
    assert compare({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "4"}) == [
        "b is `9`, not `2`",
        "c is missing",
    ]


@pytest.mark.parametrize(
    ("environment", "area", "says"),
    [
        ({}, "environment", "AMQP_URL is not set"),
        ({"STRIPE_WEBHOOK_SECRETS": "whsec_1,,whsec_2"}, "environment", "a webhook secret is empty"),
        ({"STRIPE_WEBHOOK_SECRETS_FILE": "/no/such/file"}, "environment", "cannot be read"),
        ({"STRIPE_API_KEY": "pk_something"}, "environment", "STRIPE_API_KEY"),
        ({"SMTP_URL": "smtp://127.0.0.1:1"}, "environment", "MAIL_FROM is not set"),
        ({"SMTP_URL": "smtp://127.0.0.1:1", "MAIL_FROM": "a@b.c"}, "mail server", "cannot be used"),
        ({"AMQP_URL": "amqp://guest@127.0.0.1:1/"}, "broker", "not reachable"),
        ({"DATABASE_URL": "postgresql://a@127.0.0.1:1/b"}, "database", "does not answer"),
        ({"QUOTE_ID_PATTERN": "("}, "environment", "QUOTE_ID_PATTERN"),
    ],
)
async def test_what_is_wrong_outside_is_a_fault_and_not_a_crash(
    environment: dict[str, str], area: str, says: str
) -> None:
    answer = await quittance("doctor", "--json", **environment)
    assert answer.code == 1
    assert "Traceback" not in answer.err
    assert any(says in line for line in wrong(answer)[area]), answer.out


async def test_no_secret_is_shown() -> None:
    secrets = {
        "STRIPE_WEBHOOK_SECRETS": "whsec_hidden1",
        "STRIPE_API_KEY": "sk_live_hidden2",
        "SMTP_URL": "smtp://me:hidden3@127.0.0.1:1",
        "MAIL_FROM": "a@example.com",
        "DATABASE_URL": "postgresql://me:hidden4@127.0.0.1:1/b",
        "AMQP_URL": "amqp://me:hidden5@127.0.0.1:1/",
    }
    for arguments in (["doctor"], ["doctor", "--json"], ["init"], ["quotes", "list"]):
        answer = await quittance(*arguments, **secrets)
        assert "hidden" not in answer.out + answer.err
    answer = await quittance("doctor", "--json", **secrets)
    assert any("live key" in check["says"] for check in answer.json)


@pytest.mark.faults
async def test_an_alarm_is_named(servers: Servers, cli: Command) -> None:
    if not servers.managed:
        pytest.skip("AMQP_URL names a server whose limits may not be changed")
    servers.rabbitmqctl("set_disk_free_limit", "1000000000000000")
    try:

        async def alarmed() -> Any:
            return wrong(await cli("doctor", "--json")).get("broker")

        said = await eventually(alarmed, timeout=30)
        assert "an alarm blocks publishers" in said[0]
    finally:
        servers.rabbitmqctl("set_disk_free_limit", "50000000")


async def test_ways_cover_every_binding() -> None:
    from quittance.cli.doctor_bindings import ANY_TYPE, Way, ways_of

    ways = ways_of({name: worker.QUEUE for name, worker in WORKERS.items()})
    assert ways["archive"] == {Way(broker.STRIPE_EVENTS, ANY_TYPE)}
    assert ways["notifications"] == set()
    assert len(ways["quotes"]) == sum(map(len, WORKERS["quotes"].QUEUE.bindings.values()))
    # Nothing that a CRM could see.
    assert broker.CRM_EVENTS not in {way.exchange for found in ways.values() for way in found}
