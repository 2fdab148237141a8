"""RULES S1: whose fact it is. Nothing touches another account's or mode's quote, nor does what is none of ours."""

from typing import Any

import pytest
from asyncpg import Pool

from dev.lives import life
from dev.story_after import FullStory
from dev.stripe_events import Shape
from dev.stripe_objects import purchase
from quittance.event import Event
from tests.support.handling import run_handler
from tests.support.random_lives import as_event, own, publication
from workers import quotes

QUOTE = "Q-ours"
STATES = "SELECT account, livemode, quote_id, status, amount_captured, anomalies FROM quotes ORDER BY 1, 2, 3"


async def states(database: Pool) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await database.fetch(STATES)]


async def everything(database: Pool) -> tuple[Any, ...]:
    """All that is stored and told of any quote."""
    tables = ("quotes", "quote_status_changes", "stripe_objects", "outbox")
    rows = [await database.fetch(f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in tables]
    return tuple(tuple(map(tuple, found)) for found in rows)


def card_life(**given: Any) -> list[Event]:
    return [as_event(sent) for sent in life("card", "whose", **given).events]


@pytest.mark.parametrize("stranger", [{"account": "acct_2"}, {"livemode": True}])
async def test_another_account_or_mode_never_touches_our_quote(database: Pool, stranger: dict[str, Any]) -> None:
    await run_handler(quotes, card_life(quote_id=QUOTE), database)
    ours = (await states(database))[0]
    await run_handler(quotes, card_life(quote_id=QUOTE, **stranger), database)
    assert ours in await states(database)
    assert len(await states(database)) == 2, "the stranger's quote of that name is one of its own"


async def test_the_same_object_id_in_two_modes_is_two_objects(database: Pool) -> None:
    test = card_life(quote_id=QUOTE)
    for event in test:
        live = as_event_like(event, livemode=True)
        await run_handler(quotes, [live], database)
    await run_handler(quotes, test[:1], database)
    assert [row[1:4] for row in await states(database)] == [(False, QUOTE, "pending"), (True, QUOTE, "paid")]


def as_event_like(event: Event, **values: Any) -> Event:
    import msgspec

    return msgspec.structs.replace(event, **values)


@pytest.mark.parametrize("is_published", [False, True])
async def test_a_payment_link_naming_a_quote_changes_nothing_of_it(database: Pool, is_published: bool) -> None:
    story = FullStory(purchase("link", quote_id=QUOTE))
    first = [own(story, "quote.published", publication(story, 1))] if is_published else card_life(quote_id=QUOTE)
    await run_handler(quotes, first, database)
    before = await everything(database)
    session = story.open_session()
    session.update(payment_link="plink_1", client_reference_id=QUOTE, metadata={})
    intent = story.start_payment(session)
    intent["metadata"] = {}
    story.charge_succeeds(intent)
    story.complete(session, intent)
    for sent in story.events:
        if sent["data"]["object"]["object"] != "checkout.session":
            sent["data"]["object"]["metadata"] = {}
    await run_handler(quotes, [as_event(sent) for sent in story.events], database)
    assert await everything(database) == before


@pytest.mark.parametrize(
    ("reference", "adopted"), [("Q-1", True), ("order-1", False)], ids=["our pattern", "another pattern"]
)
async def test_a_client_reference_adopts_only_what_looks_like_a_quote_id(
    database: Pool, reference: str, adopted: bool
) -> None:
    await run_handler(quotes, card_life(quote_id=reference, carriers=frozenset({"reference"})), database)
    assert [row[2] for row in await states(database)] == ([reference] if adopted else [])


async def test_what_named_a_quote_before_it_was_published_is_its_own_afterwards(database: Pool) -> None:
    story = FullStory(purchase("early", quote_id="order-7"))
    early = card_life(quote_id="order-7", carriers=frozenset({"reference"}))
    await run_handler(quotes, early, database)
    assert await states(database) == []
    await run_handler(quotes, [own(story, "quote.published", publication(story, 1))], database)
    assert [row[2] for row in await states(database)] == ["order-7"]
    assert (await states(database))[0][4] > 0


async def test_what_is_none_of_our_business_leaves_no_trace_but_waits(database: Pool) -> None:
    unrelated = [
        as_event(sent)
        for seed, name in enumerate(["card", "subscription_renewed", "refunded", "dispute_lost", "debit_settles"])
        for sent in life(name, seed, carriers=frozenset()).events
    ]
    await run_handler(quotes, unrelated, database)
    assert await everything(database) == ((), (), (), ())
    assert await database.fetchval("SELECT count(*) FROM waiting_facts") > 0


@pytest.mark.parametrize("shape", ["endive", "acacia"])
@pytest.mark.parametrize("name", ["refunded", "dispute_lost", "subscription_renewed"])
async def test_facts_wait_for_the_tie_that_makes_them_ours(database: Pool, name: str, shape: Shape) -> None:
    """Only the session names the quote, and it comes last, in a batch of its own."""
    told = life(name, "waits", shape=shape, carriers=frozenset({"metadata"}))
    events = [as_event(sent) for sent in told.events]
    sessions = [event for event in events if event.type.startswith("checkout.session")]
    for event in events:
        if event not in sessions:
            await run_handler(quotes, [event], database)
    assert await states(database) == []
    await run_handler(quotes, sessions, database)
    assert (await states(database))[0][3:5] == (told.expected.status, told.expected.captured)


async def test_a_tie_finds_a_fact_in_the_archive_that_waited_too_long(database: Pool) -> None:
    """After 40 days the waiting table has let go of the fact."""
    events = card_life(quote_id=QUOTE, carriers=frozenset({"metadata"}), begins=1_600_000_000)
    for event in events:
        await database.execute(
            "INSERT INTO events (created, account, livemode, event_id, type, ids, body, received_at) "
            "VALUES (to_timestamp($1), $2, $3, $4, $5, $6, $7, now())",
            event.created, event.account, event.livemode, event.id, event.type, ids_of(event), event.body,
        )  # fmt: skip
    sessions = [event for event in events if event.type.startswith("checkout.session")]
    await run_handler(quotes, sessions, database)
    names = await database.fetchval("SELECT document_names FROM quotes")
    assert '"receipt"' in names, "the charge was found"


def ids_of(event: Event) -> list[str]:
    import re

    return sorted(set(re.findall(r'"((?:cs|pi|ch)_[A-Za-z0-9_]+)"', event.body.decode())))
