"""The HTTP side: routes, and what holds for every request: an id, a line in the log, counters, errors as problem+json."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import asyncpg
import stripe
import structlog
import yaml
from aiohttp import hdrs, web
from asyncpg.pool import Pool
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from quittance.database import CONNECT_TIMEOUT, DATABASE_ERRORS
from quittance.stripe_client import connected
from web import connect_results
from web.api import QuotesApi
from web.checkout import Checkout
from web.connect import ConnectApi
from web.connect_pages import ConnectPages, Platform
from web.metrics import REQUESTS, SECONDS
from web.page.handlers import QuotePage
from web.page.rendering import RENDERER, Renderer
from web.page.trouble import render_trouble
from web.problems import Problem, json_response, not_found, problem_response
from web.reading import Pages
from web.security import FORWARDED_HOPS, HSTS, MAX_BODY, checkout_origins, harden, request_id_of
from web.settings import Settings
from web.tokens import Doorkeeper

OPENAPI: Final = Path(__file__).with_name("openapi.yaml")
READY: Final = "SELECT to_regclass('published_quotes') IS NOT NULL"
RETRY_AFTER: Final = 2.0  # seconds

# What a database says when it is busy, away or ending; anything else that it refuses is a fault of ours.
# SQLSTATE classes: connection, transaction rolled back, resources, lock not available, operator intervention.
PASSING: Final = ("08", "40", "53", "55", "57")

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Web:
    """The application: `app()` is what aiohttp serves."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        self._settings = settings
        self._pool = pool
        self._openapi = json_response(_openapi(settings.public_url)).body
        self._stripe: stripe.StripeClient | None = None
        self.draining = False

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._answered])
        settings, doorkeeper = self._settings, Doorkeeper(self._pool)
        platform = Platform(settings.public_url, settings.connect_client_id, settings.stripe, self.stripe)
        app.add_routes(QuotesApi(self._pool, doorkeeper, Pages(settings.public_url), settings.policy).routes())
        app.add_routes(ConnectApi(self._pool, doorkeeper, platform).routes())
        app.add_routes(ConnectPages(self._pool, platform).routes())
        app.add_routes(QuotePage(self._pool, settings.stripe).routes())
        app.add_routes(Checkout(self._pool, settings, self.stripe).routes())
        app[RENDERER] = Renderer(settings.public_url, checkout_origins(settings.stripe.api_base))
        app[FORWARDED_HOPS] = settings.forwarded_hops
        app.router.add_get("/openapi.json", self.openapi)
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/readyz", self.readyz)
        app.router.add_get("/metrics", self.metrics)
        app.on_response_prepare.append(self._prepare)
        app.cleanup_ctx.append(self._stripe_connected)
        return app

    def stripe(self) -> stripe.StripeClient:
        """The one client, and its connections, of this process."""
        if self._stripe is None:
            raise RuntimeError("the application has not been started")
        return self._stripe

    async def _stripe_connected(self, _: web.Application) -> AsyncIterator[None]:
        async with connected(self._settings.stripe) as self._stripe:
            yield

    async def openapi(self, _: web.Request) -> web.Response:
        """The contract, OpenAPI 3.1."""
        headers = {hdrs.CACHE_CONTROL: "public, max-age=300", "Cross-Origin-Resource-Policy": "cross-origin"}
        return web.Response(body=self._openapi, content_type="application/json", headers=headers)

    async def healthz(self, _: web.Request) -> web.Response:
        """Alive: the event loop turns."""
        return json_response({"alive": True})

    async def readyz(self, _: web.Request) -> web.Response:
        """Whether a quote could be published now."""
        reason = "draining" if self.draining else await self._hindrance()
        if reason is None:
            return json_response({"ready": True})
        return json_response({"ready": False, "reason": reason}, 503, headers={hdrs.RETRY_AFTER: "5"})

    async def metrics(self, _: web.Request) -> web.Response:
        """For Prometheus."""
        return web.Response(body=generate_latest(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})

    async def _hindrance(self) -> str | None:
        try:
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
                return None if await db.fetchval(READY, timeout=CONNECT_TIMEOUT) else "tables_missing"
        except DATABASE_ERRORS:
            return "database_away"

    @web.middleware
    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every request is answered with an id, counted and logged. The log holds the route, never the address: that may
        hold a page's secret.
        """
        request_id, started, route = request_id_of(request), time.perf_counter(), _route(request)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            response = await handler(request)
        except Problem as problem:
            response = _refused(request, problem, request_id)
        except web.HTTPException as error:
            response = _refused(request, _problem_of(error), request_id)
        except DATABASE_ERRORS as error:
            response = _refused(request, _away(error), request_id)
        except Exception:
            log.exception("request.failed", route=route)
            response = _refused(request, _fault(), request_id)
        response.headers["X-Request-Id"] = request_id
        if self.draining:
            response.force_close()
        seconds = time.perf_counter() - started
        REQUESTS.labels(route, str(response.status)).inc()
        SECONDS.labels(route).observe(seconds)
        if route.startswith("/v1"):
            log.info("request", method=request.method, route=route, status=response.status, ms=round(seconds * 1000, 1))
        return response

    async def _prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        await harden(request, response)
        if self._settings.public_url.startswith("https://"):
            response.headers.setdefault("Strict-Transport-Security", HSTS)


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "other" if resource is None else resource.canonical


def _refused(request: web.Request, problem: Problem, request_id: str) -> web.Response:
    """People get a page, programs (and the page's own script) problem+json."""
    if request.path.startswith("/connect/"):
        return connect_results.trouble(request, problem.status, problem.headers)
    # "/" and "/q" too: what is left of a page's address that was cut short.
    is_page = request.path.startswith("/q/") or request.path in ("/", "/q")
    if not is_page or request.path.endswith("/state"):
        return problem_response(problem, request_id)
    response = render_trouble(request, problem.status, retry_after=problem.retry_after)
    response.headers.update(problem.headers)
    return response


def _problem_of(error: web.HTTPException) -> Problem:
    """aiohttp's own refusals, in our words."""
    if error.status == 404:
        return not_found()
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Problem(405, "wrong_method", f"Methods here: {allowed}.", headers={hdrs.ALLOW: allowed})
    return Problem(error.status, "refused", error.reason)


def _away(error: Exception) -> Problem:
    if isinstance(error, asyncpg.PostgresError) and not (error.sqlstate or "").startswith(PASSING):
        # Not its text: what Postgres says of a row that it refuses holds the row.
        log.error(
            "request.failed",
            error=type(error).__name__,
            sqlstate=error.sqlstate,
            constraint=error.as_dict().get("constraint_name"),
        )
        return _fault()
    log.warning("database.unusable", error=type(error).__name__)
    return Problem(
        503, "database_away", "Nothing was changed, or it is not known: send it again.", retry_after=RETRY_AFTER
    )


def _fault() -> Problem:
    return Problem(500, "our_fault", "Something is wrong on our side; `request_id` finds it in the logs.")


def _openapi(public_url: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(OPENAPI.read_text("utf-8"))
    return document | {"servers": [{"url": public_url}]}
