"""How far the Checkout Sessions that we made have come, by what Stripe's events say of them.

States only rise, so neither the order of events matters nor how often they come. Sessions that somebody else made are
passed over: they are known neither by their id nor by the key that only ours carry.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from quittance.domain.claims import claim_of
from quittance.domain.payload import at, reference
from quittance.event import Event, data_of
from quittance.locks import Connection

# By the session's id; or, where the answer that would have told it to us has not come, by what we wrote on it.
LOAD: Final = """
WITH seen AS (
    SELECT account, livemode, session_id, quote_id, revision, attempt, checkout_key
    FROM unnest($1::text[], $2::boolean[], $3::text[], $4::text[], $5::integer[], $6::integer[], $7::text[])
         AS seen (account, livemode, session_id, quote_id, revision, attempt, checkout_key)
), ours AS (
    SELECT id, session_id FROM seen JOIN checkout_sessions USING (account, livemode, session_id)
    UNION
    SELECT made.id, seen.session_id FROM seen
    JOIN checkout_sessions AS made USING (account, livemode, quote_id, revision, attempt)
    JOIN published_quotes USING (account, livemode, quote_id, revision)
    WHERE made.session_id IS NULL AND published_quotes.checkout_key = seen.checkout_key
), known AS (
    SELECT id, min(session_id) AS session_id FROM ours GROUP BY id
)
SELECT session.id, session.account, session.livemode, session.state, known.session_id
FROM checkout_sessions AS session JOIN known USING (id)
ORDER BY session.id FOR UPDATE OF session
"""
SAVE: Final = """
UPDATE checkout_sessions AS session
SET state = moved.state, session_id = moved.session_id, error = ''
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS moved (id, state, session_id)
WHERE session.id = moved.id
"""

RISING: Final = ("creating", "open", "closing", "complete", "closed")
# A bank debit that fails closes an attempt that was complete: the buyer may try again.
SAID: Final = {
    "checkout.session.completed": "complete",
    "checkout.session.async_payment_succeeded": "complete",
    "checkout.session.async_payment_failed": "closed",
    "checkout.session.expired": "closed",
}


class Mark(NamedTuple):
    """By what a session may be known to be ours; fields in the order of LOAD."""

    account: str
    livemode: bool
    session_id: str
    quote_id: str | None
    revision: int | None
    attempt: int | None
    checkout_key: str | None


async def follow(events: Sequence[Event], db: Connection) -> int:
    """Raise the states of our sessions to what the events say; how many of them are ours."""
    marks: set[Mark] = set()
    said: dict[tuple[str, bool, str], str] = {}
    for event in events:
        mark = _mark(event)
        if mark is not None:
            marks.add(mark)
            said[mark[:3]] = _higher(SAID[event.type], said.get(mark[:3]))
    if not marks:
        return 0
    moved = []
    for row in await db.fetch(LOAD, *map(list, zip(*marks, strict=True))):
        state = said[row["account"], row["livemode"], row["session_id"]]
        moved.append((row["id"], _higher(state, row["state"]), row["session_id"]))
    if moved:
        await db.execute(SAVE, *map(list, zip(*moved, strict=True)))
    return len(moved)


def _mark(event: Event) -> Mark | None:
    """By what the session of an event is known; None where it has no id. Raises Rejected where there is no object."""
    session, _ = data_of(event)
    session_id, claim = reference({"session": session}, "session"), claim_of(session)
    if session_id is None:
        return None
    scope = (event.account, event.livemode, session_id)
    if claim is None:
        return Mark(*scope, None, None, None, None)
    attempt = _attempt(at(session, "metadata", "quote_attempt"))
    return Mark(*scope, claim.quote_id, claim.revision, attempt, claim.checkout_key)


def _attempt(value: object) -> int | None:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 else None


def _higher(state: str, other: str | None) -> str:
    return state if other is None else max(state, other, key=RISING.index)
