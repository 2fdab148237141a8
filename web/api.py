"""The quotes API: what each request may be, and what it is answered. web/openapi.yaml is the contract."""

import re
from typing import Any, Final

import structlog
from aiohttp import hdrs, web
from asyncpg.pool import Pool

from quittance import publishing
from quittance.answers import Refusal, refusal_of, revision_in
from quittance.database import CONNECT_TIMEOUT
from quittance.domain.payload import storable
from quittance.domain.publishing.policies import Policy
from quittance.publishing import Conflict, Published, Quote, Refused
from web.changes import changes_after
from web.metrics import BROKEN_RULES, PUBLISHED
from web.problems import Problem, json_response, not_found, problem_of
from web.reading import Pages, payment_of, quote_of, quotes_page, representation
from web.security import read_json
from web.tokens import Caller, Doorkeeper

MOST_OF_A_PAGE: Final = 200
USUAL_PAGE: Final = 50
MOST_CHANGES: Final = 1_000
USUAL_CHANGES: Final = 200
_NUMBER: Final = re.compile(r"[0-9]{1,6}")

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
        door = self._doorkeeper.door
        return [
            web.put("/v1/quotes/{quote_id}", door("publish", self.publish)),
            web.post("/v1/quotes/{quote_id}/recall", door("publish", self.recall)),
            web.get("/v1/quotes/{quote_id}", door("read", self.read), allow_head=False),
            web.get("/v1/quotes", door("read", self.list), allow_head=False),
            web.get("/v1/changes", door("read", self.changes), allow_head=False),
        ]

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
        if isinstance(outcome, Refused | Conflict):
            raise problem_of(refusal_of(outcome))
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
        if outcome is None or isinstance(outcome, Conflict):
            raise problem_of(refusal_of(outcome))
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
        limit = limit_of(given, USUAL_PAGE, MOST_OF_A_PAGE)
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
            page = await quotes_page(
                db, caller, self._pages, status=given.get("status"), cursor=given.get("cursor"), limit=limit
            )
        return json_response(page)

    async def changes(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /v1/changes?after=&limit=."""
        given = parameters(request, "after", "limit")
        limit = limit_of(given, USUAL_CHANGES, MOST_CHANGES)
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


def limit_of(given: dict[str, str], usual: int, most: int) -> int:
    """How long a page may be. Raises Problem 400 for a limit that is none."""
    text = given.get("limit", str(usual))
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
        raise Problem(400, "malformed_limit", f"`limit` must be a whole number from 1 to {most}.")
    return int(text)


def _revision(body: Any) -> int | None:
    revision = revision_in(body)
    if isinstance(revision, Refusal):
        raise problem_of(revision)
    return revision
