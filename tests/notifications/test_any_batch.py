"""Notifications: what becomes of a mail does not depend on what else is in the batch."""

from itertools import count
from typing import Any, NamedTuple

from asyncpg.pool import Pool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quittance.event import Event
from tests.notifications.test_notifications import NOBODY, OWNER, changed
from tests.support.handling import run_handler
from workers import notifications

QUOTES = ("Q-1", "Q-2", "Q-3")
_accounts = count(1)


class Change(NamedTuple):
    """A quote is paid, says an event; by then its owner is known or not, and an SRE may have sent the event again."""

    quote_id: str
    owned: bool
    replayed: bool


CHANGES = st.builds(Change, st.sampled_from(QUOTES), st.booleans(), st.booleans())
# What has become of a quote's mail before; None: nobody asked for one.
BEFORE = st.fixed_dictionaries({quote_id: st.sampled_from([None, "refused", "skipped", "sent"]) for quote_id in QUOTES})


def event(change: Change, account: str, number: int) -> Event:
    """The event that tells of it."""
    replay_id = f"r{number}" if change.replayed else None
    owner = OWNER if change.owned else NOBODY
    return changed(replay_id, account=account, quote_id=change.quote_id, sequence=number, owner=owner)


async def begin(database: Pool, account: str, before: dict[str, str | None]) -> None:
    """The mails as they stand."""
    for number, (quote_id, state) in enumerate(before.items()):
        if state is not None:
            asked = Change(quote_id, owned=state != "skipped", replayed=False)
            await run_handler(notifications, [event(asked, account, -1 - number)], database)
            statement = "UPDATE emails SET state = $3 WHERE account = $1 AND quote_id = $2"
            await database.execute(statement, account, quote_id, state)


async def mails(database: Pool, account: str) -> list[tuple[Any, ...]]:
    """What has become of them."""
    statement = "SELECT quote_id, kind, state, recipient FROM emails WHERE account = $1 ORDER BY quote_id, kind"
    return [tuple(row) for row in await database.fetch(statement, account)]


@given(before=BEFORE, changes=st.lists(CHANGES, min_size=1, max_size=8))
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_together_or_one_by_one_the_same_mails_are_due(
    database: Pool, before: dict[str, str | None], changes: list[Change]
) -> None:
    """INVARIANT: a mail that is due after all (replayed, or its owner is known now) is not passed over."""
    together, apart = f"acct_{next(_accounts)}", f"acct_{next(_accounts)}"
    for account in (together, apart):
        await begin(database, account, before)
    await run_handler(notifications, [event(one, together, number) for number, one in enumerate(changes)], database)
    for number, one in enumerate(changes):
        await run_handler(notifications, [event(one, apart, number)], database)
    assert await mails(database, together) == await mails(database, apart)
