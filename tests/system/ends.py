"""What must be true of every life when all is done, whatever happened on the way."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
from asyncpg.pool import Pool

from quittance.event import Event
from tests.fakes.smtp import FakeSmtp
from tests.support.crm_side import QuoteKey, quotes_in
from tests.support.many_lives import Story
from tests.support.system import by_queue

Rows = Mapping[QuoteKey, asyncpg.Record]

DOCUMENTS = """
SELECT account, livemode, quote_id, object_id, kind, number, status, currency, amount, amount_paid, amount_refunded, url,
       pdf_url
FROM documents ORDER BY object_id
"""
MAILS = "SELECT account, livemode, quote_id, revision, kind, state, message_id, recipient FROM emails"
EVER_PAID = """
SELECT DISTINCT account, livemode, quote_id, (data ->> 'paid_revision')::integer FROM quote_status_changes
WHERE data ->> 'paid_at' IS NOT NULL
"""
ARCHIVE = "SELECT account, livemode, event_id, body FROM events"
INBOX = "SELECT event_id, count(*) FROM inbox WHERE queue = $1 AND event_id = ANY($2::text[]) GROUP BY 1"
HISTORY = "SELECT account, livemode, quote_id, array_agg(sequence ORDER BY sequence) FROM quote_status_changes GROUP BY 1, 2, 3"


async def everything_as_it_must_be(
    database: Pool, stories: Sequence[Story], mails: FakeSmtp, *, repeats: int = 0
) -> Rows:
    """All of it: archive, inbox, quotes, documents, mails, and no failure that is not mended. Returns the quotes' rows.

    `repeats`: how often a mail may have come once more, because its sender was killed between SMTP and commit.
    """
    rows = await quotes_in(database)
    await every_event_once(database, [event for story in stories for event in story.from_stripe])
    left = await database.fetch("SELECT * FROM failed_deliveries WHERE state <> 'resolved'")
    assert [dict(row) for row in left] == []
    as_the_fold_says(stories, rows)
    as_reckoned_by_hand(stories, rows)
    await documents_as_named(database, stories, rows)
    await history_without_a_gap(database, rows)
    await one_mail_where_paid(database, stories, rows, mails, repeats)
    return rows


async def every_event_once(database: Pool, events: Sequence[Event]) -> None:
    """INVARIANT: what was accepted is in the archive, byte for byte, and each queue that it goes to has handled it once."""
    kept = {tuple(row)[:3]: bytes(row["body"]) for row in await database.fetch(ARCHIVE)}
    assert kept == {(event.account, event.livemode, event.id): event.body for event in events}
    for queue, ids in by_queue((event.id, event.type) for event in events).items():
        handled = {row[0]: row[1] for row in await database.fetch(INBOX, queue, sorted(ids))}
        assert handled == dict.fromkeys(ids, 1), queue


def as_the_fold_says(stories: Sequence[Story], rows: Rows) -> None:
    """INVARIANT: status, amounts, `paid_at`, anomalies, … are those of the causal order, folded purely; no other quote."""
    assert set(rows) == {story.key for story in stories}
    for story in stories:
        row = rows[story.key]
        data = json.loads(row["data"]) | {"document_names": json.loads(row["document_names"])}
        assert {name: data[name] for name in story.end} == story.end, story.name


def as_reckoned_by_hand(stories: Sequence[Story], rows: Rows) -> None:
    """INVARIANT: what a person reckoned without the code under test, the documents' kinds and the buyer among it."""
    for story in stories:
        if (must := story.expected) is None:
            continue
        data: dict[str, Any] = json.loads(rows[story.key]["data"])
        assert (data["status"], data["amount_due"]) == (must.status, must.amount_due), story.name
        amounts = (data["amount_captured"], data["amount_refunded"], data["amount_lost"])
        assert amounts == (must.captured, must.refunded, must.lost), story.name
        beside = (data["dispute_status"], data["subscription_status"], tuple(data["anomalies"]))
        assert beside == (must.dispute_status, must.subscription_status, must.anomalies), story.name
        assert (data["paid_at"] is not None) is must.paid, story.name
        assert tuple(sorted(document["kind"] for document in data["documents"])) == must.documents, story.name
        if must.paid:
            assert data["customer"]["email"] == story.email, story.name


async def documents_as_named(database: Pool, stories: Sequence[Story], rows: Rows) -> None:
    """INVARIANT: a row for each Stripe object that is a document of a quote, and the CRM was told what stands in it."""
    found: dict[QuoteKey, list[dict[str, Any]]] = {story.key: [] for story in stories}
    for row in await database.fetch(DOCUMENTS):
        account, livemode, quote_id, *_ = row
        found[account, livemode, quote_id].append(dict(list(row.items())[3:]))
    for key, documents in found.items():
        named = [(name["object_id"], name["kind"]) for name in json.loads(rows[key]["document_names"])]
        assert [(document["object_id"], document["kind"]) for document in documents] == named, key
        told = json.loads(rows[key]["data"])["documents"]
        assert [{"object_id": one["id"], **{n: one[n] for n in one if n != "id"}} for one in told] == documents, key


async def history_without_a_gap(database: Pool, rows: Rows) -> None:
    """INVARIANT: the table of changes holds 1, 2, 3, … of each quote, up to its sequence."""
    history = {tuple(row)[:3]: list(row[3]) for row in await database.fetch(HISTORY)}
    assert history == {key: list(range(1, row["sequence"] + 1)) for key, row in rows.items()}


async def one_mail_where_paid(
    database: Pool, stories: Sequence[Story], rows: Rows, mails: FakeSmtp, repeats: int
) -> None:
    """INVARIANT (S5): one mail `paid` for each quote (and revision) that was ever told to be paid, each anomaly at most
    once, all sent, and each Message-ID once: at most `repeats` times more where its sender was killed.
    """
    records = await database.fetch(MAILS)
    assert {row["state"] for row in records} <= {"sent"}
    paid = Counter(tuple(row)[:4] for row in records if row["kind"] == "paid")
    told = Counter(tuple(row) for row in await database.fetch(EVER_PAID))
    assert (paid - told, told - paid) == (Counter(), Counter())
    # A quote that was published after it had been adopted may have been paid for a while: none else.
    adopted = {story.key for story in stories if not story.our_own}
    once = Counter((account, livemode, quote_id) for account, livemode, quote_id, _ in paid)
    for key in adopted:
        assert once[key] == (rows[key]["paid_at"] is not None), key
    received = Counter(str(mail.message["Message-ID"]).strip() for mail in mails.received)
    assert set(received) == {row["message_id"] for row in records}
    assert max(received.values(), default=0) <= 1 + repeats
    recipients = {str(mail.message["Message-ID"]).strip(): mail.recipients for mail in mails.received}
    assert recipients == {row["message_id"]: [row["recipient"]] for row in records}
    buyers = {story.email for story in stories}
    assert not buyers & {address for given in recipients.values() for address in given}, "nothing to the buyer (R22)"
