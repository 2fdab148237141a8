"""`GET /v1/changes`: nothing is left out, whatever commits late; of one quote everything in sequence."""

import asyncio
import base64
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from asyncpg.pool import Pool

from quittance.cli.schema_check import differences
from quittance.database import apply_schema
from quittance.event import first_event
from tests.support.handling import pump, run_handler
from tests.support.polling import eventually
from tests.web.conftest import Api, quote
from workers import WORKERS
from workers.runtime import batch

QUOTES = WORKERS["quotes"]
# Has a number of its own, and keeps it open.
TAKE_A_NUMBER = "SELECT pg_current_xact_id()"


def published(quote_id: str, revision: int = 1, **given: Any) -> Any:
    subject = {"quote_id": quote_id, "revision": revision, "currency": "usd", "amount_due": 100, **given}
    event_id = f"quote.published:{quote_id}:{revision}"
    return first_event(
        event_id, "quote.published", subject, account="acct_1", livemode=False, at=1_790_000_000.0, stream=quote_id
    )


async def read_on(api: Api, cursor: str | None = None, limit: int = 200) -> tuple[list[str], str]:
    """Ids of everything from the cursor on, and where it ends."""
    ids: list[str] = []
    while True:
        page = (await api.changes(limit=limit, **({"after": cursor} if cursor else {}))).json
        ids += [change["id"] for change in page["changes"]]
        cursor = str(page["cursor"])
        if not page["has_more"]:
            return ids, cursor


async def test_a_change_is_the_event_that_told_it(api: Api, database: Pool) -> None:
    await api.publish("Q-1", quote())
    (event,) = await pump([QUOTES], [], database)
    page = (await api.changes()).json
    (change,) = page["changes"]
    sent = json.loads(event.body)
    assert change | {"time": ""} == sent | {"time": ""}
    assert page["has_more"] is False


async def test_pages_follow_on_each_other_and_the_end_is_a_place_to_wait_at(api: Api, database: Pool) -> None:
    empty = (await api.changes()).json
    assert (empty["changes"], empty["has_more"]) == ([], False)
    for number in range(7):
        await run_handler(QUOTES, [published(f"Q-{number}")], database)
    seen, end = await read_on(api, empty["cursor"], limit=2)
    assert seen == [f"Q-{number}:1" for number in range(7)]
    assert await read_on(api, end) == ([], end)
    await run_handler(QUOTES, [published("Q-0", 2)], database)
    more, _ = await read_on(api, end)
    assert more == ["Q-0:2"]


async def test_a_transaction_that_commits_late_is_not_left_out(api: Api, database: Pool) -> None:
    """One takes its number first and commits last. Until then what came after it is held back."""
    async with database.acquire() as late:
        begun = late.transaction()
        await begun.start()
        await batch.within(late, "quotes", QUOTES.handle, [published("Q-late")])
        await run_handler(QUOTES, [published("Q-early")], database)
        seen, cursor = await read_on(api)
        assert seen == []
        await begun.commit()
    seen, _ = await read_on(api, cursor)
    assert sorted(seen) == ["Q-early:1", "Q-late:1"]


async def test_a_transaction_that_is_rolled_back_holds_nothing_back_for_good(api: Api, database: Pool) -> None:
    async with database.acquire() as late:
        begun = late.transaction()
        await begun.start()
        await batch.within(late, "quotes", QUOTES.handle, [published("Q-late")])
        await run_handler(QUOTES, [published("Q-early")], database)
        await begun.rollback()
    assert (await read_on(api))[0] == ["Q-early:1"]


async def test_changes_of_a_quote_stay_in_sequence_where_the_later_is_of_the_earlier_transaction(
    api: Api, database: Pool
) -> None:
    """A worker has its number with its first write, and waits for the quote's lock after it."""
    async with database.acquire() as earlier:
        begun = earlier.transaction()
        await begun.start()
        number = await earlier.fetchval(TAKE_A_NUMBER)
        await run_handler(QUOTES, [published("Q-1")], database)
        await batch.within(earlier, "quotes", QUOTES.handle, [published("Q-1", 2)])
        await begun.commit()
    writer_of_the_first = await database.fetchval("SELECT xmin::text FROM quote_status_changes WHERE sequence = 1")
    assert int(number) < int(writer_of_the_first), "or this is no test"
    assert (await read_on(api, limit=1))[0] == ["Q-1:1", "Q-1:2"]


async def test_a_reader_sees_everything_once_and_in_sequence_while_many_write(api: Api, database: Pool) -> None:
    """Writers with open transactions of random length; a reader that never stops asking."""
    chance, done = random.Random(20), asyncio.Event()
    revisions = {f"Q-{number}": 0 for number in range(4)}

    async def write(lane: int) -> None:
        for _ in range(12):
            names = sorted(chance.sample(sorted(revisions), 2))
            events = []
            for name in names:
                revisions[name] += 1
                events.append(published(name, revisions[name]))
            async with database.acquire() as db, db.transaction():
                await db.execute(TAKE_A_NUMBER)
                await asyncio.sleep(chance.random() * 0.02)
                await batch.within(db, "quotes", QUOTES.handle, events)
                await asyncio.sleep(chance.random() * 0.02)

    seen: list[str] = []

    async def read() -> None:
        cursor: str | None = None
        while True:
            last = done.is_set()
            ids, cursor = await read_on(api, cursor, limit=3)
            seen.extend(ids)
            if last:
                return
            await asyncio.sleep(0.03)

    reader = asyncio.create_task(read())
    await asyncio.gather(*(write(lane) for lane in range(4)))
    done.set()
    await reader
    told = await database.fetch("SELECT quote_id, sequence FROM quote_status_changes")
    assert sorted(seen) == sorted(f"{row['quote_id']}:{row['sequence']}" for row in told)
    assert len(seen) == len(set(seen)) > 40
    for name in revisions:
        numbers = [int(each.rpartition(":")[2]) for each in seen if each.startswith(f"{name}:")]
        assert numbers == list(range(1, len(numbers) + 1)), name


async def test_the_role_that_web_uses_needs_to_be_nobody_special(database: Pool) -> None:
    from web.changes import CLUSTER

    async with database.acquire() as db, db.transaction():
        await db.execute("CREATE ROLE plain NOLOGIN")
        await db.execute("SET LOCAL ROLE plain")
        assert await db.fetchval(CLUSTER)
        await db.execute("RESET ROLE")
        await db.execute("DROP ROLE plain")


def cursor_of(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


async def test_a_cursor_of_another_database_says_begin_again(api: Api) -> None:
    answer = await api.changes(after=cursor_of("1", 5, "Q-1", 1))
    assert (answer.status, answer.json["code"]) == (410, "cursor_of_another_database")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "ä",
        "=",
        "bm90IGpzb24",
        cursor_of("c", 1, "Q"),
        cursor_of("c", -1, "Q", 1),
        cursor_of("c", 1 << 64, "Q", 1),
        cursor_of("c", 1, "Q", 1 << 63),
        cursor_of("c", 1, "\x00", 1),
        cursor_of("c", 1, "\ud800", 1),
        cursor_of("c", True, "Q", 1),
        cursor_of("c", 1.5, "Q", 1),
        cursor_of(1, 1, "Q", 1),
    ],
)
async def test_a_cursor_that_is_none_is_refused(cursor: str) -> None:
    from web.changes import Cursor
    from web.problems import Problem

    with pytest.raises(Problem) as refused:
        Cursor.of(cursor)
    assert (refused.value.status, refused.value.code) == (400, "malformed_cursor")


async def test_held_back_means_later_and_not_never(api: Api, database: Pool) -> None:
    async with database.acquire() as late:
        begun = late.transaction()
        await begun.start()
        await late.execute(TAKE_A_NUMBER)
        await run_handler(QUOTES, [published("Q-1")], database)
        assert (await read_on(api))[0] == []
        await begun.rollback()

    async def there() -> bool:
        return (await read_on(api))[0] == ["Q-1:1"]

    await eventually(there)


async def test_a_database_from_before_the_feed_gets_one(api: Api, database: Pool, database_url: str) -> None:
    await run_handler(QUOTES, [published("Q-1"), published("Q-1", 2), published("Q-2")], database)
    await database.execute("ALTER TABLE quote_status_changes DROP COLUMN feed_place")
    await apply_schema(database_url)
    async with database.acquire() as db:
        assert await differences(db) == []
    await run_handler(QUOTES, [published("Q-0"), published("Q-1", 3)], database)
    seen, _ = await read_on(api, limit=1)
    assert seen == ["Q-1:1", "Q-1:2", "Q-2:1", "Q-0:1", "Q-1:3"]


async def test_after_a_restore_into_another_cluster_the_runbooks_statement_gives_the_feed_back(
    api: Api, database: Pool
) -> None:
    """Places of another cluster may lie far ahead of this one's transactions."""
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    (statement,) = re.findall(r"`(UPDATE quote_status_changes SET [^`]*)`", page)
    await run_handler(QUOTES, [published("Q-1"), published("Q-2")], database)
    await database.execute("UPDATE quote_status_changes SET feed_place = '999999999999'")
    assert (await read_on(api))[0] == []
    await database.execute(statement)
    await run_handler(QUOTES, [published("Q-1", 2)], database)
    assert (await read_on(api, limit=1))[0] == ["Q-1:1", "Q-2:1", "Q-1:2"]
