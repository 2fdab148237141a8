"""`quittance init`: what is missing is made, what is there is left alone, what differs is named with its cure."""

from quittance import broker, database
from tests.cli.conftest import Command
from tests.support.cli import quittance
from tests.support.messages import Broker


async def test_init_makes_everything_and_may_be_repeated(empty: Command) -> None:
    first = (await empty("init", "--json")).ok()
    assert set(first.json["queues"]) == {
        "accounts",
        "archive",
        "checkouts",
        "commands",
        "customers",
        "documents",
        "quotes",
        "notifications",
        "crm",
        "dead-letters",
    }
    assert first.json["tables"] >= 15
    assert "waiting for the queues' leaders" in first.err
    again = (await empty("init")).ok()
    assert again.out.startswith("ready: ")
    assert (await empty("quotes", "list", "--json")).ok().json == []


async def test_a_queue_that_differs_is_named_with_the_cure(empty: Command) -> None:
    url = empty.keywords["AMQP_URL"]  # type: ignore[attr-defined]
    async with Broker.at(url) as open_broker:
        await open_broker.channel.queue_declare("quotes", durable=True, arguments={"x-queue-type": "quorum"})
    answer = await empty("init")
    assert answer.code == 1
    assert "inequivalent arg" in answer.err
    assert "'quotes'" in answer.err
    assert "rabbitmqctl delete_queue" in answer.err
    assert "Traceback" not in answer.err


async def test_tables_of_another_version_are_named(empty: Command) -> None:
    db = await database.connect(empty.keywords["DATABASE_URL"], "test")  # type: ignore[attr-defined]
    try:
        await db.execute("CREATE TABLE emails (id bigint)")
        answer = await empty("init", "--json")
        assert answer.code == 1
        assert "emails" in answer.err
        await db.execute("DROP TABLE emails")
        (await empty("init")).ok()
        await db.execute("ALTER TABLE quotes DROP COLUMN label")
        answer = await empty("init")
        assert (answer.code, answer.out) == (1, "")
        assert "column quotes.label is missing" in answer.err
    finally:
        await db.close()


async def test_every_fault_of_the_environment_is_named_at_once_and_nothing_is_touched() -> None:
    answer = await quittance("init", DATABASE_URL="mysql://somewhere", CRM_QUEUE_MAX_BYTES="much")
    assert answer.code == 2
    for fault in ("DATABASE_URL must begin with", "AMQP_URL is not set", "CRM_QUEUE_MAX_BYTES must be"):
        assert fault in answer.err


async def test_a_server_that_is_away_is_said(database_url: str) -> None:
    no_broker = await quittance("init", DATABASE_URL=database_url, AMQP_URL="amqp://guest@127.0.0.1:1/")
    assert no_broker.code == 1
    assert "The broker does not answer" in no_broker.err
    no_database = await quittance("init", DATABASE_URL="postgresql://a@127.0.0.1:1/b", AMQP_URL="amqp://127.0.0.1:1/")
    assert no_database.code == 1
    assert "Traceback" not in no_broker.err + no_database.err


def test_the_queue_of_the_crm_is_bounded_as_told() -> None:
    assert broker.crm_queue_arguments(5)["x-max-length-bytes"] == 5
