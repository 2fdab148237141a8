"""Whatever happens to a quote, in whatever order, and wherever somebody dies: never two sessions in which it could be paid,
never two payments, and in the end nothing is left open.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any
from unittest.mock import patch

import aiohttp
import pytest
from asyncpg.pool import Pool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.stripe import Fault
from tests.fakes.stripe.shapes import JsonObject
from tests.web.conftest import line
from tests.web.shop import Clicked, Shop, be_impatient, open_shop

SESSIONS = "/v1/checkout/sessions"
NEAR_ITS_END = """
UPDATE checkout_sessions SET expires_at = now() + interval '1 minute' WHERE quote_id = $1 AND state = 'open'
"""

# What failed waits no longer.
NOW = "UPDATE checkout_sessions SET due_at = now(), attempts = 0 WHERE state = 'closing'"

NUMBERS = count(1)

TROUBLES: dict[str, dict[str, Any]] = {
    "answer lost": {"drops": True, "executes": True},
    "answers lost": {"drops": True, "executes": True, "times": 3},
    "call lost": {"drops": True},
    "failed": {"status": 500},
    "made and failed": {"status": 500, "executes": True},
    "limited": {"status": 429},
    "slow": {"after": 0.1},
    "refused": {"status": 400},
}


@pytest.fixture
async def shop(database: Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    be_impatient(monkeypatch)
    monkeypatch.setattr("web.checkout.PATIENCE", 0.1)
    monkeypatch.setattr("quittance.stripe_making.PAUSE", 0.01)
    async with open_shop(database) as opened:
        yield opened


class Life:
    """One quote's life: what can happen to it, and what must hold whenever something has."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.name = f"Q-{next(NUMBERS)}"
        self.tokens: list[str] = []
        self.ended = False  # the newest revision is recalled or over

    # What happens ------------------------------------------------------------------------------------------------

    async def publish(self) -> None:
        if not self.tokens or self.ended:
            price = line(unit_amount=1_000 + len(self.tokens))
            given: dict[str, Any] = {"discounts": [{"amount": 10}]} if len(self.tokens) % 2 else {}
            token = await self.shop.publish(price, quote_id=self.name, expires_on="2100-01-01", **given)
            self.tokens.append(token)
            self.ended = False

    async def recall(self) -> None:
        await self.shop.recall(self.name)
        self.ended = True

    async def republish(self) -> None:
        await self.recall()
        await self.publish()

    async def click(self) -> None:
        await self._clicked(self.tokens[-1])

    async def click_on_the_oldest(self) -> None:
        await self._clicked(self.tokens[0], at=1)

    async def click_twice(self) -> None:
        await asyncio.gather(self._clicked(self.tokens[-1]), self._clicked(self.tokens[-1], at=1))

    async def click_and_recall(self) -> None:
        await asyncio.gather(self.shop.click(self.tokens[-1]), self.recall())

    async def click_and_perform(self) -> None:
        await asyncio.gather(self.shop.click(self.tokens[-1]), self.shop.perform())

    async def click_and_pay(self) -> None:
        await asyncio.gather(self.shop.click(self.tokens[-1]), self.pay())

    async def die_after_stripes_answer(self) -> None:
        await self._dies("quittance.checkout_book.opened")

    async def die_before_stripe_is_asked(self) -> None:
        await self._dies("web.checkout.make_session")

    async def leases_run_out(self) -> None:
        await self.shop.everybody_died()

    async def perform(self) -> None:
        await self.shop.perform()

    async def deliver(self) -> None:
        await self.shop.deliver()

    async def time_passes(self) -> None:
        await self.shop.some_time_passes()

    async def the_session_nears_its_end(self) -> None:
        await self.shop.database.execute(NEAR_ITS_END, self.name)

    async def the_quotes_day_is_over(self) -> None:
        await self.shop.pass_expiry(self.name)

    async def the_clock_notes_it(self) -> None:
        await self.shop.tick()

    async def somebody_expires_it_by_hand(self) -> None:
        for session_id in self.shop.payable(self.name):
            await self.shop.stripe.expire(session_id)

    async def pay(self) -> None:
        for session_id in self.shop.payable(self.name):
            await self.shop.stripe.pay(session_id)

    async def pay_by_debit(self) -> None:
        for session_id in self.shop.payable(self.name):
            await self.shop.stripe.pay(session_id, "debit")

    async def the_debit_fails(self) -> None:
        for session in self._sessions("complete"):
            intent = self.shop.stripe.payment(session["id"]).intent
            if intent is not None and intent["status"] == "processing":
                await self.shop.stripe.settle(session["id"], paid=False)

    async def _clicked(self, token: str, at: int = 0) -> Clicked | None:
        before = self._worth_waiting_for()
        clicked = await self.shop.click(token, at)
        assert clicked.status in (303, 502, 503), clicked
        if clicked.to_stripe:
            session = self.shop.stripe.payment(str(clicked.location)).session
            assert token == self.tokens[-1], "nobody buys what was recalled"
            assert not (before - {session["id"]}), "nobody is sent to pay what somebody has paid"
            assert session["amount_total"] == 1_000 + (len(self.tokens) - 1) - (10 if len(self.tokens) % 2 == 0 else 0)
        return clicked

    async def _dies(self, where: str) -> None:
        with dying(where), suppress(aiohttp.ServerDisconnectedError):
            await self.shop.click(self.tokens[-1])

    # What holds --------------------------------------------------------------------------------------------------

    def check(self) -> None:
        payable, worth = self.shop.payable(self.name), self._worth_waiting_for()
        assert len(payable) <= 1, f"{len(payable)} sessions can be paid"
        assert len(worth) <= 1, "paid twice"

    async def come_to_an_end(self) -> None:
        """The seller recalls it, all that was under way is over, and the workers do their work."""
        self.shop.stripe.faults.clear()
        await self.recall()
        await self.shop.everybody_died()
        for _ in range(2):
            await self.shop.deliver()
            await self.shop.database.execute(NOW)
            await self.shop.perform()
        assert self.shop.payable(self.name) == []
        assert set(await self.shop.states(self.name)) <= {"complete", "closed"}
        states = await self.shop.database.fetch("SELECT state FROM quote_coupons WHERE quote_id = $1", self.name)
        assert all(row["state"] == "archived" for row in states)
        data = await self.shop.database.fetchval("SELECT data FROM quotes WHERE quote_id = $1", self.name)
        assert "foreign_session" not in data and "coupon_changed" not in data

    def _sessions(self, status: str) -> list[JsonObject]:
        sessions = self.shop.stripe.sessions_of(status)
        return [session for session in sessions if session["metadata"]["quote_id"] == self.name]

    def _worth_waiting_for(self) -> set[str]:
        """What was paid, or may yet be."""
        found = set()
        for session in self._sessions("complete"):
            intent = self.shop.stripe.payment(session["id"]).intent
            if intent is None or intent["status"] in ("processing", "succeeded"):
                found.add(session["id"])
        return found


@contextmanager
def dying(where: str) -> Iterator[None]:
    """Whoever comes there dies: no answer, no clean-up of its own."""

    async def dies(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    with patch(where, dies):
        yield


STEPS = [
    Life.publish, Life.recall, Life.republish, Life.click, Life.click_on_the_oldest, Life.click_twice,
    Life.click_and_recall, Life.click_and_perform, Life.click_and_pay, Life.die_after_stripes_answer,
    Life.die_before_stripe_is_asked, Life.leases_run_out, Life.perform, Life.deliver, Life.time_passes,
    Life.the_session_nears_its_end, Life.the_quotes_day_is_over, Life.the_clock_notes_it,
    Life.somebody_expires_it_by_hand, Life.pay, Life.pay_by_debit, Life.the_debit_fails,
]  # fmt: skip
BY_NAME = {step.__name__: step for step in STEPS}
# Clicks and what goes wrong with them are what it is about.
NAMES = [*BY_NAME, "click", "click", "click_twice", "leases_run_out"]
happenings = st.lists(st.sampled_from([*NAMES, *TROUBLES]), min_size=1, max_size=14)


@pytest.mark.slow
@given(happened=happenings)
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_r12_never_two_sessions_in_which_a_quote_could_be_paid(shop: Shop, happened: list[str]) -> None:
    life = Life(shop)
    await life.publish()
    for name in happened:
        if name in TROUBLES:
            shop.stripe.faults.append(Fault("POST", path=SESSIONS, **TROUBLES[name]))
        else:
            await BY_NAME[name](life)
        life.check()
    await life.come_to_an_end()
