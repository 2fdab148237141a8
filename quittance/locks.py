"""Locks on what may not be there yet.

`SELECT … FOR UPDATE` cannot lock a row that nobody has inserted, and rows inserted only to be locked would grow with
every unrelated event. An advisory lock needs no row. It lasts until the transaction (or the savepoint around it) ends.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from asyncpg.pool import PoolConnectionProxy

Connection = PoolConnectionProxy

# In the order of the array, which is sorted: two workers that want the same keys never wait for each other in a ring.
LOCK: Final = "SELECT pg_advisory_xact_lock(key) FROM unnest($1::bigint[]) AS key"


async def lock(db: Connection, scope: str, keys: Iterable[tuple[str, bool, str]]) -> None:
    """Lock each (account, livemode, id) within `scope` (a worker's own name space), all in one sorted statement."""
    hashed = sorted({_key(scope, *key) for key in keys})
    if hashed:
        await db.execute(LOCK, hashed)


def _key(scope: str, account: str, livemode: bool, name: str) -> int:
    text = f"{scope}\x00{account}\x00{livemode}\x00{name}".encode(errors="surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True)
