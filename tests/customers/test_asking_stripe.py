"""R18 and R19 at Stripe: looked up, else made, once, with its properties; and whom Stripe is never asked for."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from asyncpg import Record
from asyncpg.pool import Pool
from msgspec.structs import replace

from quittance.event import Event
from tests.customers.address_events import BEGINS, book_of, created, deleted, event, session, told
from tests.fakes.stripe import Fault, StripeApi
from tests.support.handling import run_handler
from tests.support.polling import eventually
from tests.support.stripe_environment import forget_settings
from workers import customers
from workers.runtime.outcomes import Done, Failed, Outcome, Refused, Unavailable
from workers.runtime.performer import Performer
from workers.stripe_customers import Answer, Skipped, StripeAccounts, StripeCustomer

SCHEDULE = (60.0, 60.0, 60.0)

Perform = Callable[[], Awaitable[int]]


@pytest.fixture
def perform(database: Pool) -> Perform:
    """The runtime's performer, run until nothing is due; how many attempts it made."""

    async def nothing_due() -> bool:
        due = "SELECT count(*) FROM customer_requests WHERE state = 'due' AND due_at <= now()"
        return bool(await database.fetchval(due) == 0)

    async def until_nothing_is_due() -> int:
        attempts = 0

        async def attempt(claim: Record, outside: StripeAccounts) -> Outcome:
            nonlocal attempts
            attempts += 1
            return await customers.perform(claim, outside)

        worker = SimpleNamespace(**{**vars(customers), "perform": attempt})
        stopping = asyncio.Event()
        performer = Performer(worker, database, SCHEDULE, stopping)
        running = asyncio.create_task(performer.run())
        await eventually(nothing_due)
        stopping.set()
        performer.wake()
        await running
        return attempts

    return until_nothing_is_due


async def request(database: Pool, address: str = "ann@example.com") -> dict[str, Any]:
    row = await database.fetchrow("SELECT * FROM customer_requests WHERE email_normalised = $1", address)
    assert row is not None
    return dict(row)


async def in_outbox(database: Pool) -> list[tuple[str, str | None, str | None]]:
    rows = await database.fetch("SELECT type, body FROM outbox WHERE destination = 'quittance' ORDER BY id")
    return told([replace(created("cus_0", None), type=row["type"], body=row["body"]) for row in rows])


async def test_r18_r19_a_customer_is_made_for_a_paying_guest(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: looked for as typed and in lower case, then made with e-mail and company name and nothing else."""
    checkout = session(
        "cs_1", "Q-1", "Ann@Example.com", details={"name": "Ann Other", "business_name": "Example Ltd"}, at=1
    )
    await run_handler(customers, [checkout], database)
    assert await perform() == 1

    looks, makes = stripe_api.calls_of("GET"), stripe_api.calls_of("POST")
    assert [call.params for call in looks] == [
        {"email": "Ann@Example.com", "limit": "100"},
        {"email": "ann@example.com", "limit": "100"},
    ]
    assert [(call.path, call.params) for call in makes] == [
        ("/v1/customers", {"email": "Ann@Example.com", "name": "Example Ltd"})
    ]
    assert len(stripe_api.calls) == 3
    (made,) = stripe_api.customers["self", False].values()
    book = await book_of(database)
    assert book.customers == {"ann@example.com": ("Ann@Example.com", made["id"])}
    assert book.checkouts == {"cs_1": ("Ann@Example.com", made["id"])}
    assert await in_outbox(database) == [("cs_1", "Ann@Example.com", made["id"])]
    assert (await request(database))["state"] == "done"

    # Stripe's own event about it changes nothing.
    webhook = event("customer.created", made, at=made["created"] - BEGINS)
    assert await run_handler(customers, [webhook], database) == []
    assert (await book_of(database)).customers == book.customers
    assert await perform() == 0


async def test_r19_the_contacts_name_or_none(database: Pool, stripe_api: StripeApi, perform: Perform) -> None:
    """INVARIANT: no company: first and last name; no name at all: only the e-mail."""
    await run_handler(
        customers,
        [
            session("cs_1", "Q-1", "ann@example.com", details={"name": "Ann Other"}),
            session("cs_2", "Q-2", "bob@example.com", payment_status="no_payment_required"),
        ],
        database,
    )
    await perform()
    posted = sorted((call.params for call in stripe_api.calls_of("POST")), key=str)
    assert posted == [{"email": "ann@example.com", "name": "Ann Other"}, {"email": "bob@example.com"}]


@pytest.mark.parametrize("stored", ["Ann@Example.com", "ann@example.com"])
async def test_r18_r19_an_existing_customer_is_taken_as_it_is(
    database: Pool, stripe_api: StripeApi, perform: Perform, stored: str
) -> None:
    """INVARIANT: nobody is made where Stripe has the address, and nothing of who is there is overwritten."""
    there = stripe_api.add(stored, name="As it was")
    stripe_api.add("ann@example.com", account="acct_other")
    await run_handler(customers, [session("cs_1", "Q-1", "Ann@Example.com", details={"name": "Another"})], database)
    await perform()
    assert stripe_api.calls_of("POST") == []
    assert stripe_api.customers["self", False] == {there["id"]: there}
    assert (there["name"], there["email"]) == ("As it was", stored)
    assert (await book_of(database)).checkouts == {"cs_1": ("Ann@Example.com", there["id"])}


async def test_r18_of_several_the_oldest_stands_for_the_address(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: all that Stripe has are aliases; the choice does not depend on the order of its answer."""
    younger = stripe_api.add("ann@example.com", created=BEGINS - 100)
    oldest = stripe_api.add("Ann@example.com", created=BEGINS - 200)
    youngest = stripe_api.add("ann@example.com", created=BEGINS - 50)
    await run_handler(customers, [session("cs_1", "Q-1", "Ann@example.com")], database)
    await perform()
    book = await book_of(database)
    assert set(book.aliases) == {younger["id"], oldest["id"], youngest["id"]}
    assert book.customers["ann@example.com"][1] == oldest["id"]


async def test_r18_our_record_decides_and_stripe_is_not_asked(database: Pool, stripe_api: StripeApi) -> None:
    """INVARIANT: Stripe is asked only for a paid session of ours, with an address, where we know no customer of it."""
    known = created("cus_1", "ann@example.com")
    await run_handler(customers, [known], database)
    quiet = [
        session("cs_1", "Q-1", "Ann@example.com"),
        session("cs_2", "Q-2", "new@example.com", "cus_2"),
        session("cs_3", "Q-3", "new3@example.com", payment_status="unpaid"),
        session("cs_4", "Q-4", None),
        session("cs_5", "Q-5", "no address"),
        session("cs_6", None, "new6@example.com"),
        session("cs_7", "Q-7", "new7@example.com", fields={"mode": "setup"}),
        # Made by somebody else in the same batch: known at its end.
        session("cs_8", "Q-8", "new8@example.com"),
        created("cus_8", "new8@example.com", at=1),
    ]
    await run_handler(customers, quiet, database)
    assert await database.fetchval("SELECT count(*) FROM customer_requests") == 0


async def test_an_unpaid_guest_is_asked_for_once_paid(database: Pool, stripe_api: StripeApi, perform: Perform) -> None:
    """INVARIANT: a bank debit that settles days later makes its customer then."""
    unpaid = session("cs_1", "Q-1", "ann@example.com", payment_status="unpaid")
    paid = session("cs_1", "Q-1", "ann@example.com", event_type="checkout.session.async_payment_succeeded", at=9)
    await run_handler(customers, [unpaid], database)
    assert await perform() == 0
    await run_handler(customers, [paid], database)
    assert await perform() == 1
    assert stripe_api.made() == 1


async def test_r18_twenty_guests_of_one_address_make_one_customer(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: concurrent sessions of one address, in several processes, make one row, one wish and one customer."""
    spellings = ["ann@example.com", "Ann@Example.com", "ANN@EXAMPLE.COM", " ann@example.com"]
    checkouts = [session(f"cs_{n}", f"Q-{n}", spellings[n % 4], at=n) for n in range(20)]

    async def take(one: Event) -> None:
        await run_handler(customers, [one], database)
        await perform()

    await asyncio.gather(*(take(one) for one in checkouts))
    (made,) = stripe_api.customers["self", False]
    book = await book_of(database)
    assert {known for _, known in book.checkouts.values()} == {made}
    assert len(book.checkouts) == 20
    assert len(book.customers) == 1
    told_of = [session_id for session_id, _, _ in await in_outbox(database)]
    assert len(told_of) == len(set(told_of))
    causes = await database.fetch("SELECT body::text AS body, headers->>'cause-id' AS cause FROM outbox")
    assert {row["cause"] for row in causes} <= {one.id for one in checkouts}


async def test_two_sessions_that_waited_are_told_with_their_own_cause(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: the CRM hears which event is behind a change, also where one answer serves two quotes."""
    checkouts = [session(f"cs_{n}", f"Q-{n}", "ann@example.com", at=n) for n in range(2)]
    await run_handler(customers, checkouts, database)
    await perform()
    rows = await database.fetch("SELECT stream, headers->>'cause-id' AS cause FROM outbox ORDER BY stream")
    assert [(row["stream"], row["cause"]) for row in rows] == [("Q-0", checkouts[0].id), ("Q-1", checkouts[1].id)]


# What goes wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", status=500, executes=True),
        Fault("POST", executes=True, after=0.6),
        Fault("POST", status=200, executes=True, body="<html>"),
    ],
    ids=["500", "no answer in time", "nonsense"],
)
async def test_r18_a_creation_whose_answer_was_lost_is_not_made_again(
    database: Pool, stripe_api: StripeApi, perform: Perform, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """INVARIANT: a creation that Stripe carried out and we did not hear of is found at the next attempt."""
    monkeypatch.setattr("workers.stripe_customers.ATTEMPT_TIMEOUT", 0.4)
    stripe_api.faults.append(fault)
    await run_handler(customers, [session("cs_1", "Q-1", "ann@example.com")], database)
    await perform()
    assert (await request(database))["state"] == "due"
    await database.execute("UPDATE customer_requests SET due_at = now()")
    await perform()
    assert (await request(database))["state"] == "done"
    assert stripe_api.made() == 1


async def test_r18_a_failure_that_stripe_keeps_for_a_day_does_not_stand_for_ever(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: a key that Stripe answers with its old failure gives way to the next one, after another look.

    Otherwise one 500 would shut the destination for a day: the same key gets the same 500 for that long.
    """
    stripe_api.faults.append(Fault("POST", status=500, executes=False))
    await run_handler(customers, [session("cs_1", "Q-1", "ann@example.com")], database)
    await perform()
    await database.execute("UPDATE customer_requests SET due_at = now()")
    await perform()
    assert (await request(database))["state"] == "done"
    assert stripe_api.made() == 1
    first, again, other = (call.key for call in stripe_api.calls_of("POST"))
    assert first == again != other


async def test_an_attempt_whose_lease_ended_is_repeated_with_the_same_key(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: two processes at the same wish make one customer; the one that lost its lease settles nothing."""
    stripe_api.faults += [Fault("POST", before=0.3)]
    await run_handler(customers, [session("cs_1", "Q-1", "ann@example.com")], database)
    slow = asyncio.ensure_future(perform())
    await eventually(lambda: bool(stripe_api.calls_of("POST")))
    await database.execute("UPDATE customer_requests SET claimed_until = now() - interval '1 second'")
    await perform()
    await slow
    assert stripe_api.made() == 1
    assert len({call.key for call in stripe_api.calls_of("POST")}) == 1
    (made,) = stripe_api.customers["self", False]
    assert (await book_of(database)).checkouts == {"cs_1": ("ann@example.com", made)}
    assert len(await in_outbox(database)) == 1


async def test_an_outcome_whose_lease_was_lost_changes_nothing(database: Pool, stripe_api: StripeApi) -> None:
    """INVARIANT: only the holder of the claim settles: another process may have settled it differently since."""
    await run_handler(customers, [session("cs_1", "Q-1", "ann@example.com")], database)
    mine, theirs = uuid4(), uuid4()
    async with database.acquire() as db:
        (claim,) = await db.fetch(customers.CLAIM, mine, 20)
        assert await db.fetch(customers.CLAIM, theirs, 20) == []
        await db.execute("UPDATE customer_requests SET claimed_until = now() - interval '1 second'")
        assert len(await db.fetch(customers.CLAIM, theirs, 20)) == 1
        before = await request(database)
        answer = Answer((StripeCustomer("cus_1", "ann@example.com", BEGINS),), made=True, at=BEGINS)
        late: list[Outcome] = [
            Done(answer),
            Done(Skipped("no key")),
            Refused("stripe_refused", ""),
            Unavailable("", 5.0),
            Failed("", 5.0),
        ]
        for outcome in late:
            assert await customers.settle(claim, outcome, mine, db) == []
    assert await request(database) == before
    assert (await book_of(database)).aliases == {}


async def test_a_session_is_asked_for_once(database: Pool, stripe_api: StripeApi, perform: Perform) -> None:
    """INVARIANT: another event of a session that was paid before makes no customer of somebody deleted since."""
    first = session("cs_1", "Q-1", "ann@example.com", at=1)
    await run_handler(customers, [created("cus_1", "ann@example.com"), first, deleted("cus_1", at=5)], database)
    later = session("cs_1", "Q-1", "ann@example.com", event_type="checkout.session.async_payment_succeeded", at=9)
    await run_handler(customers, [later], database)
    assert await perform() == 0


async def test_being_limited_counts_no_attempt_and_waits_as_told(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: 429 postpones by Retry-After, for that account; nothing is dead-lettered."""
    stripe_api.faults.append(Fault("GET", status=429, code="rate_limit", headers={"Retry-After": "40"}))
    await run_handler(customers, [session("cs_1", "Q-1", "ann@example.com")], database)
    await perform()
    row = await request(database)
    assert (row["state"], row["attempts"], row["claim"]) == ("due", 0, None)
    wait = await database.fetchval("SELECT extract(epoch FROM due_at - now()) FROM customer_requests")
    assert 25 < wait < 60
    assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("GET", status=401), "account_refused"),
        (Fault("GET", status=403, code="account_invalid"), "account_refused"),
        (Fault("POST", status=400, code="email_invalid"), "stripe_refused"),
        (Fault("POST", status=402, code="card_declined"), "stripe_refused"),
        (Fault("GET", status=404, code="resource_missing"), "stripe_refused"),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Fault) else value,
)
async def test_a_refusal_is_a_dead_letter_and_a_replay_asks_again(
    database: Pool, stripe_api: StripeApi, perform: Perform, fault: Fault, reason: str
) -> None:
    """INVARIANT: what Stripe refuses for good is dead at once, without the address in its text; its replay is a new try."""
    stripe_api.faults.append(fault)
    checkout = session("cs_1", "Q-1", "ann@example.com")
    await run_handler(customers, [checkout], database)
    await perform()
    assert (await request(database))["state"] == "refused"
    dead = await database.fetchrow("SELECT * FROM failed_deliveries")
    assert dead is not None
    assert (dead["queue"], dead["event_id"], dead["state"], dead["reason"]) == (
        "customers",
        checkout.id,
        "dead",
        reason,
    )
    assert dead["body"] == checkout.body
    assert "@" not in dead["error"]
    assert await perform() == 0

    await run_handler(customers, [replace(checkout, replay_id="mended")], database)
    assert await perform() == 1
    assert (await request(database))["state"] == "done"
    assert stripe_api.made() == 1


# Keys, modes, accounts ----------------------------------------------------------------------------------------------


async def test_a_connected_account_is_asked_for_itself(database: Pool, stripe_api: StripeApi, perform: Perform) -> None:
    """INVARIANT: each call names the account; addresses of two accounts have nothing to do with each other."""
    await run_handler(
        customers,
        [session("cs_1", "Q-1", "ann@example.com"), session("cs_1", "Q-1", "ann@example.com", account="acct_1")],
        database,
    )
    await perform()
    assert (stripe_api.made("self"), stripe_api.made("acct_1")) == (1, 1)
    assert len({call.key for call in stripe_api.calls_of("POST")}) == 2


async def test_events_of_the_other_mode_are_not_called_for(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: a test key never asks for a live session: recorded as skipped, with the reason, and no dead letter."""
    await run_handler(customers, [session("cs_1", "Q-1", "ann@example.com", livemode=True)], database)
    assert await perform() == 0
    row = await request(database)
    assert (row["state"], row["error"]) == ("skipped", "STRIPE_API_KEY is of the other mode")
    assert stripe_api.calls == []
    assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0


async def test_without_a_key_nothing_is_asked_until_it_is_replayed_with_one(
    database: Pool, stripe_api: StripeApi, perform: Perform, environment: pytest.MonkeyPatch
) -> None:
    """INVARIANT: no STRIPE_API_KEY: skipped, and said so; with the key set, a replay or a new purchase asks."""
    environment.delenv("STRIPE_API_KEY")
    forget_settings()
    checkout = session("cs_1", "Q-1", "ann@example.com")
    await run_handler(customers, [checkout], database)
    assert await perform() == 0
    row = await request(database)
    assert (row["state"], row["error"], row["event_body"]) == ("skipped", "STRIPE_API_KEY is not set", None)

    environment.setenv("STRIPE_API_KEY", "sk_test_quittance")
    forget_settings()
    assert await perform() == 0
    await run_handler(customers, [replace(checkout, replay_id="with a key")], database)
    assert await perform() == 1
    assert stripe_api.made() == 1


async def test_a_key_that_was_taken_away_skips_what_is_due(
    database: Pool, stripe_api: StripeApi, perform: Perform, environment: pytest.MonkeyPatch
) -> None:
    """INVARIANT: what was noted under a key is not carried out without one."""
    await run_handler(customers, [session("cs_1", "Q-1", "ann@example.com")], database)
    environment.delenv("STRIPE_API_KEY")
    forget_settings()
    assert await perform() == 1
    assert (await request(database))["state"] == "skipped"
    assert stripe_api.calls == []


async def test_a_customer_deleted_since_is_made_again_only_for_a_new_purchase(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: a replay of an old purchase brings nobody back; a new one does, under another key.

    Stripe would answer the old key with the customer that is gone.
    """
    checkout = session("cs_1", "Q-1", "ann@example.com", at=1)
    await run_handler(customers, [checkout], database)
    await perform()
    (first,) = list(stripe_api.customers["self", False])
    stripe_api.delete(first)
    await run_handler(customers, [deleted(first, at=5)], database)
    await run_handler(customers, [replace(checkout, replay_id="again")], database)
    assert await perform() == 0

    await run_handler(customers, [session("cs_2", "Q-2", "ann@example.com", at=6)], database)
    assert await perform() == 1
    (second,) = list(stripe_api.customers["self", False])
    assert second != first
    assert {known for _, known in (await book_of(database)).checkouts.values()} == {second}
    assert len({call.key for call in stripe_api.calls_of("POST")}) == 2
