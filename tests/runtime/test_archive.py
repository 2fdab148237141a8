"""The archive: any shape, once, whole."""

from asyncpg.pool import Pool

from tests.support.handling import accepted, run_handler
from workers import archive


async def test_an_event_is_archived_with_its_bytes(database: Pool) -> None:
    body = b'{ "id":"evt_1A", "type":"charge.refunded", "created": 1790000000, "data":{"object":{"id":"ch_1B"}}}'
    await run_handler(archive, [accepted(body)], database)
    rows = await database.fetch("SELECT event_id, type, body, ids FROM events")
    assert [tuple(row) for row in rows] == [("evt_1A", "charge.refunded", body, ["evt_1A", "ch_1B"])]
