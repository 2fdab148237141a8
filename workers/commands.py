"""Commands: publishes and recalls quotes for a CRM that prefers messages to the quotes API, and answers as that does.

Consumes  quote.published, quote.recalled from the exchange crm.commands, with a token as the API takes it
Writes    published_quotes, through quittance/publishing.py
Emits     quote.accepted, quote.refused to the queue that the message names in `reply_to`; quote.published, quote.recalled

workers/command_intake.py says what makes a message a command, and what is kept of its token. What is refused and names
no queue to tell that to is a dead letter. Commands are handled one after the other in the order in which they were sent,
however many processes there are.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any, Final

import msgspec
import structlog

import workers
from quittance import broker, publishing
from quittance.answers import Refusal, payment_of, public_url, quote_json, refusal_of
from quittance.broker import CRM_COMMANDS, Queue
from quittance.domain.publishing.policies import Policy
from quittance.errors import Rejected
from quittance.event import Cause, Event, storable
from quittance.locks import Connection, lock
from quittance.outbox import ACCEPTED, REFUSED
from quittance.publishing import Conflict, Published, Recalled, Refused, Unchanged, currency_policy
from quittance.settings import Reader
from workers.command_intake import INTAKE as INTAKE  # noqa: PLC0414 - the runtime looks for it here
from workers.command_intake import QUEUE_NAME, About
from workers.command_wishes import PUBLISH, RECALL, Publication, Wish, quote_id_of, read

QUEUE: Final = Queue(QUEUE_NAME, {CRM_COMMANDS: (PUBLISH, RECALL)}, in_order=True)

LONGEST_STREAM: Final = 500  # characters; a quote's id has 200

log = structlog.get_logger(__name__)

TOKENS: Final = """
SELECT id, account, livemode, permissions FROM api_tokens WHERE id = ANY($1::bigint[]) AND revoked_at IS NULL
"""

_about = msgspec.json.Decoder(About)


@dataclass(frozen=True)
class Settings:
    """What this worker reads from its environment; the first two must be the same as web's."""

    public_url: str
    policy: Policy
    reply_to: re.Pattern[str]


def outside_settings(reader: Reader) -> Settings:
    """PUBLIC_URL and CURRENCY_POLICY, as web has them, and REPLY_TO_PATTERN: which queues may be answered."""
    text = reader.text("REPLY_TO_PATTERN", ".+")
    try:
        pattern = re.compile(text)
    except re.error as error:
        reader.faults.append(f"REPLY_TO_PATTERN is no regular expression: {error}")
        pattern = re.compile(".+")
    return Settings(public_url(reader, reader.number("WEB_PORT", 8081, 0, 65_535)), currency_policy(reader), pattern)


@cache
def settings() -> Settings:
    """Those of this process. Raises SettingsError where they are wrong."""
    reader = Reader()
    read = outside_settings(reader)
    reader.check()
    return read


async def handle(events: Sequence[Event], db: Connection) -> list[Event]:
    """Do what each message asks for, in order, and answer it."""
    abouts = [about_of(event) for event in events]
    ids = sorted({about.token_id for about in abouts if about.token_id is not None})
    tokens = {row["id"]: row for row in await db.fetch(TOKENS, ids)} if ids else {}
    wishes = [read(event, about, tokens) for event, about in zip(events, abouts, strict=True)]
    # All at once and sorted: two who publish the same quotes in another order would wait for each other.
    asked = zip(events, wishes, strict=True)
    await lock(db, "publishing", [key(event, wish) for event, wish in asked if not isinstance(wish, Refusal)])
    emitted: list[Event] = []
    for event, about, wish in zip(events, abouts, wishes, strict=True):
        outcome = wish if isinstance(wish, Refusal) else await fulfil(event, about, wish, db)
        quote_id = quote_id_of(event, wish)
        if about.reply_to:
            emitted.append(answer(event, about, quote_id, outcome))
        elif isinstance(outcome, Refusal):
            raise Rejected("command_refused", in_words(outcome))
    return emitted


# What is asked for ---------------------------------------------------------------------------------------------------


def about_of(event: Event) -> About:
    """Who sent it, and where its answer goes. Raises Rejected where nobody could be answered there."""
    try:
        about = _about.decode(event.about or "")
    except (msgspec.DecodeError, RecursionError) as error:
        raise Rejected("unreadable_payload", f"header about: {error}") from error
    if about.reply_to and not may_be_answered(about.reply_to):
        raise Rejected("command_refused", f"reply_to_refused: answers do not go to {json.dumps(about.reply_to)}")
    return about


def may_be_answered(queue: str) -> bool:
    """Whether it is a queue that the CRM may have us write to: none of ours, and none that ends with a channel.

    A direct reply-to queue (amq.rabbitmq.reply-to…) is gone with the channel that asked; an answer may come later.
    """
    ours = {worker.QUEUE.name for worker in workers.WORKERS.values()} | {broker.CRM_QUEUE, broker.DEAD_LETTERS}
    return (
        queue not in ours
        and (not queue.startswith("amq.") or queue.startswith("amq.gen-"))
        and queue.isprintable()
        and "�" not in queue
        and len(queue.encode()) <= 255
        and settings().reply_to.fullmatch(queue) is not None
    )


def key(event: Event, wish: Wish) -> tuple[str, bool, str]:
    """The lock of the quote, as quittance/publishing.py takes it."""
    return (event.account, event.livemode, wish.quote_id)


# What becomes of it --------------------------------------------------------------------------------------------------


async def fulfil(event: Event, about: About, wish: Wish, db: Connection) -> dict[str, Any] | Refusal:
    """Publish or recall; the quote as the API shows it, and what was done, or every reason why not."""
    owner = (event.account, event.livemode)
    done: Published | Unchanged | Recalled | Conflict | Refused | None
    if isinstance(wish, Publication):
        done = await publishing.publish(db, *owner, wish.quote_id, wish.content, policy=settings().policy)
    else:
        done = await publishing.recall(db, *owner, wish.quote_id, wish.revision)
    if done is None or isinstance(done, Conflict | Refused):
        return refusal_of(done)
    outcome = type(done).__name__.lower()
    log.info(
        "command.done",
        command=event.type,
        token_id=about.token_id,
        account=event.account,
        livemode=event.livemode,
        quote_id=wish.quote_id,
        revision=done.quote.revision,
        outcome=outcome,
    )
    payment = await payment_of(db, *owner, wish.quote_id)
    return {"outcome": outcome, **quote_json(done.quote, payment, *owner, settings().public_url)}


def answer(event: Event, about: About, quote_id: str | None, outcome: dict[str, Any] | Refusal) -> Event:
    """The message to `reply_to`. Its id is derived from the command's: an answer that comes twice is known by it."""
    body: dict[str, Any] = {"message_id": about.message_id, "command": event.type, "quote_id": quote_id}
    if isinstance(outcome, Refusal):
        body |= {"status": outcome.status, "code": outcome.code, "detail": outcome.detail}
        body["errors"] = outcome.errors or []
    else:
        body |= outcome
    name = f"{event.account}/{event.livemode}/{event.id}".encode()
    return Event(
        id=f"answer:{blake2b(name, digest_size=16).hexdigest()}",
        type=REFUSED if isinstance(outcome, Refusal) else ACCEPTED,
        account=event.account,
        livemode=event.livemode,
        created=0,
        received_at=event.received_at,
        # The standard library's encoder: it knows whole numbers of any size, and lone surrogates.
        body=json.dumps(body, separators=(",", ":")).encode(),
        cause=Cause(event.id, event.type),
        traceparent=event.traceparent,
        # Answers about one quote to one queue come in order; those to another queue do not wait for a full one.
        stream=storable(f"{about.reply_to}/{quote_id}"[:LONGEST_STREAM]),
        routing_key=about.reply_to,
        about=msgspec.json.encode({"correlation_id": about.correlation_id or about.message_id}).decode(),
    )


def in_words(refusal: Refusal) -> str:
    """For a dead letter."""
    rules = [f"{error['rule']} {error['code']}: {error['message']}" for error in refusal.errors or []]
    return "; ".join([f"{refusal.code} ({refusal.status}): {refusal.detail}", *rules])
