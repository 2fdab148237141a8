"""A Stripe to be asked, and the runtime's performer to ask it."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest
from asyncpg import Record
from asyncpg.pool import Pool

from tests.support.stripe_environment import environment, stripe_api
from workers import checkouts
from workers.checkout_endings import StripeEndings
from workers.runtime.outcomes import Outcome
from workers.runtime.performer import Performer

__all__ = ["environment", "perform", "stripe_api"]

SCHEDULE = (60.0, 60.0, 60.0)

# Performs what is due until nothing is; how many attempts that took.
Perform = Callable[[], Awaitable[int]]


@pytest.fixture
def perform(database: Pool) -> Perform:
    """Each call is a process of its own, as far as leases and circuit breakers go."""

    async def until_nothing_is_due() -> int:
        attempts = 0

        async def attempt(claim: Record, outside: StripeEndings) -> Outcome:
            nonlocal attempts
            attempts += 1
            return await checkouts.perform(claim, outside)

        worker = SimpleNamespace(**{**vars(checkouts), "perform": attempt})
        performer = Performer(worker, database, SCHEDULE, asyncio.Event())
        async with checkouts.outside() as outside:
            while True:
                await performer._claim(outside, 20)
                if not performer._running:
                    return attempts
                await asyncio.gather(*performer._running)

    return until_nothing_is_due
