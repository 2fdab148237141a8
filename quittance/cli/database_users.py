"""The users that the processes log in to Postgres as: `quittance init` makes those whose passwords it is told.

docs/security.md says what each may do.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Final, NamedTuple

from quittance.database import Connection
from quittance.settings import Reader


class User(NamedTuple):
    """A user, the one role of schema.sql that he is a member of, and the variable that holds his password."""

    name: str
    role: str
    variable: str


USERS: Final = tuple(
    User(f"quittance_of_{kind}", f"quittance_{kind}", f"{kind.upper()}_PASSWORD")
    for kind in ("workers", "relay", "web")
)

# Utility statements take no parameters: Postgres itself quotes what they name.
MAKE: Final = "SELECT format('CREATE ROLE %I', $1::text) WHERE to_regrole($1) IS NULL"
CHANGE: Final = """
SELECT format('ALTER ROLE %I LOGIN PASSWORD %L; GRANT %I TO %I', $1::text, $2::text, $3::text, $1::text)
"""
# Two `quittance init` at once would change the same row of the catalogue.
USERS_LOCK: Final = "SELECT pg_advisory_xact_lock(7201, 3)"

ITERATIONS: Final = 4096  # as Postgres has it
SALT_BYTES: Final = 16


def passwords(reader: Reader) -> dict[User, str]:
    """The passwords that the environment holds. ASCII without blanks: anything else would have to be normalised (SASLprep)."""
    given = {user: reader.text(user.variable) for user in USERS}
    for user, password in given.items():
        if not re.fullmatch(r"[!-~]*", password):
            reader.faults.append(f"{user.variable} may hold letters, digits and marks of ASCII alone")
    return {user: password for user, password in given.items() if password}


async def ensure(db: Connection, given: Mapping[User, str]) -> None:
    """Make the users that are not there, and set their passwords. Raises asyncpg.InsufficientPrivilegeError."""
    async with db.transaction():
        await db.execute(USERS_LOCK)
        for user, password in given.items():
            if (make := await db.fetchval(MAKE, user.name)) is not None:
                await db.execute(make)
            await db.execute(await db.fetchval(CHANGE, user.name, verifier(password), user.role))


def verifier(password: str) -> str:
    """What Postgres keeps of a password (RFC 5802, 7677): sent in its place, so that no log of the server ever holds it."""
    salt = secrets.token_bytes(SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${ITERATIONS}:{_text(salt)}${_text(stored)}:{_text(server)}"


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
