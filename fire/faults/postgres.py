"""Postgres: restarted, killed, frozen, read-only. Stripe's events are taken all the while; the queues hold them."""

import asyncio
import os
import signal
from typing import Final, cast

from dev.postgres import Postgres
from fire.row import Row
from fire.system import System

HELD: Final = "nothing is dead-lettered and no attempt is counted: workers stop taking until it answers again"
FROZEN: Final = 20.0
READ_ONLY: Final = 6.0


async def _restarted_at_once(system: System) -> None:
    await asyncio.to_thread(system.servers.postgres.stop, "immediate")
    await asyncio.to_thread(system.servers.postgres.start)


async def _killed(system: System) -> None:
    await asyncio.to_thread(system.servers.postgres.kill)
    await asyncio.sleep(2)
    await asyncio.to_thread(system.servers.postgres.start)


async def _backend_killed(system: System) -> None:
    db = await system.database()
    try:
        pid = await db.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ 'quotes' LIMIT 1"
        )
    finally:
        await db.close()
    os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.5)


async def _frozen(system: System) -> None:
    postgres = cast("Postgres", system.servers.postgres)
    postgres.pause()
    try:
        await asyncio.sleep(FROZEN)
    finally:
        postgres.resume()


async def _set_read_only(system: System, value: str) -> None:
    db = await system.database()
    try:
        await db.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        await db.execute("SELECT pg_reload_conf()")
    finally:
        await db.close()


async def _read_only(system: System) -> None:
    await _set_read_only(system, "on")
    try:
        await asyncio.sleep(READ_ONLY)
    finally:
        await _set_read_only(system, "off")


ROWS: Final = (
    Row("postgres-restarted-immediate", HELD, 20.0, _restarted_at_once, repeats_mail=20),
    Row("postgres-killed", HELD, 20.0, _killed, repeats_mail=20, short=True),
    Row("postgres-backend-killed", HELD, 15.0, _backend_killed, repeats_mail=20),
    Row("postgres-frozen", HELD, 30.0, _frozen, repeats_mail=20),
    Row("postgres-read-only", HELD, 30.0, _read_only, repeats_mail=20),
)
