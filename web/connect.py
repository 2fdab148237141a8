"""Connecting Stripe accounts (R4 to R6): what the API is asked, and what it answers. The browser's part is connect_pages.py.

A token of a connected account sees and connects that account alone; one of the key's own account (`self`) connects any.
"""

import base64
from datetime import datetime
from typing import Any, Final

import structlog
from aiohttp import web
from asyncpg import Record
from asyncpg.pool import Pool

from quittance.accounts import learn
from quittance.connect import ACCOUNT_ID, ConnectFault, StripeAway, revoke
from quittance.database import CONNECT_TIMEOUT
from quittance.domain.accounts import deauthorised
from quittance.domain.payload import storable
from quittance.event import OWN_ACCOUNT
from web import connect_states
from web.api import limit_of, parameters
from web.connect_pages import Platform
from web.limits import Limiter
from web.problems import Problem, json_response, not_found
from web.security import read_json
from web.tokens import Caller, Doorkeeper

MOST_ACCOUNTS: Final = 200
USUAL_ACCOUNTS: Final = 50
# Of one token: attempts are kept, and disconnecting asks Stripe.
PER_SECOND: Final = 0.5
AT_ONCE: Final = 20
AGAIN_AFTER: Final = 5.0  # seconds

ACCOUNT: Final = """
SELECT account, charges_enabled, name, country, connected_at, deauthorised_at FROM accounts
WHERE account = $1 AND livemode = $2
"""
ACCOUNTS: Final = """
SELECT account, charges_enabled, name, country, connected_at, deauthorised_at FROM accounts
WHERE livemode = $1 AND account > $2 AND account <> 'self'
ORDER BY account LIMIT $3
"""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class ConnectApi:
    """`routes` is what the application serves."""

    def __init__(self, pool: Pool, doorkeeper: Doorkeeper, platform: Platform) -> None:
        self._pool = pool
        self._doorkeeper = doorkeeper
        self._platform = platform
        self._limiter = Limiter(PER_SECOND, AT_ONCE)

    def routes(self) -> list[web.RouteDef]:
        """Each with the permission that it takes: `connect` is the only licence check there is (R2, R5)."""
        door = self._doorkeeper.door
        return [
            web.post("/v1/connect", door("connect", self.connect)),
            web.post("/v1/disconnect", door("connect", self.disconnect)),
            web.get("/v1/accounts", door("connect", self.list), allow_head=False),
            web.get("/v1/account", door("read", self.read), allow_head=False),
        ]

    async def connect(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /v1/connect: 201 with an address to open in a browser, once, within ten minutes."""
        parameters(request)
        _members(await read_json(request, optional=True))
        self._not_too_often(caller)
        self._set_up_for(caller)
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
            start, expires_at = await connect_states.begin(db, caller)
        log.info("connect.begin")
        url = f"{self._platform.public_url}/connect/{start}"
        return json_response({"url": url, "expires_at": _time(expires_at)}, 201)

    async def disconnect(self, request: web.Request, caller: Caller) -> web.Response:
        """POST /v1/disconnect: 200, also where it was disconnected before."""
        parameters(request)
        account = _which(_members(await read_json(request, optional=True), "account"), caller)
        self._not_too_often(caller)
        known = await self._known(account, caller.livemode)
        if known is None and caller.account == OWN_ACCOUNT:
            raise not_found()
        if known is not None and known["deauthorised_at"] is not None:
            return json_response(_shown(known, account, caller.livemode))
        self._set_up_for(caller)
        try:
            at = await revoke(self._platform.client(), self._platform.client_id, account)
        except StripeAway as error:
            log.warning("disconnect.stripe_away", error=str(error))
            message = "Stripe did not answer, so it is not known whether the account is disconnected: send it again."
            raise Problem(503, "stripe_away", message, retry_after=AGAIN_AFTER) from error
        except ConnectFault as error:
            log.error("disconnect.failed", error=str(error))
            message = "Stripe refuses the key or the client id of this Quittance; `request_id` finds it in the logs."
            raise Problem(502, "stripe_refused", message) from error
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db, db.transaction():
            await learn(db, {(account, caller.livemode): deauthorised(at)})
        log.info("disconnect", disconnected=account)
        return json_response(_shown(await self._known(account, caller.livemode), account, caller.livemode))

    async def read(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /v1/account: what is known of the token's own."""
        parameters(request)
        known = await self._known(caller.account, caller.livemode)
        return json_response(_shown(known, caller.account, caller.livemode))

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /v1/accounts?cursor=&limit=: those that are or were connected, for the platform's own tokens."""
        given = parameters(request, "cursor", "limit")
        if caller.account != OWN_ACCOUNT:
            raise Problem(403, "not_the_platform", f"Only a token of the account {OWN_ACCOUNT!r} may list accounts.")
        limit = limit_of(given, USUAL_ACCOUNTS, MOST_ACCOUNTS)
        after = _account_in(given["cursor"]) if "cursor" in given else ""
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
            rows = await db.fetch(ACCOUNTS, caller.livemode, after, limit + 1)
        accounts = [_shown(row, row["account"], caller.livemode) for row in rows[:limit]]
        more = len(rows) > limit
        return json_response({"accounts": accounts, "next_cursor": _cursor(accounts[-1]["account"]) if more else None})

    async def _known(self, account: str, livemode: bool) -> Record | None:
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
            return await db.fetchrow(ACCOUNT, account, livemode)

    def _not_too_often(self, caller: Caller) -> None:
        if (seconds := self._limiter.wait(caller.token_id)) is not None:
            raise Problem(429, "too_many_requests", "This token connects too often.", retry_after=seconds)

    def _set_up_for(self, caller: Caller) -> None:
        """Raise Problem 409 where this Quittance cannot connect accounts, or none in the token's mode."""
        if not self._platform.client_id:
            raise Problem(409, "connect_not_set_up", "STRIPE_CONNECT_CLIENT_ID is not set where this Quittance runs.")
        if (why := self._platform.settings.silent(caller.livemode)) is not None:
            raise Problem(409, "connect_not_set_up", f"{why}, where this Quittance runs.")


def _members(body: Any, *known: str) -> dict[str, Any]:
    """The body's members. Raises Problem 422 where it is no object, or has others than `known`."""
    if body is None:
        return {}
    if isinstance(body, dict) and set(body) <= set(known):
        return body
    allowed = f"an object with {' and '.join(known)}" if known else "an empty object"
    raise _malformed(f"The body must be empty, or {allowed}.", "body", allowed)


def _which(members: dict[str, Any], caller: Caller) -> str:
    """The account that a call is about. Raises Problem 404 for one that is not the caller's, 422 where none is named."""
    account = members.get("account")
    if account is None and caller.account != OWN_ACCOUNT:
        return caller.account
    if not isinstance(account, str) or not ACCOUNT_ID.fullmatch(account):
        raise _malformed("`account` must name a connected account.", "account", "acct_…")
    if caller.account not in (OWN_ACCOUNT, account):
        raise not_found()
    return account


def _malformed(message: str, code: str, allowed: str) -> Problem:
    fault = {
        "rule": "format",
        "line": None,
        "code": f"malformed_{code}",
        "message": message,
        "given": None,
        "allowed": allowed,
    }
    return Problem(422, "request_refused", "The body is not what this takes.", errors=[fault])


def _shown(known: Record | None, account: str, livemode: bool) -> dict[str, Any]:
    """An account as the API shows it; what nobody has told is null."""
    row = dict(known or {})
    gone = row.get("deauthorised_at") is not None
    since = row.get("connected_at")
    # The key's own needs no leave of anybody. One that Stripe's events are about may have been connected elsewhere.
    connected = account == OWN_ACCOUNT or (False if gone else since is not None or None)
    return {
        "account": account,
        "livemode": livemode,
        "connected": connected,
        "deauthorised": gone,
        "charges_enabled": row.get("charges_enabled"),
        "name": row.get("name"),
        "country": row.get("country"),
        "connected_at": _time(since),
        "deauthorised_at": _time(row.get("deauthorised_at")),
    }


def _cursor(account: str) -> str:
    return base64.urlsafe_b64encode(account.encode()).decode().rstrip("=")


def _account_in(cursor: str) -> str:
    try:
        account = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        text = account.decode()
    except ValueError:
        text = ""
    if not text or not storable(text):
        raise Problem(400, "malformed_cursor", "`cursor` must be a `next_cursor` that an earlier answer gave.")
    return text


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
