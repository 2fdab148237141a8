"""The notifications worker as a process: killed in the middle of a mail, and stopped in the middle of many."""

from collections.abc import AsyncIterator

import pytest
from asyncpg.pool import Pool

from tests.fakes.smtp import FakeSmtp, fake_smtp
from tests.notifications.test_notifications import changed, stands
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.support.processes import workers


@pytest.fixture
async def smtp() -> AsyncIterator[FakeSmtp]:
    """A mail server."""
    async with fake_smtp() as fake:
        yield fake


async def sent(database: Pool) -> int:
    return int(await database.fetchval("SELECT count(*) FROM emails WHERE state = 'sent'"))


async def test_a_worker_killed_in_the_middle_of_a_mail_repeats_it_at_most_once_under_the_same_id(
    database: Pool, database_url: str, amqp: Broker, smtp: FakeSmtp
) -> None:
    environment = {
        "database_url": database_url,
        "amqp_url": amqp.url,
        "SMTP_URL": smtp.url(),
        "MAIL_FROM": "quotes@seller.example",
    }
    for number in range(6):
        await stands(database, quote_id=f"Q-{number}")
        await amqp.send("notifications", changed(quote_id=f"Q-{number}"))
    smtp.mode, smtp.delay = "slow", 0.3
    async with workers("notifications", **environment) as worker:
        await eventually(lambda: smtp.at_once > 0)
        await worker.kill()
    smtp.mode = "ok"
    # Instead of waiting for the leases to run out.
    await database.execute("UPDATE emails SET claimed_until = now() WHERE claimed_until IS NOT NULL")
    async with workers("notifications", **environment) as worker:

        async def all_sent() -> bool:
            return await sent(database) == 6

        await eventually(all_sent, 20)
        assert await worker.stop() == 0
    ids = [mail.message["Message-ID"] for mail in smtp.received]
    assert len(set(ids)) == 6
    assert all(ids.count(one) <= 2 for one in ids)


async def test_sigterm_ends_between_mails_and_nothing_is_lost_or_repeated(
    database: Pool, database_url: str, amqp: Broker, smtp: FakeSmtp
) -> None:
    environment = {
        "database_url": database_url,
        "amqp_url": amqp.url,
        "SMTP_URL": smtp.url(),
        "MAIL_FROM": "quotes@seller.example",
    }
    for number in range(60):
        await stands(database, quote_id=f"Q-{number}")
        await amqp.send("notifications", changed(quote_id=f"Q-{number}"))
    smtp.mode, smtp.delay = "slow", 0.02
    for _ in range(2):
        before = len(smtp.received)
        async with workers("notifications", **environment) as worker:
            await eventually(lambda start=before: len(smtp.received) > start, 20)  # type: ignore[misc]
            assert await worker.stop() == 0

    async def all_sent() -> bool:
        return await sent(database) == 60

    async with workers("notifications", **environment) as worker:
        await eventually(all_sent, 40)
        assert await worker.stop() == 0
    ids = [mail.message["Message-ID"] for mail in smtp.received]
    assert len(ids) == len(set(ids)) == 60
