"""What waits for a quote: found again when the quote begins, whatever its objects are called."""

from asyncpg import Pool

from dev.story_after import FullStory
from dev.stripe_objects import purchase
from tests.support.handling import run_handler
from tests.support.random_lives import as_event, own
from workers import quotes

STATE = "SELECT status, anomalies FROM quotes"


async def test_an_object_that_is_called_as_our_own_events_are_does_no_harm(database: Pool) -> None:
    """INVARIANT: a coupon's id is the merchant's choice, and none may make every later event of a quote fail."""
    story = FullStory(purchase("names", quote_id="Q-names"))
    story.emit("coupon.updated", {"id": "own:x", "object": "coupon", "metadata": {"quote_id": "Q-names"}})
    story.emit("coupon.updated", {"id": "quote:Q-names", "object": "coupon", "metadata": {"quote_id": "Q-names"}})
    told = own(story, "quote.recalled", {"quote_id": "Q-names", "revision": 1})
    await run_handler(quotes, [*map(as_event, story.events), told], database)
    assert await database.fetch(STATE) == []
    story.expire(story.open_session())
    await run_handler(quotes, [as_event(story.events[-1])], database)
    assert [tuple(row) for row in await database.fetch(STATE)] == [("recalled", [])]
