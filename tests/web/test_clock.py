"""Quotes expire by the clock: once, however many processes run, also when none ran at that moment (R28)."""

import asyncio

from asyncpg.pool import Pool

from quittance import publishing
from quittance.domain.publishing.policies import HUBSPOT_2023
from tests.support.handling import pump
from tests.support.polling import eventually
from tests.web.conftest import Api, quote
from web import clock
from web.metrics import CLOCK_POSTPONED
from workers import WORKERS

EVENTS = "SELECT event_id FROM outbox WHERE type = 'quote.expired' ORDER BY event_id"
# The day that a quote was to expire on has come and gone.
PASS = "UPDATE published_quotes SET expires_at = now() - interval '3 days' WHERE quote_id = ANY($1::text[])"


async def expired(database: Pool) -> list[str]:
    return [row["event_id"] for row in await database.fetch(EVENTS)]


async def publish(api: Api, *names: str) -> None:
    for name in names:
        assert (await api.publish(name, quote(expires_on="2100-01-01"))).status == 201


async def test_r28_what_passed_while_nothing_ran_expires_at_the_first_round(api: Api, database: Pool) -> None:
    await publish(api, "Q-1", "Q-2", "Q-recalled")
    await api.publish("Q-never", quote())
    await api.recall("Q-recalled")
    await database.execute(PASS, ["Q-1", "Q-recalled"])
    assert await clock.tick(database) == 1
    assert await clock.tick(database) == 0
    assert await expired(database) == ["quote.expired:Q-1:1"]
    read = (await api.read("Q-1")).json
    assert (read["state"], read["recalled_at"]) == ("expired", None)
    assert read["expired_at"] > read["expires_at"]
    assert (await api.read("Q-2")).json["state"] == "published"


async def test_r28_many_clocks_let_a_quote_expire_once(api: Api, database: Pool) -> None:
    names = [f"Q-{number}" for number in range(8)]
    await publish(api, *names)
    await database.execute(PASS, names)
    counts = await asyncio.gather(*(clock.tick(database) for _ in range(5)))
    assert sum(counts) == 8
    assert await expired(database) == [f"quote.expired:{name}:1" for name in names]


async def test_a_recall_under_way_wins_over_the_clock(api: Api, database: Pool) -> None:
    await publish(api, "Q-1")
    await database.execute(PASS, ["Q-1"])
    async with database.acquire() as db:
        begun = db.transaction()
        await begun.start()
        await publishing.recall(db, "acct_1", False, "Q-1")
        assert await clock.tick(database) == 0, "it passes over what somebody holds"
        await begun.commit()
    assert await clock.tick(database) == 0
    assert await expired(database) == []


async def test_a_recall_waits_for_the_clock_and_comes_after_it(api: Api, database: Pool) -> None:
    await publish(api, "Q-1")
    await database.execute(PASS, ["Q-1"])
    async with database.acquire() as db:
        begun = db.transaction()
        await begun.start()
        assert await publishing.expire(db, 10) == 1
        recalling = asyncio.create_task(api.recall("Q-1"))

        async def waits() -> bool:
            return bool(await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await eventually(waits)
        await begun.commit()
    assert (await recalling).json["state"] == "recalled"
    events = [row["event_id"] for row in await database.fetch("SELECT event_id FROM outbox ORDER BY id")]
    assert events == ["quote.published:Q-1:1", "quote.expired:Q-1:1", "quote.recalled:Q-1:1"]


async def test_an_expired_quote_is_recalled_before_it_is_published_anew(api: Api, database: Pool) -> None:
    await publish(api, "Q-1")
    await database.execute(PASS, ["Q-1"])
    await clock.tick(database)
    assert (await api.publish("Q-1", quote(expires_on="2100-01-01"))).status == 200, "the same content is the same"
    assert (await api.publish("Q-1", quote(expires_on="2101-01-01"))).status == 409
    assert (await api.recall("Q-1")).status == 200
    again = await api.publish("Q-1", quote(expires_on="2101-01-01"))
    assert (again.status, again.json["revision"], again.json["state"]) == (201, 2, "published")


async def test_the_loop_lets_expire_and_ends_when_told(api: Api, database: Pool) -> None:
    stopping = asyncio.Event()
    running = asyncio.create_task(clock.run(database, stopping))
    await publish(api, "Q-1")
    await database.execute(PASS, ["Q-1"])

    async def there() -> bool:
        return await expired(database) == ["quote.expired:Q-1:1"]

    await eventually(there)
    stopping.set()
    async with asyncio.timeout(2):
        await running


async def test_the_loop_outlives_a_database_that_refuses(api: Api, database: Pool) -> None:
    stopping = asyncio.Event()
    await publish(api, "Q-1")
    await database.execute(PASS, ["Q-1"])
    await database.execute("ALTER TABLE published_quotes RENAME TO hidden")
    running = asyncio.create_task(clock.run(database, stopping))

    async def failed() -> bool:
        return bool(CLOCK_POSTPONED._value.get() > before)

    before = CLOCK_POSTPONED._value.get()
    await eventually(failed)
    await database.execute("ALTER TABLE hidden RENAME TO published_quotes")

    async def there() -> bool:
        return await expired(database) == ["quote.expired:Q-1:1"]

    await eventually(there)
    stopping.set()
    await running


async def test_more_than_one_transactions_worth(database: Pool) -> None:
    async with database.acquire() as db, db.transaction():
        for number in range(clock.AT_ONCE + 3):
            body = quote(expires_on="2100-01-01")
            await publishing.publish(db, "acct_1", False, f"Q-{number}", body, policy=HUBSPOT_2023)
    await database.execute("UPDATE published_quotes SET expires_at = now()")
    assert await clock.tick(database) == clock.AT_ONCE + 3


async def test_the_crm_is_told_of_a_life(api: Api, database: Pool) -> None:
    """Publish, recall, publish, expire: through the outbox and the quotes worker to the CRM."""
    quotes = [WORKERS["quotes"]]
    statuses = []

    async def told() -> None:
        for event in await pump(quotes, [], database):
            change = (await api.read("Q-1")).json["payment"]
            assert event.id == f"Q-1:{change['sequence']}"
            statuses.append((change["revision"], change["status"], change["cause"]["id"]))

    await api.publish("Q-1", quote(expires_on="2100-01-01"))
    await told()
    await api.recall("Q-1")
    await told()
    await api.publish("Q-1", quote(title="Better", expires_on="2100-01-01"))
    await told()
    await database.execute("UPDATE published_quotes SET expires_at = now() WHERE revision = 2")
    await clock.tick(database)
    await told()
    assert statuses == [
        (1, "pending", "quote.published:Q-1:1"),
        (1, "recalled", "quote.recalled:Q-1:1"),
        (2, "pending", "quote.published:Q-1:2"),
        (2, "expired", "quote.expired:Q-1:2"),
    ]


async def test_r7_a_quote_without_payment_is_not_enabled(api: Api, database: Pool) -> None:
    await api.publish("Q-1", quote(payment_enabled=False))
    (event,) = await pump([WORKERS["quotes"]], [], database)
    assert event.type == "quote.payment_status_changed"
    assert (await api.read("Q-1")).json["payment"]["status"] == "not_enabled"
