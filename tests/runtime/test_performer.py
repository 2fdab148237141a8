"""Acts on the outside world: leased, repeated with care, and no destination waits for another."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from asyncpg.pool import Pool

from quittance.broker import Queue
from quittance.database import Connection
from quittance.event import Event, own_event
from tests.runtime.conftest import event
from tests.support.handling import run_handler
from tests.support.polling import eventually
from workers import archive
from workers.runtime import breaker, performer, settling
from workers.runtime.outcomes import Attempted, Done, Failed, Outcome, Refused, Unavailable
from workers.runtime.performer import Performer

QUEUE = Queue("notifications", {})

CREATE = """
CREATE TABLE intents (id integer PRIMARY KEY, event_id text NOT NULL, account text NOT NULL, livemode boolean NOT NULL,
    wheres text NOT NULL, state text NOT NULL DEFAULT 'due', due_at timestamptz NOT NULL DEFAULT now(), claim uuid,
    claimed_until timestamptz, attempts integer NOT NULL DEFAULT 0, error text NOT NULL DEFAULT '')
"""
CLAIM = """
UPDATE intents SET claim = $1, claimed_until = now() + interval '30 seconds' WHERE id IN (
    SELECT id FROM intents WHERE state = 'due' AND due_at <= now() AND (claimed_until IS NULL OR claimed_until < now())
    ORDER BY due_at, id FOR UPDATE SKIP LOCKED LIMIT $2)
RETURNING id, event_id, account, livemode, wheres, attempts
"""
SETTLE = """
UPDATE intents SET state = $3, attempts = attempts + $4, error = $5, claim = NULL, claimed_until = NULL,
    due_at = now() + make_interval(secs => $6)
WHERE id = $1 AND claim = $2 RETURNING id
"""


class Outside:
    """What the world answers: a function of the claim and of how often it was asked for it.

    `unsettled`: what `settle` raises, once for each item.
    """

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.unsettled: list[Exception] = []
        self.answer: Callable[[int, int], Outcome | Awaitable[Outcome]] = lambda _id, _times: Done()

    async def ask(self, number: int) -> Outcome:
        self.asked.append(number)
        answer = self.answer(number, self.asked.count(number))
        return answer if isinstance(answer, Done | Refused | Unavailable | Failed) else await answer


world = Outside()


@asynccontextmanager
async def outside() -> Any:
    yield world


def destination(claim: asyncpg.Record) -> tuple[str, str]:
    return ("fake", claim["wheres"])


async def perform(claim: asyncpg.Record, world: Outside) -> Outcome:
    return await world.ask(claim["id"])


async def settle(claim: asyncpg.Record, outcome: Outcome, token: UUID, db: Connection) -> list[Event]:
    told: tuple[str, int, str, float]
    if world.unsettled:
        raise world.unsettled.pop()
    match outcome:
        case Done():
            told = ("done", 0, "", 0.0)
        case Refused(_, detail):
            told = ("refused", 0, detail, 0.0)
        case Unavailable(detail, pause):
            told = ("due", 0, detail, pause or 0.0)
        case Failed():
            told = ("due", 1, outcome.detail, outcome.retry_in)
    if await db.fetchval(SETTLE, claim["id"], token, *told) is None or told[0] != "done":
        return []
    because = event(claim["id"])
    return [own_event(f"did:{claim['id']}", "customer.changed", {}, because=because, stream="s")]


async def handle(_events: Sequence[Event], _db: Connection) -> list[Event]:
    return []


@pytest.fixture(autouse=True)
async def intents(database: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of intents, a world that says yes, and breakers with pauses short enough to wait for."""
    monkeypatch.setattr(performer, "POLL", 0.02)
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.2)
    await database.execute(CREATE)
    world.__init__()  # type: ignore[misc]


@asynccontextmanager
async def performing(database: Pool, schedule: tuple[float, ...] = (0.05, 0.05)) -> Any:
    stopping = asyncio.Event()
    one = Performer(sys.modules[__name__], database, schedule, stopping)
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        stopping.set()
        async with asyncio.timeout(10):
            await task


async def intend(database: Pool, number: int, where: str = "a") -> None:
    """Record one intent, whose event is archived."""
    await run_handler(archive, [event(number)], database)
    await database.execute(
        "INSERT INTO intents (id, event_id, account, livemode, wheres) VALUES ($1, $2, 'self', false, $3)",
        number,
        f"evt_{number}",
        where,
    )


async def states(database: Pool) -> dict[int, tuple[str, int]]:
    """State and attempts of each intent."""
    rows = await database.fetch("SELECT id, state, attempts FROM intents ORDER BY id")
    return {row[0]: (row[1], row[2]) for row in rows}


async def become(database: Pool, wanted: dict[int, tuple[str, int]]) -> bool:
    seen = await states(database)
    assert seen == wanted
    return True


async def test_what_is_done_is_settled_with_its_events(database: Pool) -> None:
    await intend(database, 1)
    async with performing(database):
        await eventually(lambda: become(database, {1: ("done", 0)}))
    assert world.asked == [1]
    assert await database.fetchval("SELECT event_id FROM outbox") == "did:1"


async def test_a_failed_attempt_is_repeated_by_schedule_and_then_a_dead_letter(database: Pool) -> None:
    world.answer = lambda _id, _times: Failed("nonsense")
    await intend(database, 1)
    async with performing(database):
        await eventually(lambda: become(database, {1: ("refused", 2)}))
    assert world.asked == [1, 1, 1]
    row = await database.fetchrow("SELECT queue, event_id, state, reason, error, body, headers FROM failed_deliveries")
    assert row is not None
    assert tuple(row)[:5] == ("notifications", "evt_1", "dead", "handler_failed", "nonsense")
    assert row["body"] == event(1).body
    assert json.loads(row["headers"])["event-id"] == "evt_1"


async def test_what_raises_is_a_failed_attempt(database: Pool) -> None:
    def answer(_id: int, times: int) -> Outcome:
        if times == 1:
            raise KeyError("a mistake")
        return Done()

    world.answer = answer
    await intend(database, 1)
    async with performing(database):
        await eventually(lambda: become(database, {1: ("done", 1)}))


async def test_a_refusal_is_a_dead_letter_at_once_with_its_reason(database: Pool) -> None:
    world.answer = lambda _id, _times: Refused("mail_refused", "550 no such user")
    await intend(database, 1)
    async with performing(database):
        await eventually(lambda: become(database, {1: ("refused", 0)}))
    rows = await database.fetch("SELECT state, reason, error FROM failed_deliveries")
    assert [tuple(row) for row in rows] == [("dead", "mail_refused", "550 no such user")]


async def test_a_destination_that_is_down_costs_no_attempts_and_holds_up_no_other(database: Pool) -> None:
    """INVARIANT: while one account is limited, it is asked only now and then, and the others go on."""
    down = True

    def answer(number: int, _times: int) -> Outcome:
        return Unavailable("429") if down and number < 50 else Done()

    world.answer = answer
    for number in (*range(1, 6), 50, 51):
        await intend(database, number, "limited" if number < 50 else "well")
    async with performing(database):
        await eventually(lambda: become_done(database, {50, 51}))
        first_round = len(world.asked)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await eventually(lambda: loop.time() - began > 1.0)
        assert len(world.asked) - first_round <= 4, "half-open: one at a time, with a growing pause"
        down = False
        await eventually(lambda: become_done(database, {1, 2, 3, 4, 5, 50, 51}))
    assert all(attempts == 0 for _, attempts in (await states(database)).values())
    assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0


async def become_done(database: Pool, wanted: set[int]) -> bool:
    seen = {number for number, (state, _) in (await states(database)).items() if state == "done"}
    assert seen == wanted, seen
    return True


async def test_the_pause_that_is_asked_for_is_kept(database: Pool) -> None:
    loop = asyncio.get_running_loop()
    asked_at: list[float] = []

    def answer(_id: int, times: int) -> Outcome:
        asked_at.append(loop.time())
        return Unavailable("busy", 0.7) if times == 1 else Done()

    world.answer = answer
    await intend(database, 1)
    async with performing(database):
        await eventually(lambda: become(database, {1: ("done", 0)}))
    assert asked_at[1] - asked_at[0] >= 0.65


async def test_a_lease_that_ran_out_is_performed_again_and_settled_once(database: Pool) -> None:
    """A process that died, or hung, with the claim: its token holds no more."""
    await intend(database, 1)
    dead = UUID(int=1)
    [claim] = await database.fetch(CLAIM, dead, 10)
    async with performing(database):
        await eventually(lambda: become(database, {1: ("due", 0)}))
        assert world.asked == [], "it is leased"
        await database.execute("UPDATE intents SET claimed_until = now() - interval '1 second'")
        await eventually(lambda: become(database, {1: ("done", 0)}))
    async with database.acquire() as db:
        assert await settle(claim, Failed("late"), dead, db) == []
    assert await states(database) == {1: ("done", 0)}


async def test_two_performers_do_each_intent_once(database: Pool) -> None:
    for number in range(1, 60):
        await intend(database, number)
    async with performing(database), performing(database):
        await eventually(lambda: become_done(database, set(range(1, 60))))
    assert sorted(world.asked) == list(range(1, 60))


async def test_a_race_while_settling_repeats_the_settling_and_not_the_attempt(database: Pool) -> None:
    """INVARIANT: a deadlock in our own database sends no second mail."""
    world.unsettled = [asyncpg.DeadlockDetectedError("a race"), ConnectionResetError()]
    await intend(database, 1)
    async with performing(database):
        await eventually(lambda: become(database, {1: ("done", 0)}))
    assert world.asked == [1]


async def test_who_is_to_stop_while_postgres_is_away_tries_on_with_pauses(
    database: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen under fire: a worker told to stop while Postgres was away wrote thousands of log lines in its last second."""
    monkeypatch.setattr(settling, "SETTLE_AGAIN", 3600.0)
    world.unsettled = [ConnectionRefusedError() for _ in range(1000)]
    await intend(database, 1)
    stopping = asyncio.Event()
    task = asyncio.create_task(Performer(sys.modules[__name__], database, (), stopping).run())
    await eventually(lambda: len(world.unsettled) == 998)  # together with others, then by itself
    stopping.set()
    done, _ = await asyncio.wait([task], timeout=0.3)
    task.cancel()
    await asyncio.wait([task])
    assert not done
    assert len(world.unsettled) == 998


async def test_an_outcome_that_cannot_be_settled_is_a_dead_letter_and_not_repeated(database: Pool) -> None:
    """INVARIANT: a mistake in `settle` does not send the mail again and again."""
    world.unsettled = [KeyError("together with others"), KeyError("a mistake")]
    await intend(database, 1)
    await intend(database, 2)
    async with performing(database):
        await eventually(lambda: one_refused(database))
    assert sorted(world.asked) == [1, 2]
    error = await database.fetchval("SELECT error FROM failed_deliveries")
    assert "done, but settling it raised KeyError" in error


async def one_refused(database: Pool) -> bool:
    seen = sorted((await states(database)).values())
    assert seen == [("done", 0), ("refused", 0)], seen
    return True


async def all_at_once(attempts: Sequence[Attempted], db: Connection) -> list[Event]:
    """What a worker has that can settle many at once; the fixture puts it into this module."""
    settled_together.append([each.claim["id"] for each in attempts])
    return [told for each in attempts for told in await settle(each.claim, each.outcome, each.token, db)]


settled_together: list[list[int]] = []


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose `settle_together` is used; and time enough for all to end."""
    settled_together.clear()
    monkeypatch.setattr(performer, "GATHER", 5.0)
    monkeypatch.setattr(sys.modules[__name__], "settle_together", all_at_once, raising=False)


@pytest.mark.usefixtures("together")
async def test_what_ends_together_is_settled_together_and_a_refusal_by_itself(database: Pool) -> None:
    """Done, to be repeated or left for later alike, in one transaction; a refusal has its dead letter."""
    answers: dict[int, Outcome] = {
        1: Failed("not now"),
        2: Refused("mail_refused", "never"),
        3: Unavailable("away", 0.05),
    }
    world.answer = lambda number, times: answers.get(number, Done()) if times == 1 else Done()
    for number in range(1, 9):
        await intend(database, number)
    async with performing(database):
        await eventually(lambda: become_done(database, {1, 3, 4, 5, 6, 7, 8}))
    assert sorted(settled_together[0]) == [1, 3, 4, 5, 6, 7, 8]
    seen = await states(database)
    assert (seen[1], seen[2], seen[3]) == (("done", 1), ("refused", 0), ("done", 0))
    assert await database.fetchval("SELECT reason FROM failed_deliveries") == "mail_refused"


@pytest.mark.usefixtures("together")
async def test_what_cannot_be_settled_together_is_settled_one_by_one(database: Pool) -> None:
    world.unsettled = [KeyError("one of them")]
    for number in range(1, 6):
        await intend(database, number)
    async with performing(database):
        await eventually(lambda: become_done(database, set(range(1, 6))))
    assert sorted(world.asked) == [1, 2, 3, 4, 5]
    assert len(settled_together) == 1


async def test_places_are_claimed_by_the_half(database: Pool) -> None:
    """INVARIANT: a backlog costs a claim for ten, not one for each."""
    claims: list[int] = []

    async def counted(self: Performer, outside: Any, most: int) -> None:
        claims.append(most)
        await claim(self, outside, most)

    claim = Performer._claim
    for number in range(1, 61):
        await intend(database, number)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Performer, "_claim", counted)
        patched.setattr(performer, "GATHER", 5.0)
        async with performing(database):
            await eventually(lambda: become_done(database, set(range(1, 61))))
    assert min(claims) >= performer.HALF


async def test_one_that_takes_long_keeps_one_place(database: Pool) -> None:
    """Fifty others are performed while the first has not answered."""
    answered = asyncio.Event()

    async def slow() -> Outcome:
        await answered.wait()
        return Done()

    world.answer = lambda number, _times: slow() if number == 1 else Done()
    for number in range(1, 52):
        await intend(database, number)
    async with performing(database):
        await eventually(lambda: become_done(database, set(range(2, 52))))
        answered.set()
        await eventually(lambda: become_done(database, set(range(1, 52))))
