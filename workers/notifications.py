"""Notifications: tells a quote's owner by mail that it was paid (R21), and of each anomaly, once each (RULES S5).

Consumes  quote.payment_status_changed, fed to its queue by the relay; the buyer is never written to (R22)
Writes    emails
Emits     nothing

`handle` only records which mails are due; `perform` sends them, saying what is true of the quote by then.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
import structlog
from asyncpg import Record
from prometheus_client import Counter

from quittance.broker import Queue
from quittance.event import Event
from quittance.locks import Connection
from quittance.outbox import NOTIFICATIONS_QUEUE
from quittance.settings import Reader
from quittance.statements import columns
from workers.mail.addresses import AddressInvalid, single_address
from workers.mail.changes import change_of, mail_of
from workers.mail.letters import PAID, compose
from workers.mail.messages import message_id, message_of
from workers.mail.settings import MailSettings, sender_of
from workers.mail.smtp import Mailer, NotEver, NotNow, ServerAway
from workers.runtime.intake import AT_LEISURE
from workers.runtime.outcomes import Attempted, Done, Failed, Outcome, Refused, Unavailable

QUEUE: Final = Queue(NOTIFICATIONS_QUEUE, {})
INTAKE: Final = AT_LEISURE

log = structlog.get_logger(__name__)

SKIPPED: Final = Counter("quittance_mails_skipped", "Mails that nobody could be found to send to")

# Each mail has a key of its own, so the second change that asks for it finds it there. Sorted by the caller: two
# workers that insert the same keys wait for each other in one order.
RECORD: Final = """
INSERT INTO emails (account, livemode, quote_id, revision, kind, recipient, to_owner, message_id, paid_at,
                    event_id, event_type, event_headers, event_body, state)
SELECT account, livemode, quote_id, revision, kind, recipient, to_owner, message_id, paid_at,
       event_id, event_type, event_headers, event_body, CASE WHEN recipient IS NULL THEN 'skipped' ELSE 'due' END
FROM unnest($1::text[], $2::boolean[], $3::text[], $4::integer[], $5::text[], $6::text[], $7::boolean[], $8::text[],
            $9::timestamptz[], $10::text[], $11::text[], $12::jsonb[], $13::bytea[])
     AS due (account, livemode, quote_id, revision, kind, recipient, to_owner, message_id, paid_at,
             event_id, event_type, event_headers, event_body)
ON CONFLICT DO NOTHING
RETURNING account, livemode, quote_id, revision, kind, state
"""
# A skipped mail is sent once somebody is known to send it to; a refused one when an SRE replays it.
REARM: Final = """
UPDATE emails
SET state = 'due', due_at = now(), attempts = 0, error = '', recipient = again.recipient, to_owner = again.to_owner
FROM unnest($1::text[], $2::boolean[], $3::text[], $4::integer[], $5::text[], $6::text[], $7::boolean[], $8::boolean[])
     AS again (account, livemode, quote_id, revision, kind, recipient, to_owner, replayed)
WHERE emails.account = again.account AND emails.livemode = again.livemode AND emails.quote_id = again.quote_id
  AND emails.kind = again.kind AND (emails.revision = again.revision OR emails.kind <> 'paid')
  AND again.recipient IS NOT NULL
  AND (emails.state = 'skipped' OR (emails.state = 'refused' AND again.replayed))
RETURNING emails.id
"""
WAKE: Final = "SELECT pg_notify('performers', '')"
# The quote as it stands now, not as it stood when the mail was recorded. A subscription's own events may come after the
# payment: that the quote recurs is known as soon as anything names one.
CLAIM: Final = """
WITH due AS MATERIALIZED (
    SELECT id FROM emails
    WHERE state = 'due' AND due_at <= now() AND (claimed_until IS NULL OR claimed_until < now())
    ORDER BY due_at FOR UPDATE SKIP LOCKED LIMIT $2
), claimed AS (
    UPDATE emails SET claim = $1, claimed_until = now() + interval '30 seconds'
    FROM due WHERE emails.id = due.id
    RETURNING emails.*
)
SELECT claimed.id, claimed.account, claimed.livemode, claimed.quote_id, claimed.revision, claimed.kind,
       coalesce(quotes.owner_email, claimed.recipient) AS recipient,
       claimed.to_owner OR quotes.owner_email IS NOT NULL AS to_owner,
       claimed.message_id, claimed.paid_at, claimed.attempts,
       claimed.event_id, claimed.event_type, claimed.event_headers, claimed.event_body,
       quotes.title, quotes.locale, quotes.time_zone, quotes.data,
       EXISTS (
           SELECT FROM stripe_objects AS known
           WHERE (known.account, known.livemode, known.quote_id) = (claimed.account, claimed.livemode, claimed.quote_id)
             AND (known.kind = 'subscription' OR known.snapshot @> '{"ties": [["subscription"]]}')
       ) AS recurs
FROM claimed LEFT JOIN quotes USING (account, livemode, quote_id)
"""
# Of attempts whose claim still holds. `pause`: seconds until the next; `counted`: whether it counts as an attempt.
SETTLE: Final = """
UPDATE emails
SET state = settled.state, error = settled.error, attempts = attempts + settled.counted,
    due_at = CASE settled.state WHEN 'due' THEN now() + make_interval(secs => settled.pause) ELSE due_at END,
    sent_at = CASE settled.state WHEN 'sent' THEN now() END, subject = settled.subject,
    recipient = coalesce(settled.recipient, emails.recipient), claim = NULL, claimed_until = NULL
FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::integer[], $6::float[], $7::text[], $8::text[])
     AS settled (id, claim, state, error, counted, pause, subject, recipient)
WHERE emails.id = settled.id AND emails.claim = settled.claim
"""

# Where MAIL_FROM is not there: a preview by hand, which sends nothing.
NO_DOMAIN: Final = "quittance.invalid"


# The first fields of an Intent: what makes it one mail.
KEY: Final = 5


class Intent(NamedTuple):
    """A mail that a change asks for; fields in the order of RECORD."""

    account: str
    livemode: bool
    quote_id: str
    revision: int
    kind: str
    recipient: str | None
    to_owner: bool
    message_id: str
    paid_at: datetime | None
    event_id: str
    event_type: str
    event_headers: str
    event_body: bytes


async def handle(events: Sequence[Event], db: Connection) -> list[Event]:
    """Record the mails that the changes ask for. See the module's page."""
    asked = [(intent, event.replay_id is not None) for event in events for intent in _intents(event)]
    if not asked:
        return []
    asked.sort(key=lambda each: each[0][:KEY])
    recorded = await db.fetch(RECORD, *columns(intent for intent, _ in asked))
    for row in recorded:
        if row["state"] == "skipped":
            SKIPPED.inc()
            log.warning("mail.skipped", quote_id=row["quote_id"], kind=row["kind"], detail="no owner, no MAIL_TO")
    due = {tuple(row)[:KEY] for row in recorded if row["state"] == "due"}
    others = [(*intent[:7], replayed) for intent, replayed in asked if intent[:KEY] not in due]
    rearmed = await db.fetch(REARM, *columns(others)) if others else []
    if due or rearmed:
        await db.execute(WAKE)
    return []


def destination(claim: Record) -> tuple[str, str]:  # noqa: ARG001 - there is one mail server
    """What a circuit breaker stands before."""
    return "smtp", ""


@dataclass(frozen=True)
class Outside:
    """The mail server, and as whom we write."""

    mailer: Mailer
    sender: Address


def outside_settings(reader: Reader) -> MailSettings:
    """SMTP_URL and MAIL_FROM, which this worker alone needs, and MAIL_TO."""
    return MailSettings.read(reader)


@asynccontextmanager
async def outside() -> AsyncIterator[Outside]:
    """What `perform` needs. Raises SettingsError where the environment is not complete."""
    reader = Reader()
    settings = outside_settings(reader)
    reader.check()
    mailer = Mailer(settings.server)
    try:
        yield Outside(mailer, settings.sender)
    finally:
        await mailer.close()


async def perform(claim: Record, outside: Outside) -> Outcome:
    """Send one mail, saying what is true of its quote now."""
    if claim["data"] is None:
        return Failed("its quote is not there")
    mail = mail_of(claim)
    try:
        recipient = single_address(claim["recipient"], mail.owner_name if mail.to_owner else None)
    except AddressInvalid as error:
        return Refused("mail_address_invalid", str(error))
    letter = compose(mail)
    message = message_of(
        letter,
        sender=outside.sender,
        recipient=recipient,
        message_id=claim["message_id"],
        at=datetime.now(UTC),
    )
    try:
        await outside.mailer.send(outside.sender, recipient, message)
    except ServerAway as error:
        return Unavailable(str(error))
    except NotNow as error:
        return Failed(str(error))
    except NotEver as error:
        return Refused("mail_refused", str(error))
    log.info("mail.sent", quote_id=mail.quote_id, kind=mail.kind, event_id=claim["event_id"])
    return Done((letter.subject, recipient.addr_spec))


async def settle(claim: Record, outcome: Outcome, token: UUID, db: Connection) -> list[Event]:
    """Record what came of it, where the claim still holds."""
    await db.execute(SETTLE, *columns([_settled(claim, outcome, token)]))
    return []


async def settle_together(attempts: Sequence[Attempted], db: Connection) -> list[Event]:
    """Record what came of many."""
    await db.execute(SETTLE, *columns(_settled(each.claim, each.outcome, each.token) for each in attempts))
    return []


def _settled(claim: Record, outcome: Outcome, token: UUID) -> tuple[Any, ...]:
    """A row of SETTLE."""
    told: tuple[str, str, int, float, str | None, str | None]
    match outcome:
        case Done((subject, recipient)):
            told = ("sent", "", 0, 0.0, subject, recipient)
        case Refused(_, detail):
            told = ("refused", detail, 0, 0.0, None, None)
        case Unavailable(detail, retry_after):
            told = ("due", detail, 0, retry_after or 0.0, None, None)
        case Failed(detail, retry_in):
            told = ("due", detail, 1, retry_in, None, None)
    return (claim["id"], token, *told)


def _intents(event: Event) -> list[Intent]:
    """The mails that one change asks for, whether or not they have been recorded before."""
    change = change_of(event)
    asked = [(anomaly, change.revision) for anomaly in change.anomalies if anomaly != PAID]
    if change.paid_at is not None:
        asked.append((PAID, change.paid_revision or change.revision))
    if not asked:
        return []
    owner = (change.owner.email or "").strip()
    headers, domain = msgspec.json.encode(event.headers()).decode(), _domain()
    return [
        Intent(
            account=event.account,
            livemode=event.livemode,
            quote_id=change.quote_id,
            revision=revision,
            kind=kind,
            recipient=owner or _mail_to(),
            to_owner=bool(owner),
            message_id=message_id((event.account, event.livemode, change.quote_id, revision, kind), domain),
            paid_at=change.paid_at if kind == PAID else None,
            event_id=event.id,
            event_type=event.type,
            event_headers=headers,
            event_body=event.body,
        )
        for kind, revision in asked
    ]


def _mail_to() -> str | None:
    """Where mail goes whose quote has no known owner."""
    return Reader().text("MAIL_TO") or None


def _domain() -> str:
    """The right side of a Message-ID: our own."""
    try:
        return sender_of(Reader().text("MAIL_FROM")).domain
    except AddressInvalid:
        return NO_DOMAIN
