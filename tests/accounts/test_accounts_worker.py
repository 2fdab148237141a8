"""What is known of an account (R4, R6): whatever order its webhooks come in, and however often."""

import random
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from asyncpg.pool import Pool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quittance.accounts import learn
from quittance.domain.accounts import Account, connected, described
from quittance.event import Event
from tests.accounts.account_events import EPOCH, authorised, deauthorised, updated, webhook
from tests.support.handling import accepted, run_handler
from workers import accounts

COLUMNS = """
SELECT account, livemode, charges_enabled, name, country, extract(epoch FROM connected_at)::int - 1790000000 AS connected_at,
       extract(epoch FROM deauthorised_at)::int - 1790000000 AS deauthorised_at
FROM accounts ORDER BY account, livemode
"""


async def known(database: Pool, account: str = "acct_1", live: bool = False) -> dict[str, Any]:
    """The row of an account; {} where there is none."""
    rows = [dict(row) for row in await database.fetch(COLUMNS)]
    return next((row for row in rows if (row["account"], row["livemode"]) == (account, live)), {})


async def test_r4_an_accounts_own_word_decides_whether_it_takes_payments(database: Pool) -> None:
    await run_handler(accounts, [updated(False, at=100, name="Åkes Bygg", country="SE")], database)
    assert await known(database) == {
        "account": "acct_1",
        "livemode": False,
        "charges_enabled": False,
        "name": "Åkes Bygg",
        "country": "SE",
        "connected_at": None,
        "deauthorised_at": None,
    }
    await run_handler(accounts, [updated(True, at=200)], database)
    row = await known(database)
    assert (row["charges_enabled"], row["name"], row["country"]) == (True, "Åkes Bygg", "SE")


@pytest.mark.parametrize("newer", [True, False])
async def test_r4_an_older_word_does_not_undo_a_newer_one(database: Pool, newer: bool) -> None:
    for account, times in (("acct_1", (200, 100)), ("acct_2", (100, 200))):
        for at in times:
            await run_handler(accounts, [updated(newer is (at == 200), at=at, account=account)], database)
        assert (await known(database, account))["charges_enabled"] is newer


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
async def test_r4_of_several_words_in_one_second_the_one_that_names_the_others_as_former_is_the_last(
    database: Pool, order: Sequence[int]
) -> None:
    """Stripe tells of an activation several times within a second, and an id says nothing of the order."""
    told = [
        updated(False, at=100, event_id="evt_c"),
        updated(True, at=100, previous={"charges_enabled": False}, event_id="evt_b"),
        updated(True, at=100, previous={"details_submitted": False}, event_id="evt_a"),
    ]
    for index in order:
        await run_handler(accounts, [told[index]], database)
    assert (await known(database))["charges_enabled"] is True


async def test_r4_a_second_in_which_payments_were_switched_off(database: Pool) -> None:
    on = updated(True, at=100, event_id="evt_z")
    off = updated(False, at=100, previous={"charges_enabled": True}, event_id="evt_a")
    await run_handler(accounts, [off, on], database)
    assert (await known(database))["charges_enabled"] is False


async def test_r6_the_user_takes_the_connection_back(database: Pool) -> None:
    await run_handler(accounts, [authorised(at=100), updated(True, at=101)], database)
    row = await known(database)
    assert (row["connected_at"], row["deauthorised_at"]) == (100, None)
    await run_handler(accounts, [deauthorised(at=200)], database)
    row = await known(database)
    assert (row["connected_at"], row["deauthorised_at"], row["charges_enabled"]) == (100, 200, True)


async def test_r6_a_deauthorisation_older_than_a_later_connection_does_not_undo_it(database: Pool) -> None:
    await run_handler(accounts, [authorised(at=300)], database)
    await run_handler(accounts, [deauthorised(at=200)], database)
    await run_handler(accounts, [authorised(at=100)], database)
    row = await known(database)
    assert (row["connected_at"], row["deauthorised_at"]) == (300, None)


async def test_r6_in_doubt_it_is_not_connected(database: Pool) -> None:
    await run_handler(accounts, [deauthorised(at=200), authorised(at=200)], database)
    assert (await known(database))["deauthorised_at"] == 200


async def test_s1_accounts_and_modes_never_meet(database: Pool) -> None:
    told = [
        updated(True, at=100, account="acct_1"),
        updated(False, at=100, account="acct_2"),
        updated(False, at=100, account="acct_1", live=True),
        updated(True, at=100, account=None),
        deauthorised(at=150, account="acct_2"),
        deauthorised(at=150, account="acct_1", live=True),
    ]
    await run_handler(accounts, told, database)
    rows = {(row["account"], row["livemode"]): row for row in await database.fetch(COLUMNS)}
    assert {key: (row["charges_enabled"], row["deauthorised_at"]) for key, row in rows.items()} == {
        ("acct_1", False): (True, None),
        ("acct_1", True): (False, 150),
        ("acct_2", False): (False, 150),
        ("self", False): (True, None),
    }


async def test_s1_an_event_of_the_platforms_endpoint_disconnects_nobody(database: Pool) -> None:
    """Without `account` it is about the key's own account, which needs nobody's leave."""
    await run_handler(accounts, [authorised(at=100), updated(True, at=100, account=None)], database)
    await run_handler(accounts, [deauthorised(at=200, account=None), authorised(at=210, account=None)], database)
    assert (await known(database))["deauthorised_at"] is None
    own = await known(database, "self")
    assert (own["connected_at"], own["deauthorised_at"], own["charges_enabled"]) == (None, None, True)


async def test_s1_an_event_sent_for_one_account_says_nothing_of_another(database: Pool) -> None:
    claims = webhook("account.updated", {"id": "acct_2", "charges_enabled": True}, at=100, account="acct_1")
    await run_handler(accounts, [claims], database)
    assert await database.fetch(COLUMNS) == []


@pytest.mark.parametrize(
    "odd",
    [
        {"id": "acct_1"},
        {"id": "acct_1", "charges_enabled": "true", "country": 7, "business_profile": [], "settings": "x"},
        {"id": "acct_1", "charges_enabled": None, "country": "", "business_profile": {"name": None}},
        {"id": "acct_1", "country": "S\x00E", "business_profile": {"name": "\x00"}},
        {"id": ["acct_1"], "charges_enabled": True},
    ],
)
async def test_what_an_object_does_not_say_is_left_as_it_was(database: Pool, odd: dict[str, Any]) -> None:
    await run_handler(accounts, [updated(True, at=100, name="Åke", country="SE")], database)
    before = await known(database)
    await run_handler(accounts, [webhook("account.updated", odd, at=200)], database)
    assert await known(database) == before


async def test_a_display_name_stands_in_for_a_business_name(database: Pool) -> None:
    obj = {"id": "acct_1", "business_profile": {"name": None}, "settings": {"dashboard": {"display_name": "Åke"}}}
    await run_handler(accounts, [webhook("account.updated", obj, at=100)], database)
    assert (await known(database))["name"] == "Åke"


async def test_what_we_were_answered_and_what_webhooks_say_are_one_book(database: Pool) -> None:
    key = ("acct_1", False)

    async def answered(facts: Account) -> None:
        async with database.acquire() as db, db.transaction():
            await learn(db, {key: facts})

    await run_handler(accounts, [deauthorised(at=90), updated(True, at=150)], database)
    await answered(
        described({"id": "acct_1", "charges_enabled": False, "country": "SE"}, EPOCH + 100) | connected(EPOCH + 101)
    )
    row = await known(database)
    assert (row["charges_enabled"], row["country"], row["connected_at"], row["deauthorised_at"]) == (
        True,
        "SE",
        101,
        None,
    )
    await answered(described({"id": "acct_1", "charges_enabled": False}, EPOCH + 150))
    assert (await known(database))["charges_enabled"] is True, "an event of that second is no older than the answer"
    await answered(described({"id": "acct_1", "charges_enabled": False}, EPOCH + 151))
    assert (await known(database))["charges_enabled"] is False
    await run_handler(accounts, [updated(False, at=160)], database)
    await answered(described({"id": "acct_1", "charges_enabled": True}, EPOCH + 160))
    assert (await known(database))["charges_enabled"] is False


async def test_a_replay_changes_nothing(database: Pool) -> None:
    told = [authorised(at=100), updated(False, at=120), deauthorised(at=130), authorised(at=140), updated(True, at=150)]
    await run_handler(accounts, told, database)
    before = await database.fetch("SELECT account, facts, changed_at FROM accounts")
    for number in range(3):
        await run_handler(accounts, [replace(one, replay_id=f"again-{number}") for one in told], database)
    assert await database.fetch("SELECT account, facts, changed_at FROM accounts") == before


SECONDS = st.integers(100, 104)
_accounts = count(1)


@st.composite
def stories(draw: st.DrawFn) -> list[Event]:
    """Events of one account, a few in each of a few seconds."""
    told: list[Event] = []
    for number in range(draw(st.integers(1, 8))):
        at, event_id = draw(SECONDS), f"evt_{draw(st.integers(0, 99)):02d}_{number}"
        kind = draw(st.sampled_from(("updated", "updated", "authorised", "deauthorised")))
        if kind == "updated":
            previous = draw(st.sampled_from((None, {}, {"charges_enabled": True}, {"charges_enabled": False})))
            name = draw(st.sampled_from(("A", "B", None)))
            enabled = draw(st.sampled_from((True, False, None)))
            told.append(updated(enabled, at=at, name=name, previous=previous, event_id=event_id))
        else:
            make = authorised if kind == "authorised" else deauthorised
            told.append(make(at=at, event_id=event_id))
    return told


@given(told=stories(), seed=st.integers())
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_in_any_order_batched_anyhow_and_twice_the_same_is_known(
    database: Pool, told: list[Event], seed: int
) -> None:
    chance = random.Random(seed)
    straight, shuffled = f"acct_{next(_accounts)}", f"acct_{next(_accounts)}"
    await run_handler(accounts, [moved(one, straight) for one in told], database)
    again = [replace(moved(one, shuffled), replay_id=f"r{number}") for number, one in enumerate(told)]
    deliveries = [moved(one, shuffled) for one in told]
    chance.shuffle(deliveries)
    for one in (*deliveries, *chance.sample(again, len(again))):
        await run_handler(accounts, [one], database)
    first, second = await known(database, straight), await known(database, shuffled)
    assert {**first, "account": ""} == {**second, "account": ""}


def moved(event: Event, account: str) -> Event:
    """The same event of another account."""
    return replace(event, account=account, body=event.body.replace(b'"acct_1"', f'"{account}"'.encode()))


async def test_recorded_payloads_are_taken(database: Pool, payloads: Path) -> None:
    names = ("account.updated", "account.application.deauthorized")
    found = sorted(path for name in names for path in payloads.glob(f"*__{name}__*.json"))
    assert len(found) > 2
    told = [replace(accepted(path.read_bytes()), id=f"evt_{number}") for number, path in enumerate(found)]
    await run_handler(accounts, told, database)
    row = await known(database, "acct_1Fg9jUA3kq9o1aTc")
    assert row["charges_enabled"] is False
    assert (row["country"], row["deauthorised_at"]) == ("US", 1621742759 - EPOCH)
