"""The rows of the address book: what the customers worker loads before it decides, and saves afterwards."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from asyncpg import Record

from quittance.domain.address_book import Checkouts, Id
from quittance.domain.customers import NO_ADDRESS, Alias, Known, Link, Seniority, Spelling, Stay
from quittance.domain.ranks import Key
from quittance.locks import Connection
from quittance.statements import Row, save

LOAD_LINKS: Final = """
SELECT q.account, q.livemode, q.session_id, q.quote_id, q.stripe_customer_id, q.email, q.paid, q.rank, q.created,
       q.event_id, q.event_type, q.told_version, q.told_email, q.told_customer_id
FROM unnest($1::text[], $2::boolean[], $3::text[]) AS k (account, livemode, session_id)
JOIN quote_customers q USING (account, livemode, session_id)
"""

# Sessions of the Stripe customers $1 to $3; those that gave one of the addresses $4 to $6, and those whose Stripe
# customer has such an address. OFFSET 0 keeps the order of the joins: a plan made while the tables were empty joined all
# sessions of an account with all addresses asked for, and stayed until the first ANALYZE.
LOAD_DEPENDING_LINKS: Final = """
SELECT q.account, q.livemode, q.session_id, q.quote_id, q.stripe_customer_id, q.email, q.paid, q.rank, q.created,
       q.event_id, q.event_type, q.told_version, q.told_email, q.told_customer_id
FROM unnest($1::text[], $2::boolean[], $3::text[]) AS k (account, livemode, stripe_customer_id)
JOIN quote_customers q USING (account, livemode, stripe_customer_id)
UNION
SELECT q.account, q.livemode, q.session_id, q.quote_id, q.stripe_customer_id, q.email, q.paid, q.rank, q.created,
       q.event_id, q.event_type, q.told_version, q.told_email, q.told_customer_id
FROM unnest($4::text[], $5::boolean[], $6::text[]) AS k (account, livemode, email_normalised)
JOIN quote_customers q USING (account, livemode, email_normalised)
UNION
SELECT q.account, q.livemode, q.session_id, q.quote_id, q.stripe_customer_id, q.email, q.paid, q.rank, q.created,
       q.event_id, q.event_type, q.told_version, q.told_email, q.told_customer_id
FROM unnest($4::text[], $5::boolean[], $6::text[]) AS k (account, livemode, email_normalised)
JOIN customer_aliases a USING (account, livemode, email_normalised)
CROSS JOIN LATERAL (
    SELECT account, livemode, session_id, quote_id, stripe_customer_id, email, paid, rank, created, event_id, event_type,
           told_version, told_email, told_customer_id
    FROM quote_customers
    WHERE (account, livemode, stripe_customer_id) = (a.account, a.livemode, a.stripe_customer_id) OFFSET 0
) AS q
"""

LOAD_ALIASES: Final = """
SELECT a.account, a.livemode, a.stripe_customer_id, a.email_normalised, a.email, a.deleted, a.rank, a.created,
       a.event_id, a.moved_at, a.first_at, a.elsewhere
FROM unnest($1::text[], $2::boolean[], $3::text[]) AS k (account, livemode, stripe_customer_id)
JOIN customer_aliases a USING (account, livemode, stripe_customer_id)
"""

# Of the customers that live at an address, only the most senior matters beside those in the batch ($4 to $6): an
# address may have thousands.
LOAD_ADDRESSES: Final = """
SELECT k.account, k.livemode, k.email_normalised, c.email, c.email_created, c.email_event_id, c.stripe_customer_id,
       other.since AS other_since, other.stripe_customer_id AS other_id
FROM unnest($1::text[], $2::boolean[], $3::text[]) AS k (account, livemode, email_normalised)
LEFT JOIN customers c ON (c.account, c.livemode, c.email_normalised) = (k.account, k.livemode, k.email_normalised)
LEFT JOIN LATERAL (
    SELECT a.since, a.stripe_customer_id
    FROM customer_aliases a
    WHERE a.account = k.account AND a.livemode = k.livemode AND a.email_normalised = k.email_normalised
      AND a.deleted = false
      AND (a.account, a.livemode, a.stripe_customer_id) NOT IN (
          SELECT b.account, b.livemode, b.name
          FROM unnest($4::text[], $5::boolean[], $6::text[]) AS b (account, livemode, name))
    ORDER BY a.since, a.stripe_customer_id
    LIMIT 1
) other ON true
"""

SAVE_ALIASES: Final = """
INSERT INTO customer_aliases (account, livemode, stripe_customer_id, email_normalised, email, deleted, rank, created,
                              event_id, moved_at, first_at, elsewhere)
SELECT account, livemode, stripe_customer_id, email_normalised, email, deleted, rank, created, event_id, moved_at,
       first_at, elsewhere
FROM unnest($1::text[], $2::boolean[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::smallint[],
            $8::bigint[], $9::text[], $10::bigint[], $11::bigint[], $12::jsonb[])
     AS k (account, livemode, stripe_customer_id, email_normalised, email, deleted, rank, created, event_id, moved_at,
           first_at, elsewhere)
ON CONFLICT (account, livemode, stripe_customer_id) DO UPDATE
SET email_normalised = excluded.email_normalised, email = excluded.email, deleted = excluded.deleted,
    rank = excluded.rank, created = excluded.created, event_id = excluded.event_id, moved_at = excluded.moved_at,
    first_at = excluded.first_at, elsewhere = excluded.elsewhere
"""

SAVE_CUSTOMERS: Final = """
INSERT INTO customers (account, livemode, email_normalised, email, email_created, email_event_id, stripe_customer_id)
SELECT account, livemode, email_normalised, email, email_created, email_event_id, stripe_customer_id
FROM unnest($1::text[], $2::boolean[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[])
     AS k (account, livemode, email_normalised, email, email_created, email_event_id, stripe_customer_id)
ON CONFLICT (account, livemode, email_normalised) DO UPDATE
SET email = excluded.email, email_created = excluded.email_created, email_event_id = excluded.email_event_id,
    stripe_customer_id = excluded.stripe_customer_id, changed_at = now()
"""

SAVE_LINKS: Final = """
INSERT INTO quote_customers (account, livemode, session_id, quote_id, stripe_customer_id, email, email_normalised,
                             paid, rank, created, event_id, event_type, told_version, told_email, told_customer_id)
SELECT account, livemode, session_id, quote_id, stripe_customer_id, email, email_normalised, paid, rank, created,
       event_id, event_type, told_version, told_email, told_customer_id
FROM unnest($1::text[], $2::boolean[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::boolean[],
            $9::smallint[], $10::bigint[], $11::text[], $12::text[], $13::bigint[], $14::text[], $15::text[])
     AS k (account, livemode, session_id, quote_id, stripe_customer_id, email, email_normalised, paid, rank, created,
           event_id, event_type, told_version, told_email, told_customer_id)
ON CONFLICT (account, livemode, session_id) DO UPDATE
SET quote_id = excluded.quote_id, stripe_customer_id = excluded.stripe_customer_id, email = excluded.email,
    email_normalised = excluded.email_normalised, paid = excluded.paid, rank = excluded.rank,
    created = excluded.created, event_id = excluded.event_id, event_type = excluded.event_type,
    told_version = excluded.told_version, told_email = excluded.told_email,
    told_customer_id = excluded.told_customer_id
"""


class CheckedOut(NamedTuple):
    """A session's link, and what its quote was last told in which version; None where it never was."""

    link: Link
    told: tuple[Known, int] | None = None


class AddressRow(NamedTuple):
    """An address: how it was spelt first, and who stands for it by its row; both None where there is no row yet."""

    spelling: Spelling | None
    stripe_customer_id: str | None


# address, rank, created, event id, e-mail, moved at, first at
_Elsewhere = dict[str, tuple[int, int, str, str, int | None, int]]
_elsewhere = msgspec.json.Decoder(_Elsewhere)


async def load_links(db: Connection, sql: str, *ids: Collection[Id]) -> dict[Id, CheckedOut]:
    """The links that `sql` (LOAD_LINKS, LOAD_DEPENDING_LINKS) finds for `ids`."""
    if not any(ids):
        return {}
    rows = await db.fetch(sql, *(column for some in ids for column in _columns(some)))
    return {Id(row["account"], row["livemode"], row["session_id"]): _checked_out(row) for row in rows}


def _checked_out(row: Record) -> CheckedOut:
    link = Link(
        key=Key(0, row["rank"], row["created"], row["event_id"]),
        quote_id=row["quote_id"],
        customer_id=row["stripe_customer_id"],
        email=row["email"],
        event_type=row["event_type"],
        paid=row["paid"],
    )
    if row["told_version"] is None:
        return CheckedOut(link)
    return CheckedOut(link, (Known(row["told_email"], row["told_customer_id"]), row["told_version"]))


async def load_aliases(db: Connection, ids: Collection[Id]) -> dict[Id, Alias]:
    """What is known of these Stripe customers."""
    if not ids:
        return {}
    rows = await db.fetch(LOAD_ALIASES, *_columns(ids))
    return {Id(row["account"], row["livemode"], row["stripe_customer_id"]): _alias(row) for row in rows}


def _alias(row: Record) -> Alias:
    stays: dict[str, Stay] = {}
    if row["elsewhere"] is not None:
        for address, (rank, created, event_id, email, moved_at, first_at) in _elsewhere.decode(
            row["elsewhere"]
        ).items():
            stays[address] = Stay(Key(0, rank, created, event_id), email, moved_at, first_at)
    if row["rank"]:  # 0: deleted, and never seen anywhere
        key = Key(0, row["rank"], row["created"], row["event_id"])
        stays[row["email_normalised"] or NO_ADDRESS] = Stay(key, row["email"] or "", row["moved_at"], row["first_at"])
    return Alias(stays, row["deleted"])


async def load_addresses(
    db: Connection, addresses: Collection[Id], besides: Collection[Id]
) -> tuple[dict[Id, AddressRow], dict[Id, Seniority]]:
    """The rows of these addresses, and who is the most senior at each, not counting the Stripe customers `besides`."""
    if not addresses:
        return {}, {}
    rows: dict[Id, AddressRow] = {}
    others: dict[Id, Seniority] = {}
    for row in await db.fetch(LOAD_ADDRESSES, *_columns(addresses), *_columns(besides)):
        address = Id(row["account"], row["livemode"], row["email_normalised"])
        spelling = None
        if row["email"] is not None:
            spelling = Spelling(row["email_created"], row["email_event_id"], row["email"])
        rows[address] = AddressRow(spelling, row["stripe_customer_id"])
        if row["other_id"] is not None:
            others[address] = Seniority(row["other_since"], row["other_id"])
    return rows, others


async def save_book(
    db: Connection, *, aliases: Mapping[Id, Alias], addresses: Mapping[Id, AddressRow], links: list[Row]
) -> None:
    """Save what is known of Stripe customers, of addresses (each row has a spelling), and of sessions (`link_rows`)."""
    await save(
        db,
        (SAVE_ALIASES, _in_order(_alias_row(one, alias) for one, alias in aliases.items())),
        (SAVE_CUSTOMERS, _in_order(_address_rows(addresses))),
        (SAVE_LINKS, _in_order(links)),
    )


def _alias_row(one: Id, alias: Alias) -> Row:
    address, stay = alias.address, alias.stay
    elsewhere: _Elsewhere = {
        other: (key.first, key.second, key.event_id, email, moved_at, first_at)
        for other, (key, email, moved_at, first_at) in alias.stays.items()
        if other != (address or NO_ADDRESS)
    }
    encoded = msgspec.json.encode(elsewhere).decode() if elsewhere else None
    if stay is None:
        return (*one, None, None, alias.deleted, 0, 0, "", None, 0, encoded)
    key = stay.key
    return (
        *one,
        address,
        alias.email,
        alias.deleted,
        key.first,
        key.second,
        key.event_id,
        stay.moved_at,
        stay.first_at,
        encoded,
    )


def _address_rows(addresses: Mapping[Id, AddressRow]) -> Iterable[Row]:
    for one, row in addresses.items():
        if row.spelling is not None:
            yield (*one, row.spelling.email, row.spelling.created, row.spelling.event_id, row.stripe_customer_id)


def link_rows(sessions: Iterable[Id], checkouts: Checkouts) -> list[Row]:
    """The links of these sessions, and what was told of them, as they are saved."""
    values: list[Row] = []
    for one in sessions:
        link, told = checkouts.links[one], checkouts.told.get(one, Known(None, None))
        key = link.key
        values.append(
            (
                *one,
                link.quote_id,
                link.customer_id,
                link.email,
                link.address,
                link.paid,
                key.first,
                key.second,
                key.event_id,
                link.event_type,
                checkouts.versions.get(one),
                *told,
            )
        )
    return values


def _in_order(rows: Iterable[Row]) -> list[Row]:
    """Sorted by key: rows are written in one order by all."""
    return sorted(rows, key=lambda row: row[:3])


def _columns(ids: Collection[Id]) -> list[list[Any]]:
    return [list(column) for column in zip(*sorted(ids), strict=True)] or [[], [], []]
