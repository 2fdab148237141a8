"""The worker and the relay as the processes that they are: killed, started again, told to stop."""

import asyncio

from asyncpg.pool import Pool

from tests.commands.conftest import Crm, everything, quote
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.support.processes import program, workers

NUMBER = 300


async def test_killed_again_and_again_every_command_is_done_once_and_answered_once(
    crm: Crm, database: Pool, database_url: str, amqp: Broker
) -> None:
    """Two workers, the relay, and a token that no process writes into its log."""
    environment = {
        "database_url": database_url,
        "amqp_url": amqp.url,
        "PUBLIC_URL": "https://quotes.example.com",
        "LOG_LEVEL": "debug",
    }
    lines: list[str] = []

    async def publish(first: int, last: int) -> None:
        await asyncio.gather(*(crm.publish(f"Q-{n}", quote(), correlation_id=str(n)) for n in range(first, last)))

    async def done(at_least: int) -> bool:
        number = await database.fetchval("SELECT count(*) FROM published_quotes")
        assert number >= at_least, number
        return True

    async with workers("relay", **environment) as relay, workers("commands", **environment) as second:
        await publish(0, 200)
        for goal in (1, 60):
            async with workers("commands", **environment) as one:
                await eventually(lambda goal=goal: done(goal), timeout=30)  # type: ignore[misc]
                await second.kill() if goal == 1 else await one.kill()
                lines += one.lines
        async with workers("commands", **environment) as last:
            await publish(200, NUMBER)
            await crm.send("quote.published", b"poison", reply_to=None)
            answers = await crm.answers(NUMBER, timeout=60)
            await last.logged("event.dead_lettered")
            assert await last.stop() == 0
            lines += last.lines
        # What an answer may cost is a repetition with the same id, where the relay died; it did not.
        assert await crm.nothing_more()
        assert await relay.stop() == 0
        lines += relay.lines + second.lines
    assert {(one.correlation_id, one.json["quote_id"], one.json["revision"]) for one in answers} == {
        (str(number), f"Q-{number}", 1) for number in range(NUMBER)
    }
    assert len({one.message_id for one in answers}) == NUMBER
    assert all(one.json["outcome"] == "published" for one in answers)
    assert all(one.json["url"].startswith("https://quotes.example.com/q/") for one in answers)
    logged = "\n".join(lines)
    assert "command.done" in logged
    secret = str(crm.token)[9:]
    assert secret not in logged and secret not in await everything(database)


async def test_wrong_settings_are_said_before_anything_is_opened(amqp_url: str, database_url: str) -> None:
    wrong = {"PUBLIC_URL": "ftp://x", "CURRENCY_POLICY": "mine", "REPLY_TO_PATTERN": "("}
    async with program("-m", "workers", "commands", DATABASE_URL=database_url, AMQP_URL=amqp_url, **wrong) as one:
        assert await one.ended() == 2
        said = "\n".join(one.lines)
    assert all(name in said for name in wrong)


async def test_an_answer_waits_for_the_relay(crm: Crm, database_url: str, amqp: Broker) -> None:
    environment = {"database_url": database_url, "amqp_url": amqp.url}
    async with workers("commands", **environment) as one:
        await crm.publish("Q-1", quote())
        await one.logged("command.done")
        assert await one.stop() == 0
    assert await crm.nothing_more()
    async with workers("relay", **environment) as relay:
        assert (await crm.answer()).accepted
        assert await relay.stop() == 0
