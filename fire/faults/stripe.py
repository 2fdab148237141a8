"""Stripe's API: down, limiting, failing, and answering when nobody listens any more.

Customers are made there for guests who buy: whatever happens, an address has one (R18), and no purchase is dead-lettered
for it. Sessions of quotes that are recalled are expired there, and their coupons deleted (R16).
"""

import asyncio
import signal
import time
from typing import Final

from dev.stripe_events import token
from fire.row import Broken, Inject, Row
from fire.shop import shop
from fire.system import OWN, System
from tests.fakes.stripe import Fault

LASTS: Final = 8.0
FOR_ALL: Final = 1_000_000  # calls: as long as it lasts
CUSTOMERS: Final = "/v1/customers"
SESSIONS: Final = "/v1/checkout/sessions"
COUPONS: Final = "/v1/coupons"
RECALLED: Final = 10
LOOK_EVERY: Final = 0.2
UNENDED: Final = """
SELECT (SELECT count(*) FROM checkout_sessions WHERE state NOT IN ('closed', 'complete'))
     + (SELECT count(*) FROM quote_coupons WHERE state <> 'archived')
"""
WAIT: Final = 3  # seconds that Stripe asks for
# A call is given 6 s, an attempt 18; the pause between attempts grows to 30.
BOUND: Final = 75.0
ONE: Final = "each address has exactly one customer at Stripe, and nothing is dead-lettered"


def _failing(*faults: Fault) -> Inject:
    """Each call meets the first fault that is meant for it, for a while."""

    async def inject(system: System) -> None:
        calls = len(system.stripe.calls)
        system.stripe.faults[:] = [Fault(**vars(fault)) for fault in faults]
        try:
            await asyncio.sleep(LASTS)
        finally:
            system.stripe.faults.clear()
        asked = system.stripe.calls[calls:]
        if not asked:
            raise Broken("nobody asked Stripe for anything")
        system.notes.append(f"{len(asked)} calls met it")

    return inject


async def _customers_killed(system: System) -> None:
    """The worker dies while its calls are under way, and Stripe carries them out."""
    system.stripe.faults[:] = [Fault("POST", after=1.0, times=FOR_ALL, path=CUSTOMERS)]
    try:
        made = len(system.stripe.calls_of("POST", CUSTOMERS))
        for _ in range(3):
            await asyncio.sleep(2.0)
            await system.restart("customers", signal.SIGKILL)
        if len(system.stripe.calls_of("POST", CUSTOMERS)) == made:
            raise Broken("nobody asked Stripe for a customer")
    finally:
        system.stripe.faults.clear()


async def _recalled(system: System) -> None:
    """Quotes are recalled while Stripe carries out what it is asked, and answers nobody."""
    stripe, run = system.stripe, token(str(time.time_ns()), 6)
    quotes = [f"Q-recalled-{run}-{number}" for number in range(RECALLED)]
    async with shop(system) as ours:
        for quote in quotes:
            await ours.check_out(quote)
        if len(stripe.sessions_of("open")) != RECALLED:
            raise Broken(f"{len(stripe.sessions_of('open'))} sessions are open for {RECALLED} quotes")
        stripe.faults[:] = [
            Fault(None, executes=True, drops=True, times=FOR_ALL, path=path) for path in (SESSIONS, COUPONS)
        ]
        try:
            for quote in quotes:
                await ours.recall(quote)
            await asyncio.sleep(LASTS)
        finally:
            stripe.faults.clear()
    await _until_ended(system)
    if left := [session["id"] for session in stripe.sessions_of("open")]:
        raise Broken(f"sessions that can still be paid: {', '.join(left)}")
    if coupons := [*stripe.coupons.at(OWN)]:
        raise Broken(f"coupons that are still there: {', '.join(coupons)}")


async def _until_ended(system: System) -> None:
    deadline = time.monotonic() + BOUND
    db = await system.database()
    try:
        while left := await db.fetchval(UNENDED):
            if time.monotonic() > deadline:
                raise Broken(f"{left} sessions and coupons of recalled quotes have not ended")
            await asyncio.sleep(LOOK_EVERY)
    finally:
        await db.close()


def _fault(method: str | None = None, status: int | None = None, **more: object) -> Fault:
    return Fault(method, status, times=FOR_ALL, path=CUSTOMERS, **more)  # type: ignore[arg-type]


_CUSTOMERS: Final = tuple(
    Row(name, ONE, BOUND, inject, guests=True)
    for name, inject in (
        ("stripe-down", _failing(_fault(drops=True))),
        ("stripe-503", _failing(_fault(status=503))),
        ("stripe-limiting", _failing(_fault(status=429, headers={"Retry-After": str(WAIT)}))),
        ("stripe-loses-answers", _failing(_fault("POST", executes=True, drops=True))),
        ("stripe-500-though-done", _failing(_fault("POST", 500, executes=True))),
        ("stripe-answers-too-late", _failing(_fault("POST", executes=True, after=7.0))),
        ("stripe-answers-the-dead", _customers_killed),
    )
)

ROWS: Final = (
    *_CUSTOMERS,
    Row(
        "stripe-loses-answers-to-recalls",
        "every session of a recalled quote is expired, and every coupon deleted, though nobody heard that they were",
        30.0,
        _recalled,
    ),
)
