"""The broker: killed, stopped, frozen, and out of memory or disk."""

import asyncio
from typing import Final

from fire.row import Row
from fire.system import System

STOPPED: Final = 60.0
FROZEN: Final = 20.0  # seconds, beyond the confirm's timeout
ALARMED: Final = 6.0
DURABLE: Final = "no 200 was given for what is not stored: the sender sends again, and the copies have no effect"


async def _restarted(system: System, away: float) -> None:
    await asyncio.sleep(away)
    await asyncio.to_thread(system.servers.broker.start)


async def _killed(system: System) -> None:
    await asyncio.to_thread(system.servers.broker.kill)
    await _restarted(system, 0.5)


async def _stopped(system: System) -> None:
    await asyncio.to_thread(system.servers.broker.stop)
    await _restarted(system, STOPPED)


async def _frozen(system: System) -> None:
    system.servers.broker.pause()
    try:
        await asyncio.sleep(FROZEN)
    finally:
        system.servers.broker.resume()


async def _ctl(system: System, *arguments: str) -> None:
    await asyncio.to_thread(system.servers.broker.ctl, *arguments)


async def _memory_alarm(system: System) -> None:
    await _ctl(system, "set_vm_memory_high_watermark", "absolute", "1")
    try:
        await asyncio.sleep(ALARMED)
    finally:
        await _ctl(system, "set_vm_memory_high_watermark", "absolute", "1GB")


async def _disk_alarm(system: System) -> None:
    await _ctl(system, "set_disk_free_limit", "100000GB")
    try:
        await asyncio.sleep(ALARMED)
    finally:
        await _ctl(system, "set_disk_free_limit", "50MB")


ROWS: Final = (
    Row("broker-killed", DURABLE, 20.0, _killed, repeats_mail=0, short=True),
    Row("broker-stopped-a-minute", DURABLE, 30.0, _stopped),
    Row("broker-frozen", DURABLE, 45.0, _frozen),
    Row("broker-memory-alarm", "publishers wait, workers go on", 20.0, _memory_alarm),
    Row("broker-disk-alarm", "publishers wait, workers go on", 20.0, _disk_alarm),
)
