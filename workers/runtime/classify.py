"""What an exception means. Decided by SQLSTATE and class alone, never by a message's text."""

from enum import Enum, auto
from typing import Final

import asyncpg

from quittance.errors import Rejected
from workers.runtime.batch import Lost


class Meaning(Enum):
    """What the consumer does about an exception (the table in workers/runtime/consumer.py)."""

    REJECTED = auto()  # can never succeed: dead letter
    AGAIN = auto()  # lost a race with a neighbour: again at once, no attempt counted
    APART = auto()  # too much at once: one by one, no attempt counted
    AWAY = auto()  # Postgres is away or cannot write: wait, no attempt counted
    FAILED = auto()  # anything else: an attempt is counted


# Serialisation failure, deadlock, lock timeout.
RACES: Final = frozenset({"40001", "40P01", "55P03"})
# Out of shared memory (too many locks in one transaction); statement timeout, which a smaller batch may keep.
TOO_MUCH: Final = frozenset({"53200", "57014"})
# Read-only (a standby, or a failover under way), a transaction ended by a timeout of the server, disk full and its
# neighbours, shutdown, a password or database that is being changed, I/O errors.
AWAY_STATES: Final = frozenset({"25006", "25P03", "25P04", "57P01", "57P02", "57P03", "57P05", "3D000"})
AWAY_CLASSES: Final = frozenset({"08", "28", "53", "58"})


def meaning(error: BaseException, *, alone: bool) -> Meaning:
    """What `error`, raised by workers.runtime.batch.run, means; `alone`: the batch was one event."""
    if isinstance(error, Rejected):
        return Meaning.REJECTED
    if isinstance(error, asyncpg.PostgresError):
        return _of_sqlstate(error.sqlstate or "", alone=alone)
    # asyncpg raises a plain TimeoutError when Postgres has not answered for COMMAND_TIMEOUT.
    return Meaning.AWAY if isinstance(error, Lost | TimeoutError) else Meaning.FAILED


def _of_sqlstate(state: str, *, alone: bool) -> Meaning:
    if state in RACES:
        return Meaning.AGAIN
    if state in TOO_MUCH:
        if not alone:
            return Meaning.APART
        # Alone and still too much: for memory, others are in the way; for time, it is this event itself.
        return Meaning.AGAIN if state == "53200" else Meaning.FAILED
    if state in AWAY_STATES or state[:2] in AWAY_CLASSES:
        return Meaning.AWAY
    return Meaning.FAILED
