"""Connecting a Stripe account in the browser (R6): from the address that the API gave to Stripe's own page, and back.

The way back does something, so it is worth nothing without the cookie of the browser that began, and nothing twice. Where
it leads is never taken from the request.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import stripe
import structlog
from aiohttp import hdrs, web
from asyncpg.pool import Pool

from quittance.accounts import Known, learn, load
from quittance.connect import (
    CodeRefused,
    ConnectFault,
    Granted,
    StripeAway,
    authorize_url,
    describe,
    exchange,
    revoke,
)
from quittance.database import CONNECT_TIMEOUT
from quittance.domain.accounts import Account, connected, deauthorised
from quittance.event import OWN_ACCOUNT
from quittance.stripe_client import StripeSettings
from web import connect_states
from web.connect_results import ACCESS_DENIED, NOT_VALID, REFUSALS, RESULTS, Result, page
from web.connect_states import LIFE, SECRET, Attempt
from web.limits import Limiter
from web.security import client_address

# Of one address: a person needs two requests in all.
PER_SECOND: Final = 1.0
AT_ONCE: Final = 20

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Platform:
    """Who connects: the platform's client id at Stripe, its key's mode, and where people and Stripe reach us."""

    public_url: str
    client_id: str
    settings: StripeSettings
    client: Callable[[], stripe.StripeClient]

    @property
    def return_url(self) -> str:
        """What Stripe must know as a redirect URI, letter by letter."""
        return f"{self.public_url}/connect/return"


class ConnectPages:
    """`routes` is what the application serves."""

    def __init__(self, pool: Pool, platform: Platform) -> None:
        self._pool = pool
        self._platform = platform
        self._limiter = Limiter(PER_SECOND, AT_ONCE)
        self._secure = platform.public_url.startswith("https://")

    def routes(self) -> list[web.RouteDef]:
        """No HEAD: it would open what a person has yet to open."""
        return [
            web.get("/connect/return", self._limited(self.came_back), allow_head=False),
            web.get("/connect/{start}", self._limited(self.start), allow_head=False),
        ]

    def _limited(
        self, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[..., Awaitable[web.Response]]:
        async def limited(request: web.Request) -> web.Response:
            if (seconds := self._limiter.wait(client_address(request))) is not None:
                return page(request, RESULTS["too_often"], retry_after=seconds)
            return await handler(request)

        return limited

    async def start(self, request: web.Request) -> web.Response:
        """GET /connect/{start}: bind the attempt to this browser, and send it to Stripe."""
        start = request.match_info["start"]
        if _is_fetched_ahead(request):
            return page(request, RESULTS["open_it_yourself"])
        if not SECRET.fullmatch(start):
            return page(request, NOT_VALID)
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
            opened = await connect_states.open_in_browser(db, start)
        if opened is None:
            return page(request, NOT_VALID)
        platform = self._platform
        url = authorize_url(platform.client(), platform.client_id, platform.return_url, opened.state)
        answer = web.Response(status=303, headers={hdrs.LOCATION: url})
        answer.set_cookie(
            self._cookie(opened.state),
            opened.browser,
            max_age=LIFE,
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="Lax",  # Strict would not be sent when Stripe's page sends the browser back
        )
        log.info("connect.started", livemode=opened.livemode)
        return answer

    async def came_back(self, request: web.Request) -> web.Response:
        """GET /connect/return: what Stripe's page sends the browser back with."""
        query = request.query
        state, codes = query.get("state", ""), query.getall("code", [])
        if not SECRET.fullmatch(state) or len(query.getall("state")) != 1:
            return page(request, NOT_VALID)
        cookie = self._cookie(state)
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db, db.transaction():
            attempt = await connect_states.use(db, state, request.cookies.get(cookie))
        if not isinstance(attempt, Attempt):
            log.warning("connect.refused", reason=attempt)
            return page(request, REFUSALS[attempt])
        structlog.contextvars.bind_contextvars(account=attempt.account, livemode=attempt.livemode)
        if len(codes) == 1 and "error" not in query:
            result = await self._connect(attempt, codes[0])
        else:
            denied = query.get("error") == "access_denied"
            result = await self._refuse(attempt, ACCESS_DENIED if denied else RESULTS["stripe_says_no"])
        answer = page(request, result)
        answer.del_cookie(cookie, path="/", secure=self._secure, httponly=True, samesite="Lax")
        return answer

    async def _connect(self, attempt: Attempt, code: str) -> Result:
        client = self._platform.client()
        try:
            granted = await exchange(client, code)
        except CodeRefused:
            return await self._refuse(attempt, RESULTS["code_refused"])
        except StripeAway as error:
            return await self._refuse(attempt, RESULTS["stripe_away"], str(error))
        except ConnectFault as error:
            return await self._refuse(attempt, RESULTS["not_set_up"], str(error))
        if granted.livemode is not attempt.livemode:
            return await self._refuse(attempt, RESULTS["other_mode"], connected=granted.account)
        if attempt.account not in (OWN_ACCOUNT, granted.account):
            await self._take_back(client, attempt, granted)
            return await self._refuse(attempt, RESULTS["other_account"], connected=granted.account)
        return await self._keep(client, attempt, granted)

    async def _keep(self, client: stripe.StripeClient, attempt: Attempt, granted: Granted) -> Result:
        """Note the connection, and what Stripe says of the account; where it does not answer, webhooks will."""
        try:
            facts = await describe(client, granted.account)
        except (StripeAway, ConnectFault) as error:
            log.warning("connect.account_not_described", connected=granted.account, error=str(error))
            facts = Account()
        key = granted.account, granted.livemode
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db, db.transaction():
            await learn(db, {key: facts | connected(granted.at)})
            known = (await load(db, [key]))[key].facts
            await connect_states.finish(db, attempt, "connected", granted.account)
        log.info("connect.connected", connected=granted.account, charges_enabled=known.get("charges_enabled"))
        active = known.get("charges_enabled") is not False
        return RESULTS["connected" if active else "connected_not_activated"].about(
            known.get("name"), granted.account, granted.livemode
        )

    async def _take_back(self, client: stripe.StripeClient, attempt: Attempt, granted: Granted) -> None:
        """End a connection that was not asked for, unless it stood before: then it is not this attempt's to end."""
        key = granted.account, granted.livemode
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
            known: Known = (await load(db, [key]))[key]
            granted_elsewhere = await connect_states.granted_meanwhile(db, attempt, granted.account)
        if known.stood_before(attempt.begun_at) or granted_elsewhere:
            return
        try:
            at = await revoke(client, self._platform.client_id, granted.account)
        except (StripeAway, ConnectFault) as error:
            log.error("connect.not_taken_back", connected=granted.account, error=str(error))
            return
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db, db.transaction():
            await learn(db, {key: deauthorised(at)})
        log.info("connect.taken_back", connected=granted.account)

    async def _refuse(self, attempt: Attempt, result: Result, error: str = "", connected: str | None = None) -> Result:
        if error:
            log.error("connect.failed", outcome=result.outcome, error=error)
        else:
            log.info("connect.refused", reason=result.outcome)
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
            await connect_states.finish(db, attempt, result.outcome, connected)
        return result

    def _cookie(self, state: str) -> str:
        """The cookie's name, one for each attempt, so that two tabs do not take each other's. `__Host-`: only this host, over
        TLS, can have set it.
        """
        name = f"quittance-connect-{hashlib.sha256(state.encode()).hexdigest()[:12]}"
        return f"__Host-{name}" if self._secure else name


def _is_fetched_ahead(request: web.Request) -> bool:
    """Whether a browser asks before anybody clicked, or from within another page."""
    purposes = [request.headers.get(name, "") for name in ("Sec-Purpose", "Purpose", "X-Moz")]
    embedded = request.headers.get("Sec-Fetch-Dest", "document") != "document"
    return embedded or any(purpose.lower().startswith("prefetch") for purpose in purposes)
