"""Health, readiness and metrics of a workers' process, over HTTP.

`/healthz` says that the process must be started again: a loop is in the middle of one thing for longer than any of its
time limits explains, or has ended. `/readyz` says that it waits for somebody else. An event loop that is blocked as a
whole answers neither: there the probe's own time limit tells.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from workers.runtime import metrics

log = structlog.get_logger(__name__)


class Component(Protocol):
    """One loop of the process."""

    @property
    def name(self) -> str:
        """The worker's, or `relay …`."""

    @property
    def ready(self) -> bool:
        """Whether it has what it needs: the broker, the database."""

    @property
    def busy_since(self) -> float | None:
        """When it began the step that it is in the middle of (monotonic seconds): one that has time limits. None while it
        waits for something to do, or for a server to come back.
        """


@dataclass
class Watch:
    """What health is judged by. `ended`: names of loops that ended though nobody told them to."""

    components: Sequence[Component]
    stuck_after: float  # seconds
    ended: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for component in self.components:
            metrics.BUSY.labels(component.name).set_function(lambda one=component: busy(one))  # type: ignore[misc]

    def faults(self) -> dict[str, list[Any]]:
        """Which loops are stuck, since when, and which have ended; empty lists where all is well."""
        return {
            "stuck": [self._told(one) for one in self.components if busy(one) > self.stuck_after],
            "ended": self.ended,
        }

    @staticmethod
    def _told(component: Component) -> dict[str, Any]:
        seconds = busy(component)
        since = datetime.now(UTC) - timedelta(seconds=seconds)
        return {"loop": component.name, "since": since.isoformat(timespec="seconds"), "seconds": round(seconds)}


def busy(component: Component) -> float:
    """For how many seconds it has been in the middle of one thing; 0 where it waits for something to do."""
    since = component.busy_since
    return 0.0 if since is None else time.monotonic() - since


@asynccontextmanager
async def serving(watch: Watch, host: str, port: int) -> AsyncIterator[int | None]:
    """Serve /healthz, /readyz and /metrics for the length of a block; yields the port.

    A port that cannot be had is a warning: work goes on, unobserved (None).
    """
    app = web.Application()
    app.router.add_get("/healthz", lambda _: _health(watch))
    app.router.add_get("/readyz", lambda _: _readiness(watch.components))
    app.router.add_get("/metrics", _metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            log.warning("metrics.not_served", host=host, port=port, error=str(error))
            yield None
        else:
            taken: int = runner.addresses[0][1]
            log.info("metrics.served", host=host, port=taken)
            yield taken
    finally:
        await runner.cleanup()


async def _health(watch: Watch) -> web.Response:
    # That this is answered at all says that the event loop runs.
    faults = watch.faults()
    return web.json_response(faults, status=503 if any(faults.values()) else 200)


async def _readiness(components: Sequence[Component]) -> web.Response:
    states = {component.name: component.ready for component in components}
    return web.json_response({"ready": states}, status=200 if all(states.values()) else 503)


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
