"""Bearer tokens: who calls, for which account and mode, and whether they may."""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import hdrs, web
from asyncpg.pool import Pool

from quittance.answers import NO_TOKEN, no_permission
from quittance.database import CONNECT_TIMEOUT
from quittance.tokens import Permission, hash_in
from web.limits import Limiter
from web.problems import Problem, problem_of
from web.security import client_address

FIND: Final = """
SELECT id, token_hash, account, livemode, permissions FROM tokens_with(ARRAY[$1::bytea]) WHERE NOT revoked
"""

CALLS_PER_SECOND: Final = 50.0
BURST: Final = 100
# Of one address: it hinders nobody whose token is good.
FAILURES_PER_SECOND: Final = 2.0
FAILURES_AT_ONCE: Final = 20


@dataclass(frozen=True)
class Caller:
    """A token that is good. All that it does and sees is of its account and mode."""

    token_id: int
    account: str
    livemode: bool
    permissions: frozenset[str]


Handler = Callable[[web.Request, Caller], Awaitable[web.Response]]


class Doorkeeper:
    """Lets in who has a good token with the right permission, and not too often."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._calls = Limiter(CALLS_PER_SECOND, BURST)
        self._failures = Limiter(FAILURES_PER_SECOND, FAILURES_AT_ONCE)

    def door(self, permission: Permission, handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        """`handler` for those alone who have the permission; who they are stands in each line of the log."""

        async def admitted(request: web.Request) -> web.Response:
            caller = await self.admit(request, permission)
            structlog.contextvars.bind_contextvars(
                token_id=caller.token_id, account=caller.account, livemode=caller.livemode
            )
            return await handler(request, caller)

        return admitted

    async def admit(self, request: web.Request, permission: Permission) -> Caller:
        """The caller. Raises Problem: 401 without a good token, 403 without the permission, 429 too often."""
        caller = await self._caller(request.headers.getall(hdrs.AUTHORIZATION, []))
        if caller is None:
            if (seconds := self._failures.wait(client_address(request))) is not None:
                raise Problem(429, "too_many_failures", "Too many bad tokens from this address.", retry_after=seconds)
            challenge = {str(hdrs.WWW_AUTHENTICATE): 'Bearer realm="quittance"'}
            raise problem_of(NO_TOKEN, headers=challenge)
        if (seconds := self._calls.wait(caller.token_id)) is not None:
            raise Problem(429, "too_many_requests", "This token calls too often.", retry_after=seconds)
        if permission not in caller.permissions:
            raise problem_of(no_permission(permission))
        return caller

    async def _caller(self, values: list[str]) -> Caller | None:
        hashed = hash_in(values)
        if hashed is None:
            return None
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
            row = await db.fetchrow(FIND, hashed)
        # The index compared already, byte by byte, but hashes: how far one agrees tells nothing about another token.
        if row is None or not hmac.compare_digest(row["token_hash"], hashed):
            return None
        return Caller(row["id"], row["account"], row["livemode"], frozenset(row["permissions"]))
