"""Health, readiness and metrics of a workers' process, over HTTP."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

log = structlog.get_logger(__name__)

# No transaction of ours lasts longer, retries of a race included; a loop that is in one still is stuck.
STUCK_AFTER: Final = 120.0


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
        """When it began what it is in the middle of (monotonic seconds)."""


@asynccontextmanager
async def serving(components: Sequence[Component], host: str, port: int) -> AsyncIterator[int | None]:
    """Serve /healthz, /readyz and /metrics for the length of a block; yields the port.

    A port that cannot be had is a warning: work goes on, unobserved (None).
    """
    app = web.Application()
    app.router.add_get("/healthz", lambda _: _health(components))
    app.router.add_get("/readyz", lambda _: _readiness(components))
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


async def _health(components: Sequence[Component]) -> web.Response:
    # That this is answered at all says that the event loop runs.
    now = time.monotonic()
    stuck = [
        component.name
        for component in components
        if component.ready and component.busy_since is not None and now - component.busy_since > STUCK_AFTER
    ]
    return web.json_response({"stuck": stuck}, status=503 if stuck else 200)


async def _readiness(components: Sequence[Component]) -> web.Response:
    states = {component.name: component.ready for component in components}
    return web.json_response({"ready": states}, status=200 if all(states.values()) else 503)


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
