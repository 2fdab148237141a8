"""What comes to the queue `commands`, made into messages with our own headers before anything is filed, tried or logged.

Strangers write into this queue, so nothing in a message is believed but its token. Of that only its id in `api_tokens` is
kept: neither the token nor its hash stands in failed_deliveries, in the inbox, in a log. What we send again ourselves (a
retry, a replay) carries no token any more; it is believed because it comes under the queue's own name and its row in
failed_deliveries is there, and it is read from that row.

The key of a command is its account, mode and message id, as a duplicate must be known by them; with a digest of what it
says, so that a message id that is used twice by mistake costs nobody a command. What may not be done under an account is
kept apart from it (account ""), or a stranger could take a message id before its owner uses it.
"""

import re
import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec
from asyncpg import Record

from quittance import tokens
from quittance.answers import MAX_BODY
from quittance.database import Connection
from quittance.event import storable
from quittance.foreign_properties import UNREADABLE
from quittance.wire import Delivery, Properties
from workers.runtime.failures import FAILED_DELIVERY_ID, LAST_TRY, REPLAY_ID
from workers.runtime.intake import Intake

QUEUE_NAME: Final = "commands"
NOBODY: Final = ""  # no token's account
# A command publishes a quote, with a dozen statements; so many of them are a transaction of a fraction of a second.
BATCH: Final = 50

TOKENS: Final = """
SELECT id, token_hash, account, livemode, 'publish' = ANY(permissions) AND NOT revoked AS good
FROM tokens_with($1::bytea[])
"""
HANDLED: Final = """
SELECT account, livemode, event_id FROM inbox
JOIN unnest($2::text[], $3::boolean[], $4::text[]) AS given (account, livemode, event_id)
    USING (account, livemode, event_id)
WHERE created = to_timestamp(0) AND queue = $1
"""
PARKED: Final = """
SELECT id, type, state, replay_id, headers, body FROM failed_deliveries WHERE queue = $1 AND id = ANY($2::bigint[])
"""

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_UNDECODABLE: Final = "�"


class About(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who sent a command, and where its answer goes. `trouble` says what of it cannot be read, by the code of its refusal
    (workers/commands.py).
    """

    message_id: str
    reply_to: str = ""
    correlation_id: str = ""
    token_id: int | None = None
    trouble: str = ""


async def prepare(deliveries: Sequence[Delivery], db: Connection) -> list[Delivery]:
    """The same deliveries with headers of our own, and without a token."""
    parked = await _parked(deliveries, db)
    hashes = {delivery.tag: _token_hash(delivery) for delivery in deliveries}
    rows = await db.fetch(TOKENS, sorted({hashed for hashed in hashes.values() if hashed is not None}))
    known = {row["token_hash"]: row for row in rows}
    senders = {tag: known.get(hashed or b"") for tag, hashed in hashes.items()}
    handled = await _handled(deliveries, senders, db)
    prepared = []
    for delivery in deliveries:
        row = parked.get(_parked_id(delivery))
        if row is not None:
            prepared.append(_from_row(delivery, row))
        else:
            prepared.append(_from_message(delivery, hashes[delivery.tag], senders[delivery.tag], handled))
    return prepared


INTAKE: Final = Intake(prepare, longest=MAX_BODY + 1, batch=BATCH)


def _token_hash(delivery: Delivery) -> bytes | None:
    return tokens.hash_in([value for name, value in delivery.headers.items() if name.lower() == "authorization"])


# Sent again by ourselves ---------------------------------------------------------------------------------------------


def _parked_id(delivery: Delivery) -> int:
    """The row that it says it comes from; 0 for none. A binding of the exchange never has the queue's own name."""
    number = delivery.headers.get(FAILED_DELIVERY_ID)
    ours = delivery.routing_key == QUEUE_NAME and type(number) is int and 0 < number < 1 << 63
    return number if ours and isinstance(number, int) else 0


async def _parked(deliveries: Sequence[Delivery], db: Connection) -> Mapping[int, Record]:
    ids = [number for number in map(_parked_id, deliveries) if number]
    return {row["id"]: row for row in await db.fetch(PARKED, QUEUE_NAME, ids)} if ids else {}


def _from_row(delivery: Delivery, row: Record) -> Delivery:
    headers: dict[str, Any] = msgspec.json.decode(row["headers"])
    headers |= {name: delivery.headers[name] for name in (FAILED_DELIVERY_ID, LAST_TRY) if name in delivery.headers}
    if row["state"] == "replaying" and row["replay_id"]:
        headers[REPLAY_ID] = row["replay_id"]
    return delivery._replace(headers=headers, type=row["type"], body=row["body"], properties=Properties())


# From the CRM --------------------------------------------------------------------------------------------------------


def _from_message(
    delivery: Delivery, hashed: bytes | None, sender: Record | None, handled: set[tuple[str, bool, str]]
) -> Delivery:
    about = _about(delivery, None if sender is None else sender["id"])
    account, livemode, event_id = _key(delivery, about, hashed, sender, handled)
    headers = {
        "event-id": event_id,
        "account": account,
        "livemode": livemode,
        "created": 0,  # the same however often it comes
        "received-at": f"{time.time():.6f}",
        "about": msgspec.json.encode(about).decode(),
    }
    traceparent = delivery.headers.get("traceparent")
    if isinstance(traceparent, str) and _TRACEPARENT.fullmatch(traceparent):
        headers["traceparent"] = traceparent
    return delivery._replace(
        headers=headers,
        type=storable(delivery.routing_key) or "unknown",
        body=delivery.body[:MAX_BODY],
        message_id=storable(about.message_id),
        properties=Properties(),
    )


def _about(delivery: Delivery, token_id: int | None) -> About:
    properties = delivery.properties
    return About(
        message_id=_decoded(delivery.message_id),
        reply_to=properties.reply_to or "",
        correlation_id=_decoded(properties.correlation_id),
        token_id=token_id,
        trouble=_trouble(delivery),
    )


def _trouble(delivery: Delivery) -> str:
    properties = delivery.properties
    if UNREADABLE in delivery.headers or _UNDECODABLE in delivery.message_id + (properties.correlation_id or ""):
        return "properties_unreadable"
    if not delivery.message_id:
        return "message_id_missing"
    if (properties.content_encoding or "identity").lower() not in ("identity", "utf-8"):
        return "compressed_body"
    if delivery.size > MAX_BODY:
        return "body_too_large"
    if (properties.content_type or "").partition(";")[0].strip().lower() != "application/json":
        return "not_json_type"
    return ""


def _decoded(text: str | None) -> str:
    """What cannot be told back as it came is not told back: it may also have grown beyond what a property takes."""
    return "" if text is None or _UNDECODABLE in text else text


def _key(
    delivery: Delivery,
    about: About,
    hashed: bytes | None,
    sender: Record | None,
    handled: set[tuple[str, bool, str]],
) -> tuple[str, bool, str]:
    if sender is not None:
        own = _own_key(delivery, sender)
        # A token that was revoked after its command was handled does not make another command of it.
        if (sender["good"] and not about.trouble) or own in handled:
            return own
    told = (about.trouble, str(delivery.size), about.reply_to, about.correlation_id, delivery.message_id)
    event_id = _event_id(delivery, *told, (hashed or b"").hex())
    if sender is not None and sender["good"]:
        return (sender["account"], sender["livemode"], event_id)
    return (NOBODY, False, event_id)


async def _handled(
    deliveries: Sequence[Delivery], senders: Mapping[int, Record | None], db: Connection
) -> set[tuple[str, bool, str]]:
    """Of the commands whose token may not, or may no more: those that were handled before."""
    keys = [
        _own_key(delivery, sender)
        for delivery in deliveries
        if (sender := senders[delivery.tag]) is not None and not sender["good"]
    ]
    if not keys:
        return set()
    columns = [list(column) for column in zip(*keys, strict=True)]
    return {(row[0], row[1], row[2]) for row in await db.fetch(HANDLED, QUEUE_NAME, *columns)}


def _own_key(delivery: Delivery, sender: Record) -> tuple[str, bool, str]:
    return (sender["account"], sender["livemode"], _event_id(delivery))


def _event_id(delivery: Delivery, *told: str) -> str:
    digest = blake2b(digest_size=8)
    for part in (delivery.routing_key, *told):
        digest.update(b"%d:" % len(part) + part.encode())
    digest.update(delivery.body[: MAX_BODY + 1])
    return f"{storable(_decoded(delivery.message_id)) or 'none'}#{digest.hexdigest()}"
