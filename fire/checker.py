"""What was accepted against what happened: a difference of sets, never a line of a log."""

import importlib
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

import asyncpg

from dev.mailbox import Mail
from dev.settled import CONSUMERS, Sent, wanted
from fire.crm import Crm
from fire.parked import parked

ARCHIVED: Final = "SELECT event_id FROM events WHERE event_id = ANY($1::text[])"
HANDLED: Final = "SELECT event_id FROM inbox WHERE queue = $1 AND event_id = ANY($2::text[])"
QUOTES: Final = "SELECT quote_id, status, sequence FROM quotes WHERE quote_id = ANY($1::text[])"
CHANGES: Final = "SELECT quote_id, sequence FROM quote_status_changes WHERE quote_id = ANY($1::text[])"
MAILS: Final = "SELECT quote_id, message_id, state FROM emails WHERE quote_id = ANY($1::text[]) AND kind = 'paid'"
STANDS: Final = (
    "SELECT email_normalised FROM customers WHERE email_normalised = ANY($1::text[]) AND stripe_customer_id > ''"
)
ASKED: Final = "SELECT email_normalised FROM customer_requests WHERE state = 'due'"
UNPUBLISHED: Final = "SELECT count(*) FROM outbox"

Faults = dict[str, list[str]]  # what is wrong, and with whom


def difference(wanted_ids: Collection[str], found: Collection[str], what: str) -> Faults:
    """What is missing, and what is there twice."""
    counted = Counter(found)
    missing = sorted(set(wanted_ids) - counted.keys())
    twice = sorted(one for one, times in counted.items() if times > 1)
    return {f"{how} {what}": ids for how, ids in (("not", missing), ("twice", twice)) if ids}


def gaps(sequences: Mapping[str, Collection[int]], last: Mapping[str, int], where: str) -> Faults:
    """Quotes whose numbers are not exactly 1 to their last."""
    bad = [quote for quote, number in last.items() if sorted(sequences.get(quote, ())) != list(range(1, number + 1))]
    return {f"a gap or a number too many {where}": sorted(bad)} if bad else {}


def mail_faults(expected: Mapping[str, str], mails: Collection[Mail], repeats: int) -> Faults:
    """`expected`: the Message-ID of each quote's mail; at most `repeats` mails may have come twice."""
    came = Counter(mail.message_id for mail in mails)
    faults = {"not mailed": sorted(quote for quote, one in expected.items() if not came[one])}
    again = {quote: came[one] - 1 for quote, one in expected.items() if came[one] > 1}
    if sum(again.values()) > repeats:
        faults[f"mailed again (at most {repeats} may be)"] = sorted(again)
    return {what: quotes for what, quotes in faults.items() if quotes}


async def faults(
    db: asyncpg.Connection,
    accepted: Mapping[str, Sent],
    quotes: Collection[str],
    crm: Crm,
    mails: Collection[Mail],
    *,
    repeats: int,
    poison: Collection[str] = (),
) -> Faults:
    """Every promise that does not hold for these events and the quotes whose lives were told to their end. `poison`: what
    must be in failed_deliveries, as "queue event (reason)", and nothing else.
    """
    ids, names = list(accepted), list(quotes)
    found = difference(ids, [row[0] for row in await db.fetch(ARCHIVED, ids)], "archived")
    for name in CONSUMERS:
        queue = importlib.import_module(f"workers.{name}").QUEUE
        mine = [event.event_id for event in accepted.values() if wanted(queue, event.type)]
        handled = [row[0] for row in await db.fetch(HANDLED, name, mine)]
        found |= difference(mine, handled, f"handled by {name}")
    rows = await db.fetch(QUOTES, names)
    found |= difference(names, [row["quote_id"] for row in rows if row["status"] == "paid"], "paid")
    last = {row["quote_id"]: row["sequence"] for row in rows}
    kept: dict[str, list[int]] = {}
    for row in await db.fetch(CHANGES, names):
        kept.setdefault(row["quote_id"], []).append(row["sequence"])
    found |= gaps(kept, last, "in quote_status_changes") | gaps(crm.sequences, last, "at the CRM")
    differing = sorted(one for one, bodies in crm.bodies.items() if len(bodies) > 1)
    if differing:
        found["told the CRM in two ways"] = differing
    if crm.overtaken:
        found["told the CRM out of order"] = sorted(crm.overtaken)
    asked = await db.fetch(MAILS, names)
    found |= difference(names, [row["quote_id"] for row in asked if row["state"] == "sent"], "recorded as mailed")
    found |= mail_faults({row["quote_id"]: row["message_id"] for row in asked}, mails, repeats)
    failed = await parked(db)
    found |= difference(poison, failed, "parked, though it is poison")
    if more := sorted(set(failed) - set(poison)):
        found["parked in failed_deliveries"] = more
    if await db.fetchval(UNPUBLISHED):
        found["left in the outbox"] = [str(await db.fetchval(UNPUBLISHED))]
    return found


async def customer_faults(db: asyncpg.Connection, buyers: Collection[str], at_stripe: Collection[str]) -> Faults:
    """Every guest's address (in lower case) must have one customer at Stripe, known here, and none that is looked for."""
    mine = [address for address in at_stripe if address in buyers]
    found = difference(buyers, mine, "a customer at Stripe")
    found |= difference(buyers, [row[0] for row in await db.fetch(STANDS, list(buyers))], "a customer here")
    if asked := [row[0] for row in await db.fetch(ASKED)]:
        found["still to be asked for at Stripe"] = asked
    return found


def told(found: Faults, most: int = 5) -> str:
    """The faults as text, at most so many names of each."""
    return "; ".join(
        f"{what}: {', '.join(names[:most])}{f' and {len(names) - most} more' if len(names) > most else ''}"
        for what, names in found.items()
    )
