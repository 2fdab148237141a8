"""The book of Stripe accounts: what the accounts worker hears of them and what web is answered, joined (R4, R6).

`accounts.facts` has everything that is known; the other columns follow from it, for those who only look: publishing and
Check out refuse where `charges_enabled` is false or `deauthorised_at` is set.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from quittance.domain.accounts import Account
from quittance.locks import Connection, lock

Key = tuple[str, bool]  # account, livemode

LOAD: Final = """
SELECT account, livemode, facts, first_seen_at FROM accounts
WHERE (account, livemode) IN (SELECT * FROM unnest($1::text[], $2::boolean[]))
"""
# What Stripe has not said yet stays as somebody set it by hand.
SAVE: Final = """
INSERT INTO accounts (account, livemode, facts, charges_enabled, name, country, connected_at, deauthorised_at)
SELECT * FROM unnest($1::text[], $2::boolean[], $3::jsonb[], $4::boolean[], $5::text[], $6::text[], $7::timestamptz[],
                     $8::timestamptz[])
ON CONFLICT (account, livemode) DO UPDATE SET
    facts = excluded.facts,
    charges_enabled = coalesce(excluded.charges_enabled, accounts.charges_enabled),
    name = coalesce(excluded.name, accounts.name),
    country = coalesce(excluded.country, accounts.country),
    connected_at = excluded.connected_at,
    deauthorised_at = excluded.deauthorised_at,
    changed_at = now()
"""


@dataclass(frozen=True)
class Known:
    """An account's facts, and when it was first heard of (by the database's clock; None: just now)."""

    facts: Account
    first_seen_at: datetime | None = None

    def stood_before(self, begun_at: datetime) -> bool:
        """Whether it stood connected before somebody began, at `begun_at`, to connect it: what they bring about now is
        told of by webhooks as well, and must not look as if it had been there before.
        """
        if self.facts.was_connected(int(begun_at.timestamp())):
            return True
        seen = self.first_seen_at is not None and self.first_seen_at < begun_at
        return seen and self.facts.deauthorised is None  # connected by other means, before Quittance was told of it


async def learn(db: Connection, told: Mapping[Key, Account]) -> dict[Key, Known]:
    """Join what was told to what is known of each account, in the caller's transaction; what was known until then."""
    await lock(db, "accounts", ((account, livemode, "") for account, livemode in told))
    known = await load(db, told)
    changed = {key: known[key].facts | facts for key, facts in told.items() if _is_new(known[key], facts)}
    if changed:
        await db.execute(SAVE, *_columns(changed))
    return known


async def load(db: Connection, keys: Iterable[Key]) -> dict[Key, Known]:
    """What is known of each; of one that nobody has heard of, nothing."""
    known = dict.fromkeys(keys, Known(Account()))
    rows = await db.fetch(LOAD, [account for account, _ in known], [livemode for _, livemode in known])
    for row in rows:
        facts = Account.from_json(json.loads(row["facts"]))
        known[row["account"], row["livemode"]] = Known(facts, row["first_seen_at"])
    return known


def _is_new(known: Known, told: Account) -> bool:
    return known.facts | told != known.facts


def _columns(changed: Mapping[Key, Account]) -> tuple[list[object], ...]:
    rows = [
        (
            account,
            livemode,
            json.dumps(facts.to_json(), separators=(",", ":")),
            facts.get("charges_enabled"),
            facts.get("name"),
            facts.get("country"),
            _time(facts.connected_since),
            _time(facts.deauthorised if facts.is_deauthorised else None),
        )
        for (account, livemode), facts in changed.items()
    ]
    return tuple(list(column) for column in zip(*rows, strict=True))


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
