"""RULES S2, R18: the address book is a function of the set of facts.

While facts come as they happened, the customer that stands for an address is stable besides.
"""

from collections.abc import Iterable
from itertools import count
from typing import Any

import pytest
from asyncpg.pool import Pool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quittance.domain.address_book import AddressBook, Checkouts, Id
from quittance.event import Event, data_of
from tests.customers.address_events import Book, book_of
from tests.customers.histories import History, deliveries, histories
from tests.support.handling import run_handler
from workers import customers
from workers.customer_changes import take_in

SUPPRESSED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
MANY = settings(max_examples=500, deadline=None, suppress_health_check=SUPPRESSED)
SOME = settings(max_examples=40, deadline=None, suppress_health_check=SUPPRESSED)

_accounts = count(1)


async def deliver(database: Pool, batches: Iterable[list[Event]], account: str) -> list[Event]:
    """Each batch in a transaction; an event that was handled before is handled again, as a replay is."""
    emitted: list[Event] = []
    seen: set[str] = set()
    for batch in batches:
        mine = [replace(one, account=account, replay_id="again" if one.id in seen else None) for one in batch]
        seen.update(one.id for one in batch)
        emitted += await run_handler(customers, mine, database)
    return emitted


def lower(known: tuple[str | None, str | None]) -> tuple[str | None, str | None]:
    """Without the spelling, which the history leaves to chance."""
    return (known[0].strip().lower() if known[0] is not None else None, known[1])


def is_what_happened(book: Book, history: History) -> None:
    """The tables say what the simulation says."""
    assert {address: canonical for address, (_, canonical) in book.customers.items()} == {
        address: history.canonical(address) for address in history.queues
    }
    living = {customer: (address, False) for customer, address in history.where.items() if customer not in history.gone}
    assert {one: state for one, state in book.aliases.items() if one in living} == {
        one: living[one] for one in living if one in book.aliases
    }
    assert {one for one, (address, _) in living.items() if address} <= set(book.aliases)
    assert {session: lower(known) for session, known in book.checkouts.items()} == {
        session: history.known(session) for session in history.checkouts
    }


def last_told(emitted: Iterable[Event]) -> dict[str, tuple[str | None, str | None]]:
    """What the quotes worker keeps of `customer.changed`: per session, that of the greatest version."""
    greatest: dict[str, dict[str, Any]] = {}
    for one in emitted:
        obj = data_of(one)[0]
        if obj["version"] >= greatest.get(obj["session_id"], obj)["version"]:
            greatest[obj["session_id"]] = obj
    return {session: (obj["email"], obj["stripe_customer_id"]) for session, obj in greatest.items()}


def fold(events: Iterable[Event]) -> Book:
    """What the worker concludes of events where everything is at hand: no rows, no locks."""
    book, checkouts = AddressBook({}, {}), Checkouts()
    addresses: set[Id] = set()
    aliases: set[Id] = set()
    for one in events:
        reading = customers._read(one)
        if reading is None:
            continue
        change = reading.change
        take_in([change], book, checkouts)
        aliases |= {change.scope.named(fact.customer_id) for fact in change.facts}
        addresses |= {change.scope.named(fact.address) for fact in change.facts if fact.address}
        if change.link is not None and change.link.address is not None:
            addresses.add(change.scope.named(change.link.address))
    return Book(
        {address.name: ("", book.canonical(address)) for address in addresses},
        {one.name: (book.alias(one).address, book.alias(one).deleted) for one in aliases},
        {session.name: (*checkouts.knows(session),) for session in checkouts.links},
    )


@MANY
@given(data=st.data())
def test_r18_the_address_book_is_a_function_of_the_set_of_facts(data: st.DataObject) -> None:
    """INVARIANT: customers, canonical customers and what quotes know do not depend on order and repetition.

    And in causal order it is the customer that came first and still lives there: stable, and the same in every order.
    """
    history = data.draw(histories("self"))
    causal = fold(history.events)
    is_what_happened(causal, history)
    assert fold(one for batch in data.draw(deliveries(history.events)) for one in batch) == causal


@pytest.mark.slow
@pytest.mark.timeout(400)
@SOME
@given(data=st.data())
async def test_r18_every_order_and_every_batch_ends_in_the_same_rows(database: Pool, data: st.DataObject) -> None:
    """INVARIANT: what is loaded and saved is all that decides: the rows are those of the causal order, one by one.

    And the greatest version told of each session is what its row says.
    """
    history = data.draw(histories("self"))
    causal, shuffled = f"acct_{next(_accounts)}", f"acct_{next(_accounts)}"
    emitted = await deliver(database, ([one] for one in history.events), causal)
    book = await book_of(database, causal)
    is_what_happened(book, history)
    assert book.checkouts.items() >= last_told(emitted).items()

    emitted = await deliver(database, data.draw(deliveries(history.events)), shuffled)
    assert await book_of(database, shuffled) == book
    assert book.checkouts.items() >= last_told(emitted).items()
