"""Bearer tokens: who calls, for which account and mode, and whether they may."""

import hmac
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web
from asyncpg.pool import Pool

from quittance.database import CONNECT_TIMEOUT
from quittance.tokens import TOKEN, Permission, token_hash
from web.limits import Limiter
from web.problems import Problem

FIND: Final = """
SELECT id, token_hash, account, livemode, permissions FROM api_tokens WHERE token_hash = $1 AND revoked_at IS NULL
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


class Doorkeeper:
    """Lets in who has a good token with the right permission, and not too often."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._calls = Limiter(CALLS_PER_SECOND, BURST)
        self._failures = Limiter(FAILURES_PER_SECOND, FAILURES_AT_ONCE)

    async def admit(self, request: web.Request, permission: Permission) -> Caller:
        """The caller. Raises Problem: 401 without a good token, 403 without the permission, 429 too often."""
        caller = await self._caller(request.headers.getall(hdrs.AUTHORIZATION, []))
        if caller is None:
            if (seconds := self._failures.wait(request.remote)) is not None:
                raise Problem(429, "too_many_failures", "Too many bad tokens from this address.", retry_after=seconds)
            challenge = {str(hdrs.WWW_AUTHENTICATE): 'Bearer realm="quittance"'}
            raise Problem(401, "no_token", "A bearer token that is known and not revoked is needed.", headers=challenge)
        if (seconds := self._calls.wait(caller.token_id)) is not None:
            raise Problem(429, "too_many_requests", "This token calls too often.", retry_after=seconds)
        if permission not in caller.permissions:
            raise Problem(403, "no_permission", f"This token lacks the permission {permission!r}.")
        return caller

    async def _caller(self, values: list[str]) -> Caller | None:
        if len(values) != 1:
            return None
        scheme, _, token = values[0].partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not TOKEN.fullmatch(token):
            return None
        hashed = token_hash(token)
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
            row = await db.fetchrow(FIND, hashed)
        # The index compared already, byte by byte, but hashes: how far one agrees tells nothing about another token.
        if row is None or not hmac.compare_digest(row["token_hash"], hashed):
            return None
        return Caller(row["id"], row["account"], row["livemode"], frozenset(row["permissions"]))
