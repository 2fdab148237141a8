"""Each worker's real handler on the real Postgres, fed with broken events beside good ones, through the runtime's fallback."""

import asyncio
import json
from collections.abc import Sequence
from itertools import count
from types import ModuleType
from typing import Any, cast

import asyncpg
import pytest
from asyncpg.pool import Pool
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dev.lives import life
from dev.stripe_events import body
from quittance.broker import QUITTANCE_EVENTS, STRIPE_EVENTS
from quittance.errors import Rejected
from quittance.event import Event
from quittance.wire import Delivery
from tests.fuzz import seeds
from tests.fuzz.mutations import mutated
from tests.fuzz.profile import bounded
from tests.fuzz.targets import accepted_or_refused
from tests.support.handling import accepted, run_handler
from workers import WORKERS
from workers.runtime.consumer import Consumer
from workers.runtime.subscription import Subscription

FED = ("accounts", "archive", "checkouts", "commands", "customers", "documents", "notifications", "quotes")
HEALTHY = [accepted(body(sent)) for sent in life("refunded", 41).events]
NUMBERS = count(1)
FAULTS = "SELECT queue, event_id, reason, state, error FROM failed_deliveries WHERE reason <> ALL($1::text[])"
# What a refusal is called; anything else in failed_deliveries is an exception that nobody had thought of.
REFUSALS = ["unreadable_payload", "command_refused"]


class Acks:
    """The one thing that settling asks of a subscription whose channel lives."""

    lost = False

    def __init__(self) -> None:
        self.tags: list[int] = []

    async def ack(self, tag: int, *, multiple: bool) -> None:
        self.tags.append(tag)


def types_of(worker: ModuleType) -> tuple[str, ...]:
    """What its queue gets; for a queue that is fed directly, or takes all, some of everything."""
    bound = (*worker.QUEUE.bindings.get(STRIPE_EVENTS, ()), *worker.QUEUE.bindings.get(QUITTANCE_EVENTS, ()))
    named = tuple(kind for kind in bound if "#" not in kind)
    return named or ("charge.succeeded", "quote.payment_status_changed", "account.updated")


@st.composite
def broken_events(draw: st.DrawFn, worker: ModuleType) -> list[Event]:
    """Up to three mutated events that the ingress takes, as types that the worker gets."""
    kinds = types_of(worker)
    mine = tuple(event for event in seeds.events() if event["type"] in kinds) or seeds.events()
    found = []
    for _ in range(draw(st.integers(1, 3))):
        event = accepted_or_refused(draw(mutated(mine, keep=("id", "type"))))
        if event is not None:
            kind = event.type if event.type in kinds else draw(st.sampled_from(kinds))
            found.append(replace(event, type=kind, id=f"evt_broken_{next(NUMBERS)}"))
    return found


def deliveries(events: Sequence[Event]) -> list[Delivery]:
    return [Delivery(tag, event.headers(), event.type, event.body) for tag, event in enumerate(events, 1)]


async def settled(worker: ModuleType, events: Sequence[Event], database: Pool) -> None:
    """What the worker's consumer makes of one batch of deliveries; every one is acked at the end."""
    acks = Acks()
    consumer = Consumer(worker.QUEUE, worker.handle, database, "amqp://unused", (60.0,), asyncio.Event())
    await consumer.settle(deliveries(events), cast("Subscription", acks))
    assert acks.tags == [len(events)]


@pytest.mark.parametrize("name", FED)
@bounded(20)
@given(data=st.data())
async def test_a_broken_event_is_taken_or_rejected_and_costs_no_other(
    name: str, database: Pool, data: st.DataObject
) -> None:
    """INVARIANT: nothing but Rejected comes of a broken event, and every good one of its batch is handled."""
    worker = WORKERS[name]
    account = f"acct_{next(NUMBERS)}"
    healthy = await good_ones(name, account, database)
    batch = [*healthy, *(replace(event, account=account) for event in data.draw(broken_events(worker)))]
    if not batch:
        return
    await settled(worker, data.draw(st.permutations(batch)), database)
    faults = await database.fetch(FAULTS, REFUSALS)
    await database.execute("TRUNCATE failed_deliveries CASCADE")
    assert faults == []
    await assert_handled(worker, account, healthy, database)


async def good_ones(name: str, account: str, database: Pool) -> list[Event]:
    """Events that the worker handles: a life's own, or what the quotes worker says of it."""
    if name == "commands":  # a command needs a token: tests/commands
        return []
    told = [replace(event, account=account) for event in HEALTHY]
    if name == "notifications":
        quotes = WORKERS["quotes"]
        emitted = await run_handler(quotes, [event for event in told if event.type in types_of(quotes)], database)
        return [event for event in emitted if event.type == "quote.payment_status_changed"]
    return told if name == "archive" else [event for event in told if event.type in types_of(WORKERS[name])]


async def assert_handled(worker: ModuleType, account: str, healthy: Sequence[Event], database: Pool) -> None:
    told = (worker.QUEUE.name, account)
    handled = await database.fetch("SELECT event_id FROM inbox WHERE queue = $1 AND account = $2", *told)
    failed = await database.fetch("SELECT event_id FROM failed_deliveries WHERE queue = $1 AND account = $2", *told)
    ids = {event.id for event in healthy}
    assert ids <= {row[0] for row in handled}
    assert not ids & {row[0] for row in failed}


@bounded(25)
@given(broken=broken_events(WORKERS["quotes"]), place=st.integers(0, 10))
async def test_a_quote_among_broken_events_ends_as_it_does_alone(
    database: Pool, broken: list[Event], place: int
) -> None:
    """INVARIANT: its state is the same, to the last figure, whatever stood beside its events."""
    quotes = WORKERS["quotes"]
    mine = [event for event in HEALTHY if event.type in types_of(quotes)]
    lone, beside = f"acct_{next(NUMBERS)}", f"acct_{next(NUMBERS)}"
    await run_handler(quotes, [replace(event, account=lone) for event in mine], database)
    events = [replace(event, account=beside) for event in mine]
    # What is broken may name the quote's own objects, so it is another account's: the batch alone is shared.
    await settled(quotes, [*events[:place], *broken, *events[place:]], database)
    assert await state(database, lone)
    assert await state(database, beside) == await state(database, lone)


async def state(database: Pool, account: str) -> list[dict[str, Any]]:
    rows: list[asyncpg.Record] = await database.fetch(
        "SELECT quote_id, data FROM quotes WHERE account = $1 ORDER BY quote_id", account
    )
    return [{**json.loads(row["data"]), "quote_id": row["quote_id"], "account": None} for row in rows]


async def test_the_check_of_this_file_sees_an_exception(database: Pool) -> None:
    """A handler that fails with anything but Rejected would be seen."""

    class Faulty:
        QUEUE = WORKERS["quotes"].QUEUE

        @staticmethod
        async def handle(events: Sequence[Event], db: Any) -> list[Event]:
            if any(event.id == HEALTHY[1].id for event in events):
                raise KeyError("id")
            if any(event.id == HEALTHY[2].id for event in events):
                raise Rejected("unreadable_payload", "no")
            return []

    await settled(cast("ModuleType", Faulty), HEALTHY[:4], database)
    assert [row["event_id"] for row in await database.fetch(FAULTS, REFUSALS)] == [HEALTHY[1].id]
