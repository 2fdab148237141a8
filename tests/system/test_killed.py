"""Processes as processes, under a steady stream of signed events: told to stop, killed, and the broker killed too.

Stripe sends again what was not answered 200. In the end every event that got a 200 has had its effects, once.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence

import pytest
from asyncpg.pool import Pool

from dev.servers import BrokerControl
from tests.support.crm_side import assert_told_in_order, everything_told
from tests.support.many_lives import VARIANTS, Story, told_lives
from tests.support.polling import eventually
from tests.support.stripe_side import Stripe
from tests.support.system import ALL, System, settled, system
from tests.system.ends import everything_as_it_must_be
from workers import WORKERS

SEED = 20230121

# Ties by the session alone, guests, another account: what goes through every worker, the performers included.
FEW = ("card", "refunded_refund_only", "subscription_renewed", "dispute_lost", "debit_settles", "double_payment")
RUN_UP = 60  # deliveries
LIVES = 3  # of each name, shape and variant: some 1,000 events, each sent twice

# Rows there may be, of what was tried alone because it had come back twice; all resolved, and none of them ever given up.
GIVEN_UP = "SELECT * FROM failed_delivery_history WHERE action IN ('failed', 'dead_lettered')"

# Done to the system at a moment of the stream.
Deed = Callable[[System], Awaitable[None]]


def steady_stream(run: str) -> list[Story]:
    return [story for number in range(LIVES) for story in told_lives(f"{run}{number}", VARIANTS[:2], FEW)]


async def restarted_after_stop(running: System, name: str) -> None:
    await running.stop(name)
    await running.start(name)


async def restarted_after_kill(running: System, name: str) -> None:
    await running.kill(name)
    await running.start(name)


def deeds(what: Callable[[System, str], Awaitable[None]], names: Sequence[str]) -> list[Deed]:
    def deed(name: str) -> Deed:
        return lambda running: what(running, name)

    return [deed(name) for name in names]


async def under_load(database: Pool, amqp_url: str, database_url: str, run: str, todo: Sequence[Deed]) -> System:
    """Send a stream; do each of the deeds at a random moment of it, in order; then everything must be as it must be."""
    stories = steady_stream(run)
    source = random.Random(f"{SEED} {run}")
    events = 2 * [event for story in stories for event in story.from_stripe]
    source.shuffle(events)
    # One deed in each part of the stream, never at its very beginning. The stream waits at a part's end for its deed,
    # so that none is done when all is over; the last tenth is for the last deed.
    part = len(events) * 9 // 10 // len(todo)
    moments = [part * number + source.randrange(RUN_UP, part) for number in range(len(todo))]
    print(f"seed {SEED} {run}: {len(events)} deliveries of {len(stories)} lives, disturbed after {moments}")
    async with system(database_url, amqp_url) as running:
        running.mails.mode, running.mails.delay = "slow", 0.05  # so that a kill finds mails half way
        await running.start(*ALL)
        stripe = Stripe(running.url)

        async def disturb() -> None:
            for number, (moment, deed) in enumerate(zip(moments, todo, strict=True), 1):
                stripe.limit = part * number
                await eventually(lambda moment=moment: stripe.taken >= moment, timeout=60)  # type: ignore[misc]
                await deed(running)
            stripe.limit = math.inf

        await stripe.send(events, beside=disturb())
        print(f"not answered 200: {dict(stripe.troubles)}")
        assert set(stripe.accepted.values()) == {2}
        await settled(running, stripe.events)
        await running.stop_all()
        repeats = sum(number for name, number in running.kills.items() if name.startswith("notifications"))
        assert await database.fetch(GIVEN_UP) == []
        rows = await everything_as_it_must_be(database, stories, running.mails, repeats=repeats)
    repeated = assert_told_in_order(await everything_told(amqp_url), rows)
    twice = len(running.mails.received) - await database.fetchval("SELECT count(*) FROM emails")
    print(f"changes that the CRM got twice: {repeated}; mails that came twice: {twice}")
    return running


@pytest.mark.slow
async def test_sigterm_of_each_process_under_load_loses_nothing(
    database: Pool, database_url: str, amqp_url: str
) -> None:
    """INVARIANT: nothing is lost, nothing is dead-lettered, nothing comes twice: not a mail, not a change."""
    names = [*WORKERS, "relay", "ingest"]
    running = await under_load(database, amqp_url, database_url, "stop", deeds(restarted_after_stop, names))
    assert await database.fetch("SELECT * FROM failed_deliveries") == []
    assert len(running.mails.received) == await database.fetchval("SELECT count(*) FROM emails")


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize(
    "victims", [("quotes", "notifications", "archive", "checkouts", "customers", "documents", "quotes"), ("relay",) * 4]
)
async def test_kill_9_of_workers_and_of_the_relay(
    database: Pool, database_url: str, amqp_url: str, victims: tuple[str, ...]
) -> None:
    """INVARIANT: what was in the hands of a process that was killed is done by its successor, once."""
    await under_load(database, amqp_url, database_url, f"kill-{victims[0]}", deeds(restarted_after_kill, victims))


@pytest.mark.slow
@pytest.mark.faults
async def test_kill_9_of_ingest(database: Pool, database_url: str, amqp_url: str) -> None:
    """INVARIANT: no 200 for what is not stored; what was stored without a 200 is sent again, and has one effect."""
    victims = ("ingest",) * 4
    await under_load(database, amqp_url, database_url, "kill-ingest", deeds(restarted_after_kill, victims))


@pytest.mark.slow
@pytest.mark.faults
async def test_the_broker_killed_in_mid_stream(
    database: Pool, database_url: str, amqp_url: str, killable_broker: BrokerControl
) -> None:
    """INVARIANT: what was confirmed is there when the broker is back; what was not is published again."""

    async def kill(_: System) -> None:
        await asyncio.to_thread(killable_broker.kill)
        await asyncio.to_thread(killable_broker.start)

    try:
        await under_load(database, amqp_url, database_url, "kill-broker", [kill, kill])
    finally:
        await asyncio.to_thread(killable_broker.start)
