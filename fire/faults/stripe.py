"""Stripe's API: down, limiting, failing, and answering when nobody listens any more; its customers are made by guests' buying.

Whatever happens, an address has one customer (R18), and no purchase is dead-lettered for it.
"""

import asyncio
import signal
from typing import Final

from fire.row import Broken, Inject, Row
from fire.system import System
from tests.fakes.stripe import Fault

LASTS: Final = 8.0
FOR_ALL: Final = 1_000_000  # calls: as long as it lasts
CUSTOMERS: Final = "/v1/customers"
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


def _fault(method: str | None = None, status: int | None = None, **more: object) -> Fault:
    return Fault(method, status, times=FOR_ALL, path=CUSTOMERS, **more)  # type: ignore[arg-type]


ROWS: Final = tuple(
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
