"""Attempts to connect an account: each is begun with a token, opened in one browser, and used once, within ten minutes.

Three secrets of 256 bits, of which only the hashes are kept: `start` stands in the address that the token's owner is given,
`state` goes to Stripe and comes back, `browser` is a cookie of the browser that opened the address. Who has one of them has
none of the others.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple

from asyncpg import Record

from quittance.locks import Connection
from web.tokens import Caller

SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")
LIFE: Final = 600  # seconds

BEGIN: Final = """
INSERT INTO oauth_states (token_id, account, livemode, start_hash, expires_at)
VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
RETURNING expires_at
"""
# A token that was revoked since, or may no longer connect, leads nowhere: here, and when Stripe sends the browser back.
OPEN: Final = """
UPDATE oauth_states SET started_at = clock_timestamp(), state_hash = $2, browser_hash = $3
WHERE start_hash = $1 AND started_at IS NULL AND expires_at > clock_timestamp() AND EXISTS (
    SELECT FROM api_tokens
    WHERE api_tokens.id = oauth_states.token_id AND revoked_at IS NULL AND 'connect' = ANY(permissions)
)
RETURNING livemode
"""
FIND: Final = """
SELECT oauth_states.id, oauth_states.account, oauth_states.livemode, browser_hash, oauth_states.created_at, used_at,
       expires_at <= clock_timestamp() AS is_over,
       revoked_at IS NULL AND 'connect' = ANY(permissions) AS allowed
FROM oauth_states JOIN api_tokens ON api_tokens.id = oauth_states.token_id
WHERE state_hash = $1
FOR UPDATE OF oauth_states
"""
USE: Final = "UPDATE oauth_states SET used_at = clock_timestamp() WHERE id = $1"
FINISH: Final = "UPDATE oauth_states SET outcome = $2, connected = $3 WHERE id = $1"
# By another attempt, whose token might.
GRANTED: Final = """
SELECT EXISTS (
    SELECT FROM oauth_states
    WHERE connected = $1 AND livemode = $2 AND outcome = 'connected' AND used_at >= $3 AND id <> $4
)
"""
FORGET: Final = "DELETE FROM oauth_states WHERE expires_at < now() - interval '30 days'"


class Opened(NamedTuple):
    """What a browser is given when it opens the address."""

    livemode: bool
    state: str
    browser: str


@dataclass(frozen=True)
class Attempt:
    """An attempt whose browser came back: for which token's account and mode, and since when."""

    id: int
    account: str
    livemode: bool
    begun_at: datetime


Refusal = Literal["unknown", "used", "over", "other_browser", "not_allowed"]


async def begin(db: Connection, caller: Caller) -> tuple[str, datetime]:
    """A new attempt: the secret of its address, and until when it can be used."""
    start = secrets.token_urlsafe(32)
    await db.execute(FORGET)
    expires_at = await db.fetchval(BEGIN, caller.token_id, caller.account, caller.livemode, hashed(start), LIFE)
    return start, expires_at


async def open_in_browser(db: Connection, start: str) -> Opened | None:
    """Bind the attempt to the browser that opens its address; None for any but the first, and where it is over."""
    state, browser = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    livemode = await db.fetchval(OPEN, hashed(start), hashed(state), hashed(browser))
    return None if livemode is None else Opened(livemode, state, browser)


async def use(db: Connection, state: str, browser: str | None) -> Attempt | Refusal:
    """The attempt that Stripe's answer belongs to, from now on used. In a transaction: of two who come with one state, the
    second waits and finds it used. Another browser than the one that began uses nothing up.
    """
    row = await db.fetchrow(FIND, hashed(state))
    if row is None:
        return "unknown"
    refusal = _refusal(row, browser)
    if refusal is not None:
        return refusal
    await db.execute(USE, row["id"])
    return Attempt(row["id"], row["account"], row["livemode"], row["created_at"])


async def finish(db: Connection, attempt: Attempt, outcome: str, connected: str | None = None) -> None:
    """Note what became of it."""
    await db.execute(FINISH, attempt.id, outcome, connected)


async def granted_meanwhile(db: Connection, attempt: Attempt, account: str) -> bool:
    """Whether somebody else connected the account since the attempt began."""
    return bool(await db.fetchval(GRANTED, account, attempt.livemode, attempt.begun_at, attempt.id))


def hashed(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def _refusal(row: Record, browser: str | None) -> Refusal | None:
    if browser is None or not hmac.compare_digest(row["browser_hash"], hashed(browser)):
        return "other_browser"
    if row["used_at"] is not None:
        return "used"
    if row["is_over"]:
        return "over"
    return None if row["allowed"] else "not_allowed"
