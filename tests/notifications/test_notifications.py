"""The notifications worker: who is mailed what, once, whatever the mail server does (R21, R22, R29, RULES S5)."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from asyncpg.pool import Pool
from hypothesis import given, settings
from hypothesis import strategies as st

from dev.lives import life
from dev.stripe_events import body
from quittance.errors import Rejected
from quittance.event import Cause, Event
from quittance.outbox import STATUS_CHANGED
from tests.fakes.smtp import FakeSmtp, fake_smtp
from tests.support.handling import accepted, pump, run_handler
from tests.support.polling import eventually
from workers import customers, documents, notifications, quotes
from workers.mail.letters import ANOMALIES
from workers.runtime.performer import CLAIM_MOST, Performer

WORKERS = (customers, documents, quotes, notifications)
OWNER = {"name": "Anna Berg", "email": "anna@example.com"}
NOBODY = {"name": None, "email": None}
PAID_AT = "2023-01-20T03:00:00Z"  # still the 19th in New York
SAVE_QUOTE = """
INSERT INTO quotes (account, livemode, quote_id, sequence, facts, data, title, locale, time_zone, owner_email, status,
                    label)
VALUES ($1, $2, $3, 1, '{}', $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (account, livemode, quote_id) DO UPDATE SET
    data = excluded.data, title = excluded.title, owner_email = excluded.owner_email
"""


@pytest.fixture
async def smtp(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeSmtp]:
    """A mail server, and the worker's environment."""
    async with fake_smtp() as fake:
        monkeypatch.setenv("SMTP_URL", fake.url())
        monkeypatch.setenv("MAIL_FROM", "Quotes <quotes@seller.example>")
        monkeypatch.delenv("MAIL_TO", raising=False)
        yield fake


def data(**fields: Any) -> dict[str, Any]:
    """A CRM event's data: a quote of Anna's, paid."""
    return {
        "quote_id": "Q-1", "number": "Q-1001", "deal_id": None, "owner": OWNER, "account": "self", "livemode": False,
        "revision": 1, "sequence": 1, "previous": None, "status": "paid", "label": "Paid: Jan 20, 2023",
        "paid_at": PAID_AT, "paid_revision": 1, "currency": "usd", "exponent": 2, "amount_due": 123456,
        "amount_captured": 123456, "amount_refunded": 0, "amount_lost": 0, "dispute_status": None,
        "subscription_status": None, "customer": {"email": "buyer@example.net", "stripe_customer_id": "cus_1"},
        "documents": [], "anomalies": [], "cause": {"id": "evt_1", "type": "charge.succeeded"},
    } | fields  # fmt: skip


def changed(replay_id: str | None = None, **fields: Any) -> Event:
    """The event that tells of `data(**fields)`."""
    told = data(**fields)
    return Event(
        id=f"{told['quote_id']}:{told['sequence']}",
        type=STATUS_CHANGED,
        account=told["account"],
        livemode=told["livemode"],
        created=1_790_000_000,
        received_at=1_790_000_000.0,
        body=msgspec.json.encode({"specversion": "1.0", "data": told}),
        cause=Cause("evt_1", "charge.succeeded"),
        replay_id=replay_id,
        stream=told["quote_id"],
    )


async def stands(database: Pool, *, title: str | None = None, locale: str = "en", **fields: Any) -> None:
    """The quote's row says `data(**fields)`."""
    now = data(**fields)
    row = (now["account"], now["livemode"], now["quote_id"], json.dumps(now), title, locale, "America/New_York")
    await database.execute(SAVE_QUOTE, *row, now["owner"]["email"], now["status"], now["label"])


async def tell(database: Pool, **fields: Any) -> None:
    """The quote changes to `data(**fields)`, and notifications hears of it."""
    await stands(database, **fields)
    await run_handler(notifications, [changed(**fields)], database)


async def send_due(database: Pool, rounds: int = 1, schedule: tuple[float, ...] = (0.0, 0.0)) -> None:
    """What the runtime's performer does, until nothing is due or the rounds are over."""
    performer = Performer(notifications, database, schedule, asyncio.Event())
    async with notifications.outside() as outside:
        for _ in range(rounds):
            await performer._claim(outside, CLAIM_MOST)
            if not performer._running:
                break
            await asyncio.gather(*performer._running)


async def emails(database: Pool) -> list[tuple[Any, ...]]:
    rows = await database.fetch("SELECT kind, revision, recipient, state, attempts FROM emails ORDER BY id")
    return [tuple(row) for row in rows]


# What is told, to whom -----------------------------------------------------------------------------------------------


async def test_r21_the_owner_is_told_once_that_the_quote_has_been_paid(database: Pool, smtp: FakeSmtp) -> None:
    for sequence in range(1, 4):
        await tell(database, sequence=sequence)
    await send_due(database, 3)
    [mail] = smtp.received
    assert mail.recipients == ["anna@example.com"]
    assert mail.message["To"] == "Anna Berg <anna@example.com>"
    assert mail.message["From"] == "Quotes <quotes@seller.example>"
    assert mail.message["Subject"] == "Quote Q-1001 has been paid: $1,234.56"
    for part in ("plain", "html"):
        assert "was paid on Jan 19, 2023" in " ".join(mail.part(part).split())
    assert await emails(database) == [("paid", 1, "anna@example.com", "sent", 0)]


async def test_r21_each_paid_revision_is_told_and_says_its_own_day(database: Pool, smtp: FakeSmtp) -> None:
    await tell(database, sequence=1)
    await tell(database, sequence=2, revision=2, paid_revision=2, paid_at="2023-03-05T12:00:00Z")
    await send_due(database)
    texts = {" ".join(mail.part("plain").split()) for mail in smtp.received}
    assert len(texts) == 2
    assert any("Jan 19, 2023" in text and "That was revision 1" in text for text in texts)
    assert any("Mar 5, 2023" in text and "That was revision" not in text for text in texts)


async def test_r22_nothing_is_ever_sent_to_the_buyer(database: Pool, smtp: FakeSmtp) -> None:
    for owner in ("seller@example.com", None):
        for which in ("card", "subscription", "refunded", "double_payment", "dispute_lost"):
            events = life(which, f"{which}-{owner}", owner_email=owner).events
            await pump(WORKERS, [accepted(body(event)) for event in events], database)
    await send_due(database, 5)
    assert len(smtp.received) >= 5
    assert {recipient for mail in smtp.received for recipient in mail.recipients} == {"seller@example.com"}
    skipped = await database.fetchval("SELECT count(DISTINCT quote_id) FROM emails WHERE state = 'skipped'")
    assert skipped == 5


@pytest.mark.parametrize("status", ["active", "past_due"])
async def test_r29_the_mail_of_a_recurring_quote_says_that_somebody_has_to_end_it(
    database: Pool, smtp: FakeSmtp, status: str
) -> None:
    await tell(database, subscription_status=status)
    await tell(database, quote_id="Q-2")
    await send_due(database)
    recurs = "its subscription goes on until somebody cancels it in Stripe"
    said = [recurs in " ".join(mail.part(part).split()) for mail in smtp.received for part in ("plain", "html")]
    assert said == [True, True, False, False]


@pytest.mark.parametrize("first", ["checkout.session.completed", "invoice.paid"])
@pytest.mark.parametrize("which", ["subscription", "card"])
async def test_r29_the_mail_says_so_though_the_subscriptions_own_events_come_later(
    database: Pool, smtp: FakeSmtp, which: str, first: str
) -> None:
    """INVARIANT: the mail goes out once, so it may not depend on whether the subscription was heard of in time."""
    events = [event for event in life(which, "early", owner_email="rep@example.com").events if event["type"] == first]
    await pump(WORKERS, [accepted(body(event)) for event in events], database)
    await send_due(database)
    recurs = "its subscription goes on until somebody cancels it in Stripe"
    assert [recurs in " ".join(mail.part("plain").split()) for mail in smtp.received] == (
        [which == "subscription"] * len(events)
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"status": "refunded", "amount_refunded": 123456}, "Since then it has been refunded: $1,234.56."),
        ({"status": "partially_refunded", "amount_refunded": 500}, "Since then $5.00 has been refunded."),
        ({"status": "disputed"}, "Since then the payment has been disputed"),
        ({"status": "dispute_lost", "amount_lost": 500}, "has been lost, and $5.00 went back to the buyer"),
        ({"status": "payment_failed", "amount_captured": 0}, "Since then that payment has failed"),
    ],
)
async def test_the_mail_says_what_is_true_when_it_is_sent(
    database: Pool, smtp: FakeSmtp, fields: dict[str, Any], sentence: str
) -> None:
    await tell(database)
    await stands(database, **fields)
    await send_due(database)
    [mail] = smtp.received
    text = " ".join(mail.part("plain").split())
    assert "was paid on Jan 19, 2023" in text
    assert sentence in text
    assert mail.message["Subject"].startswith("Quote Q-1001 has been paid")
    assert "$0.00" not in mail.message["Subject"]


@pytest.mark.parametrize("anomaly", sorted(ANOMALIES))
async def test_each_anomaly_is_told_once(database: Pool, smtp: FakeSmtp, anomaly: str) -> None:
    await tell(database, sequence=1, paid_at=None, paid_revision=None, status="pending", anomalies=[anomaly])
    await tell(database, sequence=2, paid_at=None, paid_revision=None, status="pending", anomalies=[])
    await tell(database, sequence=3, paid_at=None, paid_revision=None, revision=2, anomalies=[anomaly])
    await send_due(database, 3)
    [mail] = smtp.received
    assert mail.message["Subject"] == f"Quote Q-1001: {ANOMALIES[anomaly][0]}"


async def test_a_quote_without_owner_goes_to_mail_to(
    database: Pool, smtp: FakeSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_TO", "sales@seller.example")
    await tell(database, owner=NOBODY)
    await send_due(database)
    [mail] = smtp.received
    assert mail.recipients == ["sales@seller.example"]
    assert "because no owner is known" in mail.part("plain")


async def test_without_owner_and_mail_to_a_mail_is_skipped_until_an_owner_is_known(
    database: Pool, smtp: FakeSmtp
) -> None:
    await tell(database, sequence=1, owner=NOBODY)
    await send_due(database)
    assert await emails(database) == [("paid", 1, None, "skipped", 0)]
    assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0
    await tell(database, sequence=2)
    await send_due(database)
    assert await emails(database) == [("paid", 1, "anna@example.com", "sent", 0)]


async def test_an_owner_who_is_named_in_the_same_batch_gets_the_mail(database: Pool, smtp: FakeSmtp) -> None:
    """INVARIANT: a mail that was skipped a moment ago, in the same transaction, is sent all the same."""
    await stands(database)
    await run_handler(notifications, [changed(sequence=1, owner=NOBODY), changed(sequence=2)], database)
    await send_due(database)
    assert await emails(database) == [("paid", 1, "anna@example.com", "sent", 0)]


async def test_an_owner_who_is_known_by_the_time_of_sending_gets_it_himself(
    database: Pool, smtp: FakeSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_TO", "sales@seller.example")
    await tell(database, owner=NOBODY)
    await stands(database)
    await send_due(database)
    assert [mail.recipients for mail in smtp.received] == [["anna@example.com"]]


async def test_accounts_and_modes_each_have_mails_of_their_own(database: Pool, smtp: FakeSmtp) -> None:
    for account in ("self", "acct_1"):
        for livemode in (False, True):
            await tell(database, account=account, livemode=livemode)
    await send_due(database)
    assert len({mail.message["Message-ID"] for mail in smtp.received}) == 4
    assert sum("test mode" in mail.part("plain") for mail in smtp.received) == 2


async def test_day_and_money_are_written_as_the_quotes_locale_writes_them(database: Pool, smtp: FakeSmtp) -> None:
    await stands(database, locale="sv-SE", currency="sek")
    await run_handler(notifications, [changed()], database)
    await send_due(database)
    [mail] = smtp.received
    assert mail.message["Subject"] == "Quote Q-1001 has been paid: 1 234,56 kr"
    assert "19 jan. 2023" in mail.part("plain")


async def test_amounts_that_are_not_known_are_left_out(database: Pool, smtp: FakeSmtp) -> None:
    unknown = {"currency": None, "exponent": None, "amount_due": None, "amount_captured": None, "number": None}
    await tell(database, **unknown)
    await send_due(database)
    [mail] = smtp.received
    assert mail.message["Subject"] == "Quote Q-1 has been paid"


async def test_nothing_from_outside_adds_a_header_or_a_tag(database: Pool, smtp: FakeSmtp) -> None:
    nasty = "\r\nBcc: victim@example.org\r\n\r\n<script>alert(1)</script>\u202e"
    await tell(
        database,
        number=nasty,
        title=nasty,
        owner={"name": nasty, "email": "anna@example.com"},
        customer={"email": nasty},
        label=nasty,
        documents=[{"kind": "invoice", "number": nasty, "url": "https://invoice.stripe.com.evil.example/"}],
    )
    await send_due(database)
    [mail] = smtp.received
    assert mail.recipients == ["anna@example.com"]
    assert mail.message["Bcc"] is None
    assert not {"\n", "\r", "\u202e"} & set(mail.message["Subject"] + mail.part("plain").replace("\n", ""))
    assert "<script>" not in mail.part("html")
    assert "evil.example" not in mail.part("html")


# What the mail server does -------------------------------------------------------------------------------------------


async def message_ids(smtp: FakeSmtp) -> list[str]:
    return [mail.message["Message-ID"] for mail in smtp.received]


async def test_not_now_is_tried_again_by_the_schedule(database: Pool, smtp: FakeSmtp) -> None:
    smtp.script = ["rcpt_451", "data_451"]
    await tell(database)
    await send_due(database, 3)
    assert smtp.tried == 3
    assert await emails(database) == [("paid", 1, "anna@example.com", "sent", 2)]


async def test_not_now_for_ever_becomes_a_dead_letter(database: Pool, smtp: FakeSmtp) -> None:
    smtp.mode = "rcpt_451"
    await tell(database)
    await send_due(database, 5)
    assert await emails(database) == [("paid", 1, "anna@example.com", "refused", 2)]
    [row] = await database.fetch("SELECT queue, event_id, state, reason, error FROM failed_deliveries")
    assert tuple(row)[:4] == ("notifications", "Q-1:1", "dead", "handler_failed")
    assert "451" in row["error"]


async def test_a_server_that_is_away_costs_no_attempt_and_no_mail(
    database: Pool, smtp: FakeSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_URL", "smtp://127.0.0.1:9")
    await tell(database)
    await send_due(database)
    assert await emails(database) == [("paid", 1, "anna@example.com", "due", 0)]
    monkeypatch.setenv("SMTP_URL", smtp.url())
    await database.execute("UPDATE emails SET due_at = now()")
    await send_due(database)
    assert await emails(database) == [("paid", 1, "anna@example.com", "sent", 0)]


@pytest.mark.parametrize(
    ("mode", "address", "reason"),
    [("rcpt_550", "anna@example.com", "mail_refused"), ("ok", "anna@x, eve@y", "mail_address_invalid")],
)
async def test_never_is_a_dead_letter_at_once_and_a_replay_sends_it(
    database: Pool, smtp: FakeSmtp, mode: Any, address: str, reason: str
) -> None:
    smtp.mode = mode
    await tell(database, owner={"name": None, "email": address})
    await send_due(database, 3)
    assert (await emails(database))[0][3] == "refused"
    [row] = await database.fetch("SELECT event_id, state, reason, body FROM failed_deliveries")
    assert tuple(row)[:3] == ("Q-1:1", "dead", reason)
    assert row["body"] == changed(owner={"name": None, "email": address}).body

    # The address is mended in the CRM, or the mailbox is; an SRE replays.
    smtp.mode = "ok"
    await stands(database)
    await run_handler(notifications, [changed("replay", owner={"name": None, "email": address})], database)
    await send_due(database)
    assert [mail.recipients for mail in smtp.received] == [["anna@example.com"]]
    assert (await emails(database))[0][3:] == ("sent", 0)


@pytest.mark.parametrize("state", ["refused", "skipped"])
async def test_what_is_sent_after_all_may_share_a_batch_with_a_new_mail(
    database: Pool, smtp: FakeSmtp, state: str
) -> None:
    """INVARIANT: what a batch makes of one event does not depend on what else is in it."""
    smtp.mode = "rcpt_550"
    await tell(database, **({} if state == "refused" else {"owner": NOBODY}))
    await send_due(database, 3)
    assert (await emails(database))[0][3] == state

    smtp.mode = "ok"
    for quote_id in ("Q-1", "Q-2"):
        await stands(database, quote_id=quote_id)
    await run_handler(notifications, [changed("replay"), changed(quote_id="Q-2")], database)
    await send_due(database)
    assert [row[3] for row in await emails(database)] == ["sent", "sent"]
    assert len(smtp.received) == 2


async def test_a_replay_never_sends_again_what_was_sent(database: Pool, smtp: FakeSmtp) -> None:
    await tell(database)
    await send_due(database)
    await run_handler(notifications, [changed("replay")], database)
    await send_due(database)
    assert len(smtp.received) == 1


async def test_a_connection_lost_after_data_repeats_the_mail_under_the_same_id(database: Pool, smtp: FakeSmtp) -> None:
    smtp.script = ["drop"]
    await tell(database)
    await send_due(database, 2)
    ids = await message_ids(smtp)
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert ids[0].endswith("@seller.example>")
    assert await emails(database) == [("paid", 1, "anna@example.com", "sent", 1)]


async def test_a_mail_whose_sender_died_is_sent_by_another_under_the_same_id(database: Pool, smtp: FakeSmtp) -> None:
    await tell(database)
    token = uuid4()
    [claim] = await database.fetch(notifications.CLAIM, token, 20)
    assert await database.fetch(notifications.CLAIM, token, 20) == []  # nobody else, while the lease lasts
    async with notifications.outside() as outside:
        outcome = await notifications.perform(claim, outside)
    # It dies here: sent, and nothing recorded.
    await database.execute("UPDATE emails SET claimed_until = now()")
    await send_due(database)
    assert len(set(await message_ids(smtp))) == 1
    assert len(smtp.received) == 2
    # And its late word, were it to come back to life, is not heard.
    async with database.acquire() as db, db.transaction():
        await notifications.settle(claim, outcome, token, db)
    assert await emails(database) == [("paid", 1, "anna@example.com", "sent", 0)]


async def test_two_senders_never_send_one_mail_twice(database: Pool, smtp: FakeSmtp) -> None:
    for number in range(30):
        await tell(database, quote_id=f"Q-{number}", sequence=1)
    smtp.mode, smtp.delay = "slow", 0.01
    await asyncio.gather(*(send_due(database, 10) for _ in range(3)))
    ids = await message_ids(smtp)
    assert len(ids) == len(set(ids)) == 30


async def test_a_slow_server_holds_up_nothing_but_its_own_mails(database: Pool, smtp: FakeSmtp) -> None:
    smtp.mode, smtp.delay = "slow", 60
    await tell(database)
    sending = asyncio.create_task(send_due(database))
    await eventually(lambda: smtp.at_once == 1)
    async with asyncio.timeout(5):
        await tell(database, quote_id="Q-2")
    assert [state for _, _, _, state, _ in await emails(database)] == ["due", "due"]
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


async def test_a_quote_that_cannot_be_mailed_holds_no_other_up(database: Pool, smtp: FakeSmtp) -> None:
    for number in range(5):
        await tell(database, quote_id=f"Q-{number}")
    smtp.script = ["rcpt_550", "rcpt_451", "drop"]
    await send_due(database, 4)
    states = sorted(state for _, _, _, state, _ in await emails(database))
    assert states == ["refused", "sent", "sent", "sent", "sent"]


# Every order ---------------------------------------------------------------------------------------------------------


async def test_s5_every_order_of_a_quotes_events_mails_paid_once(database: Pool, smtp: FakeSmtp) -> None:
    """INVARIANT: one mail `paid` a quote. Broken by a key that lacks the kind or the revision, or by none at all."""
    lives = ("card", "debit_fails_after_settling", "refunded", "subscription", "dispute_lost", "declined_then_paid")
    for seed, which in enumerate(lives * 2):
        rng = random.Random(seed)
        events = [accepted(body(event)) for event in life(which, f"{which}-{seed}").events]
        mixed = rng.sample(events, len(events))
        for start in range(0, len(mixed), 4):
            await pump(WORKERS, mixed[start : start + 4], database)
    await send_due(database, 20)
    subjects = [mail.message["Subject"] for mail in smtp.received if "has been paid" in mail.message["Subject"]]
    assert len(subjects) == len({subject.split()[1] for subject in subjects}) == len(lives) * 2


# Bad input -----------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.dictionaries(st.sampled_from(sorted(data())), st.none() | st.integers() | st.text()))
def test_whatever_the_change_holds_it_is_read_or_rejected(content: Any) -> None:
    told = content if isinstance(content, bytes) else msgspec.json.encode({"data": data() | content})
    event = msgspec.structs.replace(changed(), body=told)
    try:
        intents = notifications._intents(event)
    except Rejected as rejected:
        assert rejected.reason == "unreadable_payload"
        return
    assert all("\x00" not in intent.quote_id for intent in intents)
