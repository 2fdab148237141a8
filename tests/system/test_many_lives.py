"""Hundreds of lives at once, shuffled and doubled, through two real processes of every worker and two relays."""

import random

import pytest
from asyncpg.pool import Pool

from quittance import outbox
from quittance.event import Event, data_of
from tests.support.crm_side import assert_told_in_order, assert_valid, everything_told
from tests.support.many_lives import VARIANTS, Story, made_up_lives, told_lives
from tests.support.polling import eventually
from tests.support.stripe_side import Stripe
from tests.support.system import ALL, System, settled, system
from tests.system.ends import everything_as_it_must_be
from workers.checkout_progress import RISING, SAID

SEED = 20230120
MADE_UP = 100
LEAST = 300

# A quote for each: of one quote, only one attempt may be open.
ATTEMPT = """
INSERT INTO checkout_sessions (account, livemode, quote_id, revision, attempt, state, idempotency_key, session_id, url)
VALUES ($1, false, 'of ' || $2, 1, 1, 'open', $1 || $2, $2, 'https://checkout.stripe.com/c/pay/' || $2)
"""

TWO_OF_EACH = [f"{name}-{number}" for name in ALL if name != "ingest" for number in (1, 2)]


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_every_life_ends_as_the_pure_fold_of_its_causal_order(
    database: Pool, database_url: str, amqp_url: str
) -> None:
    """INVARIANT: shuffled, doubled, and shared out among processes, every quote ends as in causal order, the CRM is told
    every change once and in order, and there is one mail `paid`.
    """
    stories = told_lives("L", VARIANTS) + made_up_lives(MADE_UP, SEED)
    assert len({story.key for story in stories}) == len(stories) >= LEAST
    async with system(database_url, amqp_url) as running:
        await running.start("ingest", *TWO_OF_EACH)
        attempts = await as_if_we_had_made_them(database, stories)
        await deliver(running, database, stories)
        await running.stop_all()
        followed = await database.fetch("SELECT account, session_id, state FROM checkout_sessions")
        assert {(row["account"], row["session_id"]): row["state"] for row in followed} == attempts
        assert await database.fetch("SELECT * FROM failed_deliveries") == []
        rows = await everything_as_it_must_be(database, stories, running.mails)
        guests_have_one_customer_each(stories, running)
    told = await everything_told(amqp_url)
    assert assert_told_in_order(told, rows) == 0
    assert_valid(told)


async def as_if_we_had_made_them(database: Pool, stories: list[Story]) -> dict[tuple[str, str], str]:
    """Note each session as an attempt of ours; gives what its own events must bring it to, in whatever order."""
    ends: dict[tuple[str, str], str] = {}
    for event in (event for story in stories for event in story.from_stripe):
        if event.type in SAID and not event.livemode:
            key = (event.account, data_of(event)[0]["id"])
            ends[key] = max(SAID[event.type], ends.get(key, "open"), key=RISING.index)
    await database.executemany(ATTEMPT, sorted(ends))
    return ends


async def deliver(running: System, database: Pool, stories: list[Story]) -> None:
    """Stripe's events by the front door, what is published inside by the outbox, all twice and in any order."""
    shuffle = random.Random(SEED).shuffle
    events = 2 * [event for story in stories for event in story.from_stripe]
    own = 2 * [event for story in stories for event in story.our_own]
    shuffle(events)
    shuffle(own)
    stripe = Stripe(running.url)
    publishing = publish(own, database, stripe, len(events))
    await stripe.send(events, beside=publishing)
    assert set(stripe.accepted.values()) == {2}
    assert stripe.troubles == {}
    await settled(running, stripe.events)


async def publish(own: list[Event], database: Pool, stripe: Stripe, total: int) -> None:
    """What issue 3 will publish, spread over the time that Stripe's events take."""
    for position, event in enumerate(own):
        due = position * total // len(own)
        await eventually(lambda due=due: stripe.taken >= due, timeout=60)  # type: ignore[misc]
        async with database.acquire() as db, db.transaction():
            await outbox.write(db, [event])


def guests_have_one_customer_each(stories: list[Story], running: System) -> None:
    """Who paid without a Stripe customer got one, of the account, in the key's mode alone; never two of one address."""
    made = [
        (account, livemode, str(customer["email"]))
        for (account, livemode), customers in running.stripe.customers.items()
        for customer in customers.values()
    ]
    assert len(set(made)) == len(made)
    assert {livemode for _, livemode, _ in made} == {False}
    guests = {
        (story.key[0], False, story.email)
        for story in stories
        if story.expected is not None and not story.key[1] and _paid_as_guest(story)
    }
    assert guests <= set(made)


def _paid_as_guest(story: Story) -> bool:
    return any(
        b'"customer": null' in event.body and b'"payment_status": "paid"' in event.body
        for event in story.from_stripe
        if event.type == "checkout.session.completed"
    )
