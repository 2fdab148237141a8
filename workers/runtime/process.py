"""One process: the workers that it was asked to run, the relay if asked, health; until SIGTERM or SIGINT."""

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from types import ModuleType
from typing import Any, Final

import structlog

from quittance import database
from quittance.broker import DEAD_LETTERS
from quittance.outbox import wake_channel
from workers.runtime import dead_letters, housekeeping, redelivery
from workers.runtime.batch import Database
from workers.runtime.consumer import Consumer
from workers.runtime.health import Component, Watch, serving
from workers.runtime.intake import OURS
from workers.runtime.listener import listen
from workers.runtime.performer import Performer
from workers.runtime.relay import DESTINATIONS, Relay
from workers.runtime.settings import WorkerSettings

log = structlog.get_logger(__name__)

RELAY: Final = "relay"
PERFORMERS_CHANNEL: Final = "performers"
# What a batch in hand is given to finish; what is left then is rolled back, and the broker delivers it again.
GRACE: Final = 10.0

Loop = tuple[str, Coroutine[Any, Any, None]]  # its name, for health and the log


class Process:
    """What runs in this process. `run` returns its exit code."""

    def __init__(self, workers: Mapping[str, ModuleType], names: Sequence[str], settings: WorkerSettings) -> None:
        self._workers = {name: workers[name] for name in names if name != RELAY}
        # Of all of them: the relay files what the broker gave up of any.
        self._intakes = {worker.QUEUE.name: worker.INTAKE for worker in workers.values() if hasattr(worker, "INTAKE")}
        self._relay = RELAY in names
        self._settings = settings
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Run until told to stop, or until a loop ends that should not (exit code 1: somebody starts us again)."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        size = 2 * len(self._workers) + 8  # a loop uses one connection at a time, a performer two
        async with AsyncExitStack() as stack:
            pool = database.pool(self._settings.database_url, self._name(), size)
            stack.push_async_callback(_close, await pool)
            components, loops = self._loops(pool)
            watch = Watch(components, self._settings.stuck_after)
            await stack.enter_async_context(serving(watch, self._settings.metrics_host, self._settings.metrics_port))
            spare_the_collector()
            log.info("workers.started", workers=list(self._workers), relay=self._relay)
            tasks = [asyncio.create_task(loop, name=name) for name, loop in loops]
            code = await self._until_stopped(tasks, watch)
        log.info("workers.stopped", code=code)
        return code

    def _loops(self, pool: Database) -> tuple[list[Component], list[Loop]]:
        url, stopping = self._settings.amqp_url, self._stopping
        schedule = self._settings.retry_schedule
        consumers = [
            Consumer(
                worker.QUEUE,
                worker.handle,
                pool,
                url,
                schedule,
                stopping,
                self._intakes.get(worker.QUEUE.name, OURS),
            )
            for worker in self._workers.values()
        ]
        performers = [
            Performer(worker, pool, schedule, stopping)
            for worker in self._workers.values()
            if hasattr(worker, "perform")
        ]
        relays = [Relay(destination, pool, url, stopping) for destination in DESTINATIONS] if self._relay else []
        loops: list[Loop] = [
            *((consumer.name, consumer.run()) for consumer in consumers),
            *((performer.name, performer.run()) for performer in performers),
            *((relay.name, relay.run()) for relay in relays),
        ]
        wakes: dict[str, list[Callable[[str], None]]] = {}
        if performers:
            wakes[PERFORMERS_CHANNEL] = [performer.wake for performer in performers]
        if relays:
            wakes |= {wake_channel(relay.destination): [relay.wake] for relay in relays}
            loops += self._beside_the_relays(pool)
        if wakes:
            loops.append(("listener", listen(self._settings.database_url, wakes, stopping)))
        return [*consumers, *performers, *relays], loops

    def _beside_the_relays(self, pool: Database) -> list[Loop]:
        settings, stopping = self._settings, self._stopping
        days = settings.events_retention_days
        return [
            ("redelivery", redelivery.run(pool, settings.amqp_url, stopping)),
            (DEAD_LETTERS, dead_letters.consume(pool, settings.amqp_url, stopping, self._intakes)),
            ("partitions", housekeeping.keep_partitions(settings.database_url, days, stopping)),
            ("statistics", housekeeping.keep_statistics(pool, stopping)),
            ("gauges", housekeeping.keep_gauges(pool, stopping)),
        ]

    async def _until_stopped(self, tasks: list[asyncio.Task[None]], watch: Watch) -> int:
        told = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([told, *tasks], return_when=asyncio.FIRST_COMPLETED)
        code = 0 if self._stopping.is_set() else 1
        if code:
            # The others are given their grace; until they are done, and should one never be, health says what happened.
            watch.ended = [task.get_name() for task in tasks if task.done()]
            log.critical("loop.ended", loops=watch.ended)
        self._stopping.set()
        _done, late = await asyncio.wait(tasks, timeout=GRACE)
        for task in late:
            log.warning("shutdown.rolled_back", task=task.get_name())
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for task, outcome in zip(tasks, outcomes, strict=True):
            if isinstance(outcome, Exception):
                code = 1
                log.critical("loop.failed", loop=task.get_name(), exc_info=outcome)
        return code

    def _stop(self, number: int) -> None:
        log.info("workers.stopping", signal=signal.Signals(number).name)
        self._stopping.set()

    def _name(self) -> str:
        return ",".join([*self._workers, *([RELAY] if self._relay else [])])


async def _close(pool: Database) -> None:
    try:
        async with asyncio.timeout(3):
            await pool.close()
    except database.DATABASE_ERRORS:
        pool.terminate()


def spare_the_collector() -> None:
    """What is there after the start stays: the collector need not look at it with every batch."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
