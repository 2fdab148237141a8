"""R28, R16, R17: what a quote's end does at Stripe; whatever Stripe answers, or does not."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
import stripe
from asyncpg.pool import Pool
from msgspec.structs import replace

from tests.checkouts.attempts import (
    ATTEMPT,
    Quote,
    attempt_of,
    begun,
    coupon_of,
    discounted,
    ended,
    expire,
    key_of,
    make,
    parameters,
    published,
    recall,
    states,
    webhooks,
)
from tests.checkouts.conftest import Perform
from tests.fakes.stripe import Fault, NotOpen, Place, StripeApi
from tests.support.handling import pump, run_handler
from tests.support.polling import eventually
from tests.support.stripe_environment import forget_settings
from workers import WORKERS, checkouts, quotes
from workers.checkout_endings import Archived, Ended, Postponed
from workers.runtime.outcomes import Done, Failed, Outcome, Refused, Unavailable

ALL = list(WORKERS.values())
SESSIONS = "/v1/checkout/sessions"

End = Callable[[Pool, Quote], Awaitable[None]]


# What a quote's end does ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [expire, recall], ids=["expiry", "recall"])
async def test_r28_r17_an_open_session_does_not_outlive_its_quote(
    database: Pool, stripe_api: StripeApi, perform: Perform, end: End
) -> None:
    """INVARIANT: when a quote expires, or is recalled, its session can't be paid any more, however long it had to live."""
    quote = await published(database)
    session = await begun(database, quote)
    await pump(ALL, [], database)
    assert await perform() == 0
    await end(database, quote)
    await pump(ALL, [], database)
    await perform()
    assert await states(database) == {("Q-1", 1, 1): "closed"}
    with pytest.raises(NotOpen):
        await stripe_api.pay(session)
    # Stripe's word of it changes nothing.
    await pump(ALL, webhooks(stripe_api), database)
    assert await states(database) == {("Q-1", 1, 1): "closed"}
    assert await perform() == 0


@pytest.mark.parametrize("event_type", ["quote.recalled", "quote.expired"])
async def test_r28_the_event_alone_closes_what_nobody_has_marked(
    database: Pool, stripe_api: StripeApi, perform: Perform, event_type: str
) -> None:
    """INVARIANT: the worker marks the sessions and the coupon of that revision itself, and of no other."""
    quote = await published(database)
    await begun(database, quote)
    await discounted(database, quote)
    await run_handler(checkouts, [ended(quote._replace(revision=2), event_type)], database)
    await run_handler(checkouts, [ended(quote._replace(quote_id="Q-2"), event_type)], database)
    await run_handler(checkouts, [ended(quote._replace(account="acct_1"), event_type)], database)
    await run_handler(checkouts, [ended(quote._replace(livemode=True), event_type)], database)
    assert ((await attempt_of(database))["state"], (await coupon_of(database))["state"]) == ("open", "live")
    await run_handler(checkouts, [ended(quote, event_type)], database)
    assert ((await attempt_of(database))["state"], (await coupon_of(database))["state"]) == ("closing", "archiving")
    assert await perform() == 1
    assert (await attempt_of(database))["state"] == "closed"


async def test_r28_a_session_that_was_paid_in_the_last_second_is_complete(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: Stripe will not expire it; it is looked at, and found complete. The money outranks the recall (S4)."""
    quote = await published(database)
    session = await begun(database, quote)
    await stripe_api.pay(session)
    await recall(database, quote)
    await pump(ALL, [], database)
    assert await perform() == 1
    assert await states(database) == {("Q-1", 1, 1): "complete"}
    await pump(ALL, webhooks(stripe_api), database)
    assert await states(database) == {("Q-1", 1, 1): "complete"}
    assert await database.fetchval("SELECT status FROM quotes") == "paid"


async def test_r28_a_session_that_expired_by_itself_or_is_gone_is_closed(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: 400 because it is expired, 404 because there is none: nobody can pay it."""
    first, second = await published(database, "Q-1"), await published(database, "Q-2")
    await stripe_api.expire(await begun(database, first))
    gone = await begun(database, second)
    del stripe_api.sessions.at(Place("self", False))[gone]
    for quote in (first, second):
        await recall(database, quote)
    await pump(ALL, [], database)
    await perform()
    assert set((await states(database)).values()) == {"closed"}
    assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0


# Sessions whose id nobody was told ------------------------------------------------------------------------------------


async def test_r28_a_session_that_nobody_heard_of_is_asked_for_again_and_expired(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: web died between Stripe's answer and its commit: the same key gives the same session, which is expired."""
    quote = await published(database)
    session = await begun(database, quote, told=False)
    await recall(database, quote)
    await pump(ALL, [], database)
    assert await perform() == 1
    row = await attempt_of(database)
    assert (row["state"], row["session_id"]) == ("closed", session)
    assert [one["status"] for one in stripe_api.sessions_of()] == ["expired"]


async def test_r28_a_session_that_was_never_made_is_made_to_be_expired(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: whoever may still send that request gets a session that is over: with this key there is no other."""
    quote = await published(database)
    await begun(database, quote, made=False)
    await recall(database, quote)
    await pump(ALL, [], database)
    await perform()
    assert await states(database) == {("Q-1", 1, 1): "closed"}
    params = await database.fetchval("SELECT params::text FROM checkout_sessions")
    late = await make(quote, json.loads(params))
    assert [one["id"] for one in stripe_api.sessions_of("expired")] == [late.id]
    assert stripe_api.sessions_of("open") == []


async def test_r28_what_stripe_refuses_to_make_is_closed(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: 400 for the request itself (its coupon is gone, its time too short): no session came of it."""
    quote = await published(database)
    await begun(database, quote, made=False)
    await database.execute('UPDATE checkout_sessions SET params = params || \'{"discounts": [{"coupon": "none"}]}\'')
    await recall(database, quote)
    await pump(ALL, [], database)
    assert await perform() == 1
    row = await attempt_of(database)
    assert (row["state"], row["session_id"]) == ("closed", None)
    assert "never made it" in row["error"]


async def test_r28_what_was_never_asked_for_or_is_over_anyway_is_closed_without_a_call(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: nothing was sent, or the session that may be there has ended by itself."""
    first, second = await published(database, "Q-1"), await published(database, "Q-2")
    await begun(database, first, made=False)
    await begun(database, second, told=False)
    await database.execute("UPDATE checkout_sessions SET params = NULL WHERE quote_id = 'Q-1'")
    await database.execute("UPDATE checkout_sessions SET expires_at = now() WHERE quote_id = 'Q-2'")
    calls = len(stripe_api.calls)
    for quote in (first, second):
        await recall(database, quote)
    await pump(ALL, [], database)
    assert await perform() == 2
    assert set((await states(database)).values()) == {"closed"}
    assert len(stripe_api.calls) == calls


@pytest.mark.parametrize("executes", [True, False])
async def test_r28_a_failure_that_stripe_only_repeats_is_looked_behind(
    database: Pool, stripe_api: StripeApi, perform: Perform, executes: bool
) -> None:
    """INVARIANT: Stripe answers a 500 again for as long as it knows the key: what was made is found by what is written on
    it, on whichever page of the list.
    """
    quote = await published(database)
    stripe_api.faults.append(Fault("POST", status=500, executes=executes))
    params = parameters(quote)
    with pytest.raises(stripe.APIError):
        await make(quote, params)
    await begun_row(database, quote, params)
    for number in range(120):
        await make(
            quote._replace(quote_id=f"Q-other-{number}"), parameters(quote._replace(quote_id=f"Q-other-{number}"))
        )
    await recall(database, quote)
    await pump(ALL, [], database)
    await perform()
    assert await states(database) == {("Q-1", 1, 1): "closed"}
    ours = [one["status"] for one in stripe_api.sessions_of() if one["client_reference_id"] == "Q-1"]
    assert ours == (["expired"] if executes else [])
    assert len(stripe_api.sessions_of("open")) == 120


async def test_r28_while_web_may_be_asking_nothing_is_done(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: a session that web holds is left alone until its lease ends; its outcome may be on its way."""
    quote = await published(database)
    await begun(database, quote, made=False)
    await database.execute(
        "UPDATE checkout_sessions SET claim = $1, claimed_until = now() + interval '20 seconds'", uuid4()
    )
    await recall(database, quote)
    await pump(ALL, [], database)
    assert await perform() == 0
    await database.execute("UPDATE checkout_sessions SET claimed_until = now() - interval '1 second'")
    assert await perform() == 1
    assert await states(database) == {("Q-1", 1, 1): "closed"}


# Coupons --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [expire, recall], ids=["expiry", "recall"])
@pytest.mark.parametrize("first", ["checkouts", "quotes"])
async def test_r16_our_own_archiving_is_no_anomaly(
    database: Pool, stripe_api: StripeApi, perform: Perform, end: End, first: str
) -> None:
    """INVARIANT: the coupon goes only once the quotes worker knows of the quote's end, whichever worker hears of it first;
    so that coupon.deleted, whenever it comes, is nobody's interference.
    """
    quote = await published(database)
    coupon = await discounted(database, quote)
    await begun(database, quote, coupon=coupon)
    await pump([quotes, checkouts], webhooks(stripe_api), database)
    await end(database, quote)
    if first == "checkouts":
        (row,) = await database.fetch("SELECT event_id, type FROM outbox")
        await run_handler(checkouts, [ended(quote, row["type"])], database)
        await perform()
        assert await states(database) == {("Q-1", 1, 1): "closed"}
        assert (await coupon_of(database))["state"] == "archiving"
        assert stripe_api.calls_of("DELETE") == []
        await pump([checkouts, quotes], [], database)
    else:
        await pump([quotes, checkouts], [], database)
    await perform()
    assert (await coupon_of(database))["state"] == "archived"
    assert stripe_api.coupons.at(Place("self", False)) == {}
    assert [call.path for call in stripe_api.calls_of("DELETE")] == [f"/v1/coupons/{coupon}"]

    changes = await pump([quotes, checkouts], webhooks(stripe_api), database)
    assert b"coupon_changed" not in b"".join(change.body for change in changes)
    assert await database.fetchval("SELECT anomalies FROM quotes") == []
    assert stripe_api.calls_of("POST", "/v1/coupons/") == []  # never edited


async def test_r16_somebody_else_deleting_it_still_is_one(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: what we do ourselves is told apart by the quote's end, not by who deleted it. Gone already is fine."""
    quote = await published(database)
    coupon = await discounted(database, quote)
    stripe_api.coupons.at(Place("self", False)).pop(coupon)
    deleted = {"id": coupon, "object": "coupon", "metadata": {"quote_id": "Q-1", "quote_revision": "1"}}
    stripe_api.emit(Place("self", False), "coupon.deleted", deleted)
    await pump(ALL, webhooks(stripe_api, "coupon.deleted"), database)
    assert await database.fetchval("SELECT anomalies FROM quotes") == ["coupon_changed"]
    await recall(database, quote)
    await pump(ALL, [], database)
    assert await perform() == 1
    assert (await coupon_of(database))["state"] == "archived"
    assert await database.fetchval("SELECT anomalies FROM quotes") == []


async def test_r15_the_coupon_stays_while_a_session_could_use_it(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: first the session, then the coupon: whoever may still pay has the discount that was offered."""
    quote = await published(database)
    coupon = await discounted(database, quote)
    await begun(database, quote, coupon=coupon)
    await recall(database, quote)
    await pump(ALL, [], database)
    stripe_api.faults.append(Fault("POST", status=500, path=SESSIONS))
    assert await perform() == 1
    assert ((await attempt_of(database))["state"], (await coupon_of(database))["state"]) == ("closing", "archiving")
    assert stripe_api.calls_of("DELETE") == []
    await database.execute("UPDATE checkout_sessions SET due_at = now()")
    assert await perform() == 2
    assert ((await attempt_of(database))["state"], (await coupon_of(database))["state"]) == ("closed", "archived")


async def test_r17_the_coupon_of_the_next_revision_is_another(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: recalled, edited, published again: the old coupon goes, the new one stays, and no anomaly is raised."""
    first = await published(database)
    await discounted(database, first, "coupon-1")
    await recall(database, first)
    second = await published(database, title="Another")
    await discounted(database, second, "coupon-2")
    await begun(database, second, coupon="coupon-2")
    await pump(ALL, [], database)
    await perform()
    await pump(ALL, webhooks(stripe_api), database)
    assert set(stripe_api.coupons.at(Place("self", False))) == {"coupon-2"}
    assert await database.fetchval("SELECT anomalies FROM quotes") == []
    assert await states(database) == {("Q-1", 2, 1): "open"}


# What goes wrong ------------------------------------------------------------------------------------------------------


async def closing(database: Pool, quote: Quote | None = None) -> Quote:
    """A quote whose session is to be closed."""
    quote = quote or await published(database)
    await begun(database, quote)
    await recall(database, quote)
    await pump(ALL, [], database)
    return quote


@pytest.mark.parametrize(
    ("fault", "least", "most"),
    [
        (Fault("POST", status=429, code="rate_limit", headers={"Retry-After": "40"}), 30, 45),
        (Fault("POST", status=500), 0, 3),
        (Fault("POST", status=503, executes=True), 0, 3),
        (Fault("POST", executes=True, drops=True), 0, 3),
        (Fault("POST", executes=True, after=0.6), 0, 3),
    ],
    ids=["429", "500", "503, done", "connection lost, done", "no answer in time, done"],
)
async def test_r28_stripe_away_or_limiting_burns_no_attempt(
    database: Pool,
    stripe_api: StripeApi,
    perform: Perform,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    least: float,
    most: float,
) -> None:
    """INVARIANT: it waits as Stripe asks, or as the circuit breaker says, and the session is closed in the end."""
    monkeypatch.setattr("workers.checkout_endings.ATTEMPT_TIMEOUT", 0.4)
    await closing(database)
    stripe_api.faults.append(replace_fault(fault))
    assert await perform() == 1
    row = await attempt_of(database)
    assert (row["state"], row["attempts"], row["claim"]) == ("closing", 0, None)
    assert row["error"]
    wait = await database.fetchval("SELECT extract(epoch FROM due_at - now()) FROM checkout_sessions")
    assert least < wait < most
    await database.execute("UPDATE checkout_sessions SET due_at = now()")
    assert await perform() == 1
    row = await attempt_of(database)
    assert (row["state"], row["error"]) == ("closed", "")
    assert [one["status"] for one in stripe_api.sessions_of()] == ["expired"]
    assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("POST", status=401), "account_refused"),
        (Fault("POST", status=403, code="account_invalid"), "account_refused"),
        (Fault("POST", status=402, code="card_declined"), "stripe_refused"),
    ],
    ids=["401", "403", "402"],
)
@pytest.mark.parametrize("before", [False, True], ids=["heard of", "before the event came"])
async def test_r28_a_refusal_is_a_dead_letter_and_its_replay_tries_again(
    database: Pool, stripe_api: StripeApi, perform: Perform, fault: Fault, reason: str, before: bool
) -> None:
    """INVARIANT: what Stripe refuses for good is dead with its reason, and never forgotten: neither where the event itself
    comes later than the refusal, nor where its replay is refused again.
    """
    quote = await published(database)
    await begun(database, quote)
    await discounted(database, quote)
    await recall(database, quote)
    if before:
        async with database.acquire() as db:
            await db.execute("UPDATE checkout_sessions SET state = 'closing'")
    else:
        await pump(ALL, [], database)
    stripe_api.faults.append(replace_fault(fault))
    await perform()
    row = await attempt_of(database)
    assert (row["state"], row["error"].partition(":")[0]) == ("closing", reason)
    dead = await database.fetchrow("SELECT * FROM failed_deliveries")
    assert dead is not None
    assert (dead["queue"], dead["event_id"], dead["type"], dead["state"], dead["reason"], dead["quote_id"]) == (
        "checkouts",
        "quote.recalled:Q-1:1",
        "quote.recalled",
        "dead",
        reason,
        "Q-1",
    )
    assert await perform() == 0

    stripe_api.faults.append(replace_fault(fault))
    if before:
        await pump(ALL, [], database)  # the event comes, and with it another try
    else:
        await run_handler(checkouts, [replace(ended(quote), replay_id="mended")], database)
    assert await database.fetchval("SELECT state FROM failed_deliveries") == "resolved"
    assert await perform() == 1
    assert await database.fetchval("SELECT state FROM failed_deliveries") == "dead"

    await run_handler(checkouts, [replace(ended(quote), replay_id="mended again")], database)
    await pump(ALL, [], database)
    await perform()
    assert ((await attempt_of(database))["state"], (await coupon_of(database))["state"]) == ("closed", "archived")
    assert await database.fetchval("SELECT state FROM failed_deliveries") == "resolved"


async def test_r28_a_session_that_stripe_keeps_open_is_tried_by_the_schedule(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: 400, and yet open: counted, tried again after the schedule's pauses, then dead."""
    await closing(database)
    for attempts in range(1, 5):
        stripe_api.faults.append(Fault("POST", status=400))
        await database.execute("UPDATE checkout_sessions SET due_at = now()")
        assert await perform() == 1
        row = await attempt_of(database)
        assert (row["state"], row["attempts"]) == ("closing", attempts)
    assert "calls it open" in (await attempt_of(database))["error"]
    dead = await database.fetchrow("SELECT reason, state FROM failed_deliveries")
    assert dead is not None and tuple(dead) == ("handler_failed", "dead")
    assert await perform() == 0


async def test_r28_one_account_in_trouble_holds_back_no_other(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: each call names its account; a breaker stands before each."""
    for number in range(3):
        await closing(database, await published(database, f"Q-{number}", account="acct_limited"))
        await closing(database, await published(database, f"Q-{number}"))
    stripe_api.faults.append(Fault("POST", status=429, headers={"Retry-After": "30"}))
    await database.execute("UPDATE checkout_sessions SET due_at = now() - interval '1 hour' WHERE account <> 'self'")
    await perform()
    rows = await database.fetch("SELECT account, state, count(*) FROM checkout_sessions GROUP BY 1, 2 ORDER BY 1, 2")
    found = {(row[0], row[1]): row[2] for row in rows}
    assert found["self", "closed"] == 3
    assert found["acct_limited", "closing"] >= 1


@pytest.mark.parametrize("livemode", [False, True], ids=["no key", "a key of the other mode"])
async def test_r28_without_a_key_it_waits_says_so_and_goes_on_when_there_is_one(
    database: Pool, stripe_api: StripeApi, perform: Perform, environment: pytest.MonkeyPatch, livemode: bool
) -> None:
    """INVARIANT: nothing is called, nothing dead; as soon as a process has the key, it is done."""
    quote = await closing(database)
    calls = len(stripe_api.calls)
    environment.setenv("STRIPE_API_KEY", "sk_live_quittance" if livemode else "")
    forget_settings()
    assert await perform() == 1
    row = await attempt_of(database)
    why = "STRIPE_API_KEY is of the other mode" if livemode else "STRIPE_API_KEY is not set"
    assert (row["state"], row["error"], row["attempts"]) == ("closing", why, 0)
    assert await perform() == 0
    assert len(stripe_api.calls) == calls
    environment.setenv("STRIPE_API_KEY", "sk_test_quittance")
    forget_settings()
    await database.execute("UPDATE checkout_sessions SET due_at = now()")  # ten minutes later
    assert await perform() == 1
    assert await states(database) == {(quote.quote_id, 1, 1): "closed"}


# Several at once ------------------------------------------------------------------------------------------------------


async def test_r28_two_performers_at_once_end_each_once(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: a claim is one process's; forty sessions and coupons take eighty attempts, not more."""
    for number in range(40):
        quote = await published(database, f"Q-{number}")
        await discounted(database, quote, f"coupon-{number}")
        await begun(database, quote)
        await recall(database, quote)
    await pump(ALL, [], database)
    first, second = await asyncio.gather(perform(), perform())
    third = await perform()
    assert first + second + third == 80
    assert first and second
    assert set((await states(database)).values()) == {"closed"}
    assert stripe_api.sessions_of("open") == []
    assert stripe_api.coupons.at(Place("self", False)) == {}


async def test_r28_what_one_is_about_to_claim_the_other_passes_over(database: Pool, stripe_api: StripeApi) -> None:
    """INVARIANT: a claim that is not committed yet is waited for by nobody, and made by nobody else."""
    sessions, coupons = await published(database, "Q-1"), await published(database, "Q-2")
    await closing(database, sessions)
    await discounted(database, coupons)
    await recall(database, coupons)
    await pump(ALL, [], database)
    async with database.acquire() as one, database.acquire() as other:
        async with one.transaction(), asyncio.timeout(5):
            assert len(await one.fetch(checkouts.CLAIM, uuid4(), 20)) == 2
            assert await other.fetch(checkouts.CLAIM, uuid4(), 20) == []
        assert await other.fetch(checkouts.CLAIM, uuid4(), 20) == []


async def test_r28_a_claim_takes_no_more_than_it_was_given_room_for(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: sessions and coupons share the room; what is claimed and not begun would only lose its lease."""
    for number in range(4):
        quote = await published(database, f"Q-{number}")
        await discounted(database, quote, f"coupon-{number}")
        if number % 2:
            await begun(database, quote)
        await recall(database, quote)
    await pump(ALL, [], database)
    kinds = []
    for _ in range(4):
        (row,) = await database.fetch(checkouts.CLAIM, uuid4(), 1)
        kinds.append(row["kind"])
    assert kinds == ["session", "session", "coupon", "coupon"]
    await database.execute("UPDATE checkout_sessions SET claimed_until = now()")
    await database.execute("UPDATE quote_coupons SET claimed_until = now()")
    claimed = await database.fetch(checkouts.CLAIM, uuid4(), 3)
    assert sorted(row["kind"] for row in claimed) == ["coupon", "session", "session"]


async def test_r28_a_process_that_dies_leaves_a_lease_and_another_goes_on(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: claimed and then killed, before or after Stripe's answer: claimed again when the lease has run out."""
    await closing(database)
    dead, late = uuid4(), uuid4()
    async with database.acquire() as db:
        (claim,) = await db.fetch(checkouts.CLAIM, dead, 20)
        assert await db.fetch(checkouts.CLAIM, late, 20) == []
    async with checkouts.outside() as outside:
        await checkouts.perform(claim, outside)  # and it dies before it can say so
    assert await perform() == 0
    await database.execute("UPDATE checkout_sessions SET claimed_until = now() - interval '1 second'")
    assert await perform() == 1
    assert await states(database) == {("Q-1", 1, 1): "closed"}


async def test_r28_an_outcome_whose_lease_was_lost_changes_nothing(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: only the holder of the claim settles."""
    quote = await published(database)
    await discounted(database, quote)
    await closing(database, quote)
    mine, theirs = uuid4(), uuid4()
    async with database.acquire() as db:
        (session,) = await db.fetch(checkouts.CLAIM, mine, 20)
        await db.execute("UPDATE checkout_sessions SET claimed_until = now() - interval '1 second'")
        assert len(await db.fetch(checkouts.CLAIM, theirs, 20)) == 1
        before = await attempt_of(database)
        late: list[Outcome] = [
            Done(Ended("closed", "cs_1")),
            Done(Postponed("no key", 600)),
            Refused("stripe_refused", ""),
            Unavailable("", 5.0),
            Failed("", 5.0),
        ]
        for outcome in late:
            assert await checkouts.settle(session, outcome, mine, db) == []
    assert await attempt_of(database) == before
    await database.execute("UPDATE checkout_sessions SET claimed_until = now()")
    await perform()
    assert ((await attempt_of(database))["state"], (await coupon_of(database))["state"]) == ("closed", "archived")
    async with database.acquire() as db:
        await checkouts.settle(session, Done(Ended("complete", "cs_1")), mine, db)
        coupon = {**dict(session), "kind": "coupon", "id": (await coupon_of(database))["id"]}
        await checkouts.settle(coupon, Refused("stripe_refused", ""), mine, db)  # type: ignore[arg-type]
        await checkouts.settle(coupon, Done(Archived()), mine, db)  # type: ignore[arg-type]
    assert ((await attempt_of(database))["state"], (await coupon_of(database))["state"]) == ("closed", "archived")


async def test_r28_what_stripe_says_while_it_is_expired_stays_said(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: its webhook is handled before the answer to our call is settled: the higher state stays."""
    quote = await published(database)
    session = await begun(database, quote)
    await stripe_api.pay(session, "debit")
    await recall(database, quote)
    await pump(ALL, [], database)
    stripe_api.faults.append(Fault("GET", after=0.5))
    performing = asyncio.ensure_future(perform())
    await eventually(lambda: bool(stripe_api.calls_of("GET")))
    await stripe_api.settle(session, paid=False)
    await pump(ALL, webhooks(stripe_api), database)
    assert await states(database) == {("Q-1", 1, 1): "closed"}
    await performing
    assert await states(database) == {("Q-1", 1, 1): "closed"}
    assert (await attempt_of(database))["claim"] is None


def replace_fault(fault: Fault) -> Fault:
    """One of its own: a fault counts down."""
    return Fault(**vars(fault))


async def begun_row(database: Pool, quote: Quote, params: dict[str, object]) -> None:
    """An attempt as web leaves it that got no answer."""
    row = (*quote[:4], 1, "creating", key_of(quote), json.dumps(params), None, None, params["expires_at"], None, None)
    await database.execute(ATTEMPT, *row)
