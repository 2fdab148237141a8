"""The archive: every accepted event, of whatever type or shape, with its bytes as they came.

Consumes  stripe.events    #
Writes    events
Emits     nothing
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from quittance.broker import STRIPE_EVENTS, Queue
from quittance.database import Connection
from quittance.domain.claims import LONGEST_QUOTE_ID
from quittance.domain.payload import storable
from quittance.event import Event
from workers.runtime.intake import AT_LEISURE

QUEUE: Final = Queue("archive", {STRIPE_EVENTS: ("#",)})
INTAKE: Final = AT_LEISURE

# `created` is the same however often an event comes, so a re-delivery meets the same partition, weeks later too.
# Arrays of arrays must be rectangular: an event's ids travel as one text, joined by a character that no id has (chr(31)). Its
# own, which may be called anything, is put before them here: one index finds it by that too. Random keys are what an index
# of a large table pays for.
SAVE: Final = """
INSERT INTO events (created, account, livemode, event_id, type, api_version, ids, body, received_at)
SELECT to_timestamp(created), account, livemode, event_id, type, api_version,
       event_id || string_to_array(ids, chr(31)), body, to_timestamp(received_at)
FROM unnest($1::bigint[], $2::text[], $3::boolean[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[],
            $9::double precision[])
    AS given (created, account, livemode, event_id, type, api_version, ids, body, received_at)
ORDER BY created, account, livemode, event_id
ON CONFLICT DO NOTHING
"""

# The largest real event has some 60 ids; a body made to be hostile shall not make the index grow.
MOST_IDS: Final = 500
# "evt_1Pgc76B7WZ01zgkWwyRHS12y", "in_1…", "price_1…": Stripe's prefix, then letters and digits (test clocks and sessions
# carry a second underscore: "cs_test_a1…"). One digit or capital at least tells an id from a word such as "card_present".
# Possessive: most of what begins so is a key of the JSON, and is given up at once.
_stripe_id = re.compile(rb'"([a-z]{2,20}+_(?:(?:test|live)_)?[a-z]{0,200}+[A-Z0-9][A-Za-z0-9]{0,200}+)"')
# A quote's id is whatever the seller calls it, blanks and umlauts too, as JSON writes it: up to six bytes for one.
_quote_id = re.compile(rb'"(?:quote_id|client_reference_id)"\s*:\s*("(?:[^"\\\x00-\x1f]|\\.){1,1530}")')
JOINT: Final = "\x1f"
_api_version = re.compile(rb'"api_version"\s*:\s*"([!#-\[\]-~]{1,60})"')


async def handle(events: Sequence[Event], db: Connection) -> list[Event]:
    """Store the events that are not there yet. Raises nothing of its own, whatever the bodies hold."""
    await db.execute(
        SAVE,
        [event.created for event in events],
        [event.account for event in events],
        [event.livemode for event in events],
        [event.id for event in events],
        [event.type for event in events],
        [api_version_in(event.body) for event in events],
        [JOINT.join(ids_in(event)) for event in events],
        [event.body for event in events],
        [event.received_at for event in events],
    )
    return []


def ids_in(event: Event) -> list[str]:
    """Every quote id and Stripe id in the event but its own, without parsing it: at most MOST_IDS, in order of appearance."""
    quotes = [_unquoted(literal) for literal in _quote_id.findall(event.body)[:MOST_IDS]]
    stripe_ids = [name.decode("ascii") for name in _stripe_id.findall(event.body)]
    found = dict.fromkeys([*filter(None, quotes), *stripe_ids][:MOST_IDS])
    found.pop(event.id, None)
    return list(found)


def api_version_in(body: bytes) -> str | None:
    """The first API version that the body names: Stripe writes the event's own before its object."""
    match = _api_version.search(body)
    return match[1].decode("ascii") if match else None


def _unquoted(literal: bytes) -> str | None:
    """The quote id that a JSON string holds; None where no quote could be called that."""
    try:
        name = msgspec.json.decode(literal, type=str)
    except ValueError:
        return None
    return name if storable(name) and JOINT not in name and len(name.encode()) <= LONGEST_QUOTE_ID else None
