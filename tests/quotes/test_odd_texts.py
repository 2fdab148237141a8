"""Texts that JSON allows and Postgres does not."""

import pytest
from asyncpg import Pool

from dev.lives import life
from dev.stripe_events import body
from tests.support.handling import accepted, pump
from workers import WORKERS


@pytest.mark.parametrize("odd", ["\\u0000", "\\ud83d", "\\udc00\\ud83d"])
async def test_a_text_that_postgres_refuses_does_not_cost_the_payment(database: Pool, odd: str) -> None:
    """Half of an emoji in a description is the buyer's business, and no reason to lose a payment."""
    sent = [body(event).replace(b'"description":null', b'"description":"%b"' % odd.encode(), 1) for event in events()]
    sent = [one.replace(b'"description": null', b'"description": "%b"' % odd.encode(), 1) for one in sent]
    assert any(odd.encode() in one for one in sent)
    await pump(list(WORKERS.values()), [accepted(one) for one in sent], database)
    assert await database.fetchval("SELECT status FROM quotes") == "paid"
    assert await database.fetchval("SELECT count(*) FROM events") == len(sent)


def events() -> list[dict[str, object]]:
    return life("card", "odd").events
