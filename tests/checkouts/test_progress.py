"""How far our sessions have come: by Stripe's events, in any order, any number of times; and nobody else's sessions."""

import asyncio
from itertools import count
from typing import Any, NamedTuple

import pytest
from asyncpg.pool import Pool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quittance.event import Event
from tests.checkouts.attempts import Quote, attempt_of, begun, ended, published, recall, states, webhooks
from tests.checkouts.conftest import Perform
from tests.fakes.stripe import StripeApi
from tests.support.handling import accepted, pump, run_handler
from workers import WORKERS, checkouts
from workers.checkout_progress import SAID

ALL = list(WORKERS.values())
SOME = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

COMPLETED, PAID, FAILED, EXPIRED = (
    f"checkout.session.{name}" for name in ("completed", "async_payment_succeeded", "async_payment_failed", "expired")
)
# What Stripe says of a session, whatever becomes of it; and what that is.
FATES: dict[str, tuple[tuple[str, ...], str | None]] = {
    "nothing yet": ((), None),
    "paid": ((COMPLETED,), "complete"),
    "debit paid": ((COMPLETED, PAID), "complete"),
    "debit under way": ((COMPLETED,), "complete"),
    "debit failed": ((COMPLETED, FAILED), "closed"),
    "expired": ((EXPIRED,), "closed"),
}

INSERT = """
INSERT INTO checkout_sessions (account, livemode, quote_id, revision, attempt, state, idempotency_key, session_id, url)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
_numbers = count(1)


def session_event(quote: Quote, session_id: str, event_type: str, **fields: Any) -> Event:
    """What Stripe says of a session that carries what ours carry, unless `fields` say otherwise."""
    number = next(_numbers)
    return accepted(
        {
            "id": f"evt_{number}",
            "type": event_type,
            "created": 1_790_000_000 + number,
            "livemode": quote.livemode,
            **({} if quote.account == "self" else {"account": quote.account}),
            "data": {
                "object": {
                    "id": session_id,
                    "object": "checkout.session",
                    "client_reference_id": quote.quote_id,
                    "metadata": quote.metadata(),
                    **fields,
                }
            },
        }
    )


async def noted(database: Pool, quote: Quote, session_id: str, *, told: bool = True, attempt: int = 1) -> None:
    """An attempt in the book; web was `told` its session, or not yet."""
    url = f"https://checkout.stripe.com/{session_id}" if told else None
    state, key = "open" if told else "creating", f"{quote.account}-{session_id}-{attempt}"
    await database.execute(INSERT, *quote[:4], attempt, state, key, session_id if told else None, url)


class Life(NamedTuple):
    """A quote's only attempt, and what becomes of it."""

    fate: str
    told: bool
    recalled: bool


LIVES = st.lists(st.builds(Life, st.sampled_from(sorted(FATES)), st.booleans(), st.booleans()), min_size=1, max_size=4)


@given(LIVES, st.data())
@SOME
async def test_r28_any_order_of_events_leaves_the_same_rows(
    database: Pool, lives: list[Life], data: st.DataObject
) -> None:
    """INVARIANT: shuffled, doubled, in batches of any size, beside strangers' sessions: each attempt ends as its life says,
    and knows its session as soon as anything was said of it.
    """
    account = f"acct_{next(_numbers)}"
    events: list[Event] = []
    expected: dict[str, tuple[str, str | None]] = {}
    for number, life in enumerate(lives):
        quote = await published(database, f"Q-{number}", account=account)
        await noted(database, quote, f"cs_{number}", told=life.told)
        types, end = FATES[life.fate]
        events += [session_event(quote, f"cs_{number}", each) for each in types]
        events += [session_event(quote, f"cs_strange_{number}", COMPLETED, metadata={"quote_id": quote.quote_id})]
        events += [ended(quote)] if life.recalled else []
        state = end or ("closing" if life.recalled else "open" if life.told else "creating")
        expected[quote.quote_id] = (state, f"cs_{number}" if life.told or types else None)
    order = data.draw(st.permutations(events + events))
    seen: set[str] = set()
    while order:
        size = data.draw(st.integers(1, len(order)))
        batch, order = {event.id: event for event in order[:size]}, order[size:]
        again = [replace(event, replay_id="again") if event.id in seen else event for event in batch.values()]
        await run_handler(checkouts, again, database)
        seen |= set(batch)
    rows = await database.fetch("SELECT quote_id, state, session_id FROM checkout_sessions WHERE account = $1", account)
    assert {row["quote_id"]: (row["state"], row["session_id"]) for row in rows} == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {}},
        {"metadata": None},
        {"metadata": {"quote_id": "Q-1", "quote_revision": "1", "quote_attempt": "1"}},
        {"metadata": {"quote_id": "Q-1", "quote_revision": "1", "quote_attempt": "1", "quote_checkout_key": "guessed"}},
        {"metadata": {"quote_attempt": "1"}, "payment_link": "plink_1"},
    ],
    ids=["nothing written on it", "null", "no key", "another key", "a payment link"],
)
async def test_r3_a_strangers_session_is_passed_over(database: Pool, fields: dict[str, Any]) -> None:
    """INVARIANT: only what carries the key that we gave out, or is known by its id, moves an attempt."""
    quote = await published(database)
    await noted(database, quote, "cs_1", told=False)
    before = await attempt_of(database)
    for event_type in SAID:
        await run_handler(checkouts, [session_event(quote, "cs_strange", event_type, **fields)], database)
    assert await attempt_of(database) == before


@pytest.mark.parametrize("number", ["2", "0", "-1", "1.0", "x", "9" * 40, 1, None, "\u0661"])
async def test_r3_the_attempt_must_be_named_as_we_name_it(database: Pool, number: object) -> None:
    """INVARIANT: another attempt, or nonsense where its number should stand, moves none, and is no error."""
    quote = await published(database)
    await noted(database, quote, "cs_1", told=False)
    metadata = {**quote.metadata(), "quote_attempt": number}
    await run_handler(checkouts, [session_event(quote, "cs_2", EXPIRED, metadata=metadata)], database)
    assert (await attempt_of(database))["state"] == "creating"


@pytest.mark.parametrize(
    "place",
    [{"account": "acct_2"}, {"livemode": True}, {"quote_id": "Q-2"}, {"revision": 2}],
    ids=lambda p: next(iter(p)),
)
async def test_r3_neither_accounts_nor_modes_nor_quotes_meet(database: Pool, place: dict[str, Any]) -> None:
    """INVARIANT: the same metadata elsewhere is another's."""
    quote = await published(database)
    await noted(database, quote, "cs_1", told=False)
    await run_handler(checkouts, [session_event(quote._replace(**place), "cs_1", EXPIRED)], database)
    assert (await attempt_of(database))["state"] == "creating"


async def test_a_stranger_in_the_same_batch_does_not_lend_its_id(database: Pool) -> None:
    """INVARIANT: of two sessions that name the same attempt, the one with its key is its session."""
    quote = await published(database)
    await noted(database, quote, "cs_ours", told=False)
    forged = {**quote.metadata(), "quote_checkout_key": "guessed"}
    batch = [
        session_event(quote, "cs_ours", EXPIRED),
        session_event(quote, "cs_a_forged", COMPLETED, metadata=forged),
        session_event(quote, "cs_z_forged", COMPLETED, metadata=forged),
    ]
    await run_handler(checkouts, batch, database)
    row = await attempt_of(database)
    assert (row["state"], row["session_id"]) == ("closed", "cs_ours")


async def test_two_workers_at_once_lose_nothing(database: Pool) -> None:
    """INVARIANT: each state is raised under its row's lock; batches that cross do not wait in a ring."""
    made = [await published(database, f"Q-{number}") for number in range(30)]
    for number, quote in enumerate(made):
        await noted(database, quote, f"cs_{number}", told=number % 2 == 0)
    failed = [session_event(quote, f"cs_{number}", FAILED) for number, quote in enumerate(made)]
    completed = [session_event(quote, f"cs_{number}", COMPLETED) for number, quote in enumerate(made)]
    takes = [run_handler(checkouts, batch, database) for batch in (failed, completed[::-1], [*map(ended, made)])]
    await asyncio.gather(*takes)
    assert set((await states(database)).values()) == {"closed"}


async def test_r28_a_debit_that_fails_ends_the_attempt_and_what_follows_is_another(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: while the bank decides, the attempt is complete, and a recall leaves it alone; then it is over."""
    quote = await published(database)
    session = await begun(database, quote)
    await stripe_api.pay(session, "debit")
    await pump(ALL, webhooks(stripe_api), database)
    assert await states(database) == {("Q-1", 1, 1): "complete"}
    await recall(database, quote)
    await pump(ALL, [], database)
    assert await perform() == 0
    await stripe_api.settle(session, paid=False)
    await pump(ALL, webhooks(stripe_api), database)
    assert await states(database) == {("Q-1", 1, 1): "closed"}


async def test_a_webhook_that_overtakes_stripes_answer_names_the_session(
    database: Pool, stripe_api: StripeApi, perform: Perform
) -> None:
    """INVARIANT: paid before web has heard of the session: the attempt is complete, and its session known."""
    quote = await published(database)
    session = await begun(database, quote, told=False)
    await stripe_api.pay(session)
    await pump(ALL, webhooks(stripe_api), database)
    row = await attempt_of(database)
    assert (row["state"], row["session_id"]) == ("complete", session)
    assert await database.fetchval("SELECT status FROM quotes") == "paid"
    assert await database.fetchval("SELECT anomalies FROM quotes") == []
