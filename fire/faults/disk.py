"""No space left on the device (ENOSPC): where Postgres keeps its data, and where it keeps its log."""

import asyncio
from contextlib import suppress
from typing import Final, cast

import asyncpg

from fire.disk import SmallPostgres
from fire.row import Broken, Row
from fire.system import System

FULL: Final = 12.0  # seconds
NOTICED: Final = 10.0
SWITCH: Final = "SELECT pg_switch_wal()"
# Of what a full disk refuses; the log of Postgres tells of no other way in which it was full.
REFUSED: Final = "No space left on device"


def _postgres(system: System) -> SmallPostgres:
    return cast("SmallPostgres", system.servers.postgres)


async def _data_full(system: System) -> None:
    postgres = _postgres(system)
    before = postgres.log.read_text(errors="replace").count(REFUSED)
    await asyncio.to_thread(postgres.fill, postgres.folder)
    try:
        await asyncio.sleep(FULL)
    finally:
        postgres.clear(postgres.folder)
    refused = postgres.log.read_text(errors="replace").count(REFUSED) - before
    if not refused:
        raise Broken("Postgres never noticed that its disk was full")
    system.notes.append(f"Postgres refused {refused} statements for it")


async def _wal_full(system: System) -> None:
    """Postgres itself cannot go on: it ends, and whoever keeps it running starts it when there is room again."""
    postgres = _postgres(system)
    await asyncio.to_thread(postgres.fill, postgres.wal)
    try:
        async with asyncio.timeout(NOTICED):
            await _until_it_falls(system)
        await asyncio.sleep(FULL / 2)
    finally:
        postgres.clear(postgres.wal)
        await asyncio.to_thread(postgres.stop, "immediate")
        await asyncio.to_thread(postgres.start)


async def _until_it_falls(system: System) -> None:
    """Use up what is left of the log's segments."""
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        db = await system.database()
        while True:
            await db.fetchval(SWITCH)
            await asyncio.sleep(0.05)


ROWS: Final = (
    Row(
        "postgres-disk-full",
        "workers wait, no attempt is counted, nothing is dead-lettered; with room again all goes on by itself",
        45.0,
        _data_full,
        repeats_mail=40,
        short=True,
        place="small-disk",
    ),
    Row(
        "postgres-wal-full",
        "Postgres ends; once it runs again, all goes on by itself, and nothing is lost",
        45.0,
        _wal_full,
        repeats_mail=40,
        place="small-disk",
    ),
)
