"""The quotes API: what each request may be, and what it is answered. web/openapi.yaml is the contract."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from aiohttp import hdrs, web
from asyncpg.pool import Pool

from quittance import publishing
from quittance.database import CONNECT_TIMEOUT
from quittance.domain.payload import storable
from quittance.domain.publishing.policies import Policy
from quittance.domain.publishing.record import fault_json
from quittance.publishing import Conflict, Published, Quote, Refused
from quittance.tokens import Permission
from web.changes import changes_after
from web.metrics import BROKEN_RULES, PUBLISHED
from web.problems import Problem, json_response, not_found
from web.reading import Pages, payment_of, quote_of, quotes_page, representation
from web.security import read_json
from web.tokens import Caller, Doorkeeper

MOST_OF_A_PAGE: Final = 200
USUAL_PAGE: Final = 50
MOST_CHANGES: Final = 1_000
USUAL_CHANGES: Final = 200
_NUMBER: Final = re.compile(r"[0-9]{1,6}")

Handler = Callable[[web.Request, Caller], Awaitable[web.Response]]

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class QuotesApi:
    """`routes` is what the application serves."""

    def __init__(self, pool: Pool, doorkeeper: Doorkeeper, pages: Pages, policy: Policy) -> None:
        self._pool = pool
        self._doorkeeper = doorkeeper
        self._pages = pages
        self._policy = policy

    def routes(self) -> list[web.RouteDef]:
        """Each with the permission that it takes."""
        return [
            web.put("/v1/quotes/{quote_id}", self._for("publish", self.publish)),
            web.post("/v1/quotes/{quote_id}/recall", self._for("publish", self.recall)),
            web.get("/v1/quotes/{quote_id}", self._for("read", self.read), allow_head=False),
            web.get("/v1/quotes", self._for("read", self.list), allow_head=False),
            web.get("/v1/changes", self._for("read", self.changes), allow_head=False),
        ]

    def _for(self, permission: Permission, handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def admitted(request: web.Request) -> web.Response:
            caller = await self._doorkeeper.admit(request, permission)
            structlog.contextvars.bind_contextvars(
                token_id=caller.token_id, account=caller.account, livemode=caller.livemode
            )
            return await handler(request, caller)

        return admitted

    async def publish(self, request: web.Request, caller: Caller) -> web.Response:
        """PUT /v1/quotes/{quote_id}: 201 a new revision, 200 the same again, 409 other content, 422 every fault."""
        parameters(request)
        quote_id = request.match_info["quote_id"]
        body = await read_json(request)
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db, db.transaction():
            outcome = await publishing.publish(db, caller.account, caller.livemode, quote_id, body, policy=self._policy)
            payment = None if isinstance(outcome, Refused) else await payment_of(db, caller, quote_id)
        PUBLISHED.labels(type(outcome).__name__.lower()).inc()
        if isinstance(outcome, Refused):
            for fault in outcome.faults:
                BROKEN_RULES.labels(fault.rule).inc()
            errors = [fault_json(fault) for fault in outcome.faults]
            raise Problem(422, "quote_refused", "The quote breaks rules: `errors` has all of them.", errors=errors)
        if isinstance(outcome, Conflict):
            raise _conflict(outcome)
        log.info("quote.publish", quote_id=quote_id, revision=outcome.quote.revision, outcome=type(outcome).__name__)
        new = isinstance(outcome, Published)
        return self._answer(outcome.quote, payment, caller, 201 if new else 200)

    async def recall(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /v1/quotes/{quote_id}/recall: 200, also when it was recalled before; 409 another revision is newest."""
        parameters(request)
        quote_id = request.match_info["quote_id"]
        revision = _revision(await read_json(request, optional=True))
        if not storable(quote_id):
            raise not_found()
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db, db.transaction():
            outcome = await publishing.recall(db, caller.account, caller.livemode, quote_id, revision)
            payment = await payment_of(db, caller, quote_id)
        if outcome is None:
            raise not_found()
        if isinstance(outcome, Conflict):
            raise _conflict(outcome)
        log.info("quote.recall", quote_id=quote_id, revision=outcome.quote.revision, outcome=type(outcome).__name__)
        return self._answer(outcome.quote, payment, caller, 200)

    async def read(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /v1/quotes/{quote_id}."""
        parameters(request)
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
            return json_response(await quote_of(db, caller, request.match_info["quote_id"], self._pages))

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /v1/quotes?status=&cursor=&limit=."""
        given = parameters(request, "status", "cursor", "limit")
        limit = _limit(given, USUAL_PAGE, MOST_OF_A_PAGE)
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
            page = await quotes_page(
                db, caller, self._pages, status=given.get("status"), cursor=given.get("cursor"), limit=limit
            )
        return json_response(page)

    async def changes(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /v1/changes?after=&limit=."""
        given = parameters(request, "after", "limit")
        limit = _limit(given, USUAL_CHANGES, MOST_CHANGES)
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
            return json_response(await changes_after(db, caller, given.get("after"), limit))

    def _answer(self, quote: Quote, payment: dict[str, Any] | None, caller: Caller, status: int) -> web.Response:
        headers = {str(hdrs.LOCATION): f"/v1/quotes/{quote.quote_id}"} if status == 201 else None
        return json_response(representation(quote, payment, caller, self._pages), status, headers=headers)


def parameters(request: web.Request, *known: str) -> dict[str, str]:
    """The query's parameters. Raises Problem 400 for one that is not known or comes twice: a misspelt `status` that is
    passed over would answer another question.
    """
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in known or name in given:
            allowed = ", ".join(known) or "none"
            raise Problem(400, "unknown_parameter", f"Parameters here, each at most once: {allowed}.")
        given[name] = value
    return given


def _limit(given: dict[str, str], usual: int, most: int) -> int:
    text = given.get("limit", str(usual))
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
        raise Problem(400, "malformed_limit", f"`limit` must be a whole number from 1 to {most}.")
    return int(text)


def _revision(body: Any) -> int | None:
    if body is None:
        return None
    revision = body.get("revision") if isinstance(body, dict) and set(body) <= {"revision"} else False
    if revision is None or (type(revision) is int and 1 <= revision < 1 << 31):
        return revision
    shown = json.dumps(body)[:200]
    fault = {
        "rule": "format",
        "line": None,
        "code": "malformed_recall",
        "message": "The body must be empty, or an object with `revision`, a whole number from 1.",
        "given": shown,
        "allowed": {"revision": 1},
    }
    raise Problem(422, "recall_refused", "The body is not what a recall takes.", errors=[fault])


def _conflict(outcome: Conflict) -> Problem:
    return Problem(409, outcome.fault.code, outcome.fault.message, errors=[fault_json(outcome.fault)])
