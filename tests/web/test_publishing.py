"""Publish, recall, read, list: what they answer, what they store, what they tell the quotes worker."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from asyncpg.pool import Pool

from quittance import publishing
from quittance.domain.publishing.content import read_content
from quittance.domain.publishing.faults import Faults
from quittance.domain.publishing.policies import HUBSPOT_2023
from quittance.domain.publishing.record import content_hash, content_json
from quittance.publishing import Conflict, Published, Unchanged
from tests.support.handling import pump
from tests.support.polling import eventually
from tests.web.conftest import PUBLIC_URL, Api, Caller, line, quote
from workers import WORKERS

OUTBOX = "SELECT event_id FROM outbox ORDER BY id"


async def told(database: Pool) -> list[str]:
    """Ids of what waits in the outbox, in order."""
    return [row["event_id"] for row in await database.fetch(OUTBOX)]


async def test_a_quote_is_published_with_totals_an_address_and_an_event(api: Api, database: Pool) -> None:
    body = quote(line(quantity=3, unit_amount=1_000), discounts=[{"percent": "10"}], taxes=[{"percent": "25"}])
    answer = await api.publish("Q-1", body)
    assert answer.status == 201
    assert answer.headers["Location"] == "/v1/quotes/Q-1"
    published = answer.json
    assert (published["quote_id"], published["revision"], published["state"]) == ("Q-1", 1, "published")
    assert (published["account"], published["livemode"], published["payment"]) == ("acct_1", False, None)
    assert published["totals"] == {
        "currency": "usd",
        "exponent": 2,
        "lines": [3_000],
        "subtotal": 3_000,
        "discount": 300,
        "fees": [],
        "taxes": [675],
        "due": 3_375,
        "recurring": 0,
        "recurring_discount": 0,
        "billing_frequency": None,
    }
    row = await database.fetchrow("SELECT page_token, checkout_key FROM published_quotes")
    assert row is not None
    assert published["url"] == f"{PUBLIC_URL}/q/{row['page_token']}"
    assert len(row["page_token"]) == 32  # 192 bits
    assert row["checkout_key"] not in json.dumps(published)
    outbox = await database.fetchrow("SELECT * FROM outbox")
    assert outbox is not None
    event = json.loads(outbox["body"])
    assert (outbox["exchange"], outbox["routing_key"], outbox["stream"]) == (
        "quittance.events",
        "quote.published",
        "Q-1",
    )
    assert event["id"] == "quote.published:Q-1:1"
    assert event["cause"] == {"id": "quote.published:Q-1:1", "type": "quote.published"}
    assert event["data"]["object"] == {
        "quote_id": "Q-1",
        "revision": 1,
        "number": "2026-17",
        "title": "A quote",
        "currency": "usd",
        "exponent": 2,
        "amount_due": 3_375,
        "payment_enabled": True,
        "locale": "en",
        "time_zone": "UTC",
        "expires_at": None,
        "deal_id": "deal-7",
        "owner": {"name": "Sal Seller", "email": "sal@example.com"},
        "checkout_key": row["checkout_key"],
    }


async def test_the_same_content_again_is_the_same_revision(api: Api, database: Pool) -> None:
    first = await api.publish("Q-1", quote(discounts=[{"percent": "10"}]))
    said_otherwise = {
        "line_items": [{"unit_amount": 10_000, "name": " Consulting ", "description": None}],
        "discounts": [{"percent": "10.0", "duration": "once"}],
        "locale": "en",
        "payment_enabled": True,
        "fees": [],
        **{name: value for name, value in quote().items() if name != "line_items"},
        "currency": "usd",
    }
    again = await api.publish("Q-1", said_otherwise)
    assert (first.status, again.status) == (201, 200)
    assert again.json == first.json
    assert await told(database) == ["quote.published:Q-1:1"]


async def test_r17_other_content_is_refused_until_the_quote_is_recalled(api: Api, database: Pool) -> None:
    first = await api.publish("Q-1", quote(discounts=[{"percent": "10"}]))
    other = quote(discounts=[{"percent": "20"}])
    refused = await api.publish("Q-1", other)
    assert (refused.status, refused.faults) == (409, [("R17", "published_with_other_content", None)])
    recalled = await api.recall("Q-1")
    assert (recalled.status, recalled.json["state"], recalled.json["revision"]) == (200, "recalled", 1)
    second = await api.publish("Q-1", other)
    assert (second.status, second.json["revision"], second.json["state"]) == (201, 2, "published")
    assert second.json["url"] != first.json["url"]
    assert await told(database) == ["quote.published:Q-1:1", "quote.recalled:Q-1:1", "quote.published:Q-1:2"]
    third = await api.publish("Q-1", other)
    assert (third.status, third.json["revision"]) == (200, 2)


async def test_r17_the_same_content_after_a_recall_is_a_new_revision(api: Api) -> None:
    await api.publish("Q-1", quote())
    await api.recall("Q-1")
    again = await api.publish("Q-1", quote())
    assert (again.status, again.json["revision"]) == (201, 2)


async def test_a_recall_that_comes_twice_is_one(api: Api, database: Pool) -> None:
    await api.publish("Q-1", quote())
    first, second = await api.recall("Q-1"), await api.recall("Q-1")
    assert (first.status, second.status) == (200, 200)
    assert first.json == second.json
    assert await told(database) == ["quote.published:Q-1:1", "quote.recalled:Q-1:1"]


async def test_a_recall_that_comes_late_does_not_recall_what_was_published_since(api: Api) -> None:
    await api.publish("Q-1", quote())
    assert (await api.recall("Q-1", revision=1)).status == 200
    await api.publish("Q-1", quote(title="Better"))
    late = await api.recall("Q-1", revision=1)
    assert (late.status, late.faults) == (409, [("R17", "not_the_newest_revision", None)])
    assert (await api.read("Q-1")).json["state"] == "published"
    assert (await api.recall("Q-1", revision=2)).json["state"] == "recalled"


async def test_a_recall_takes_nothing_but_a_revision(api: Api) -> None:
    await api.publish("Q-1", quote())
    for body in ({"revision": "1"}, {"revision": True}, {"revision": 0}, {"force": True}, [1], "1"):
        refused = await api.ask("POST", "/v1/quotes/Q-1/recall", json=body)
        assert (refused.status, refused.rules) == (422, ["format"]), body
    assert (await api.recall("Q-2")).status == 404


async def test_what_is_published_is_not_refused_for_what_has_changed_since(api: Api, database: Pool) -> None:
    await api.publish("Q-1", quote())
    await database.execute("INSERT INTO accounts (account, livemode, charges_enabled) VALUES ('acct_1', false, false)")
    assert (await api.publish("Q-1", quote())).status == 200
    assert (await api.publish("Q-2", quote())).status == 422


async def test_two_who_publish_at_once(api: Api, database: Pool) -> None:
    answers = await asyncio.gather(*(api.publish("Q-1", quote()) for _ in range(6)))
    assert sorted(answer.status for answer in answers) == [200, 200, 200, 200, 200, 201]
    others = await asyncio.gather(*(api.publish("Q-2", quote(title=f"Quote {number}")) for number in range(6)))
    assert sorted(answer.status for answer in others) == [201, 409, 409, 409, 409, 409]
    assert await told(database) == ["quote.published:Q-1:1", "quote.published:Q-2:1"]


async def test_one_waits_for_the_other_who_is_not_done(database: Pool) -> None:
    """The first holds its transaction open; the second finds, once it may, what the first has made of it."""
    key = ("acct_1", False, "Q-1")
    async with database.acquire() as one:
        begun = one.transaction()
        await begun.start()
        first = await publishing.publish(one, *key, quote(), policy=HUBSPOT_2023)

        async def others(body: Any) -> Any:
            async with database.acquire() as db, db.transaction():
                return await publishing.publish(db, *key, body, policy=HUBSPOT_2023)

        same, other = asyncio.create_task(others(quote())), asyncio.create_task(others(quote(title="Other")))

        async def both_wait() -> bool:
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            return bool(await database.fetchval(waiting) == 2)

        await eventually(both_wait)
        await begun.commit()
    assert isinstance(first, Published)
    assert isinstance(await same, Unchanged)
    assert isinstance(await other, Conflict)


async def test_a_transaction_that_is_rolled_back_published_nothing(database: Pool) -> None:
    async with database.acquire() as db:
        begun = db.transaction()
        await begun.start()
        await publishing.publish(db, "acct_1", False, "Q-1", quote(), policy=HUBSPOT_2023)
        await begun.rollback()
    assert await database.fetchval("SELECT count(*) FROM published_quotes") == 0
    assert await told(database) == []


async def test_a_net_price_of_more_than_64_bits_is_no_fault_of_ours(api: Api) -> None:
    lines = [line(quantity=10**6, unit_amount=10**15), line()]
    body = quote(*lines, discounts=[{"percent": "100"}], fees=[{"amount": 100}])
    refused = await api.publish("Q-1", body)
    assert (refused.status, refused.faults) == (422, [("R10", "amount_too_large", 1)])


def test_what_is_stored_reads_as_what_was_sent() -> None:
    body = quote(
        line(description="Done", discount={"percent": "12.50"}, billing_frequency="monthly"),
        line(discount={"name": "Friends", "amount": 5}),
        discounts=[{"name": "June", "percent": "100", "duration": "forever"}],
        fees=[{"name": "Handling", "amount": 0}],
        taxes=[{"name": "VAT", "percent": "0.000001"}],
        contact={"first_name": "Bo", "last_name": "Buyer", "email": "bo@example.com", "country": "se"},
        company={"name": "Byggarna"},
        expires_on="2026-12-31",
        locale="sv-SE",
        time_zone="Europe/Stockholm",
    )
    faults = Faults()
    content = read_content(body, faults)
    assert content is not None
    again = read_content(json.loads(json.dumps(content_json(content))), faults)
    assert faults.found == []
    assert again == content
    assert content_hash(again) == content_hash(content)


async def test_reading_says_what_was_published_and_what_was_paid(api: Api, database: Pool) -> None:
    await api.publish("Q-1", quote())
    assert (await api.read("Q-1")).json["payment"] is None
    await pump([WORKERS["quotes"]], [], database)
    payment = (await api.read("Q-1")).json["payment"]
    assert (payment["status"], payment["label"], payment["amount_due"]) == ("pending", "Awaiting payment", 10_000)
    assert payment["cause"] == {"id": "quote.published:Q-1:1", "type": "quote.published"}
    assert (await api.publish("Q-1", quote())).json["payment"] == payment


async def test_the_list_is_paged_and_filtered_by_status(api: Api, database: Pool) -> None:
    for number in range(5):
        await api.publish(f"Q-{number}", quote(payment_enabled=number != 3))
    await pump([WORKERS["quotes"]], [], database)
    await api.publish("Q-9", quote())  # which the quotes worker has not come to
    seen, params = [], {"limit": 4}
    while True:
        page = (await api.list(**params)).json
        seen += [(each["quote_id"], each["status"], each["state"]) for each in page["quotes"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert [quote_id for quote_id, _, _ in seen] == ["Q-0", "Q-1", "Q-2", "Q-3", "Q-4", "Q-9"]
    assert seen[3:] == [
        ("Q-3", "not_enabled", "published"),
        ("Q-4", "pending", "published"),
        ("Q-9", None, "published"),
    ]
    found = (await api.list(status="not_enabled")).json
    assert [each["quote_id"] for each in found["quotes"]] == ["Q-3"]
    assert found["next_cursor"] is None
    two = (await api.list(status="pending", limit=2)).json
    rest = (await api.list(status="pending", limit=2, cursor=two["next_cursor"])).json
    assert [each["quote_id"] for each in (*two["quotes"], *rest["quotes"])] == ["Q-0", "Q-1", "Q-2", "Q-4"]


async def test_a_quote_that_stripe_alone_names_can_be_read_too(api: Api, database: Pool) -> None:
    from dev.lives import life
    from tests.support.random_lives import as_event

    events = [as_event(sent | {"account": "acct_1"}) for sent in life("card", "adopted").events]
    await pump(list(WORKERS.values()), events, database)
    (each,) = (await api.list()).json["quotes"]
    assert (each["state"], each["url"], each["status"]) == ("not_published", None, "paid")
    read = (await api.read(each["quote_id"])).json
    assert (read["state"], read["content"], read["payment"]["status"]) == ("not_published", None, "paid")


async def test_a_quote_of_another_account_or_mode_is_not_there(api: Api, caller: Caller) -> None:
    await api.publish("Q-1", quote())
    nothing = await api.read("Q-nowhere")
    for other in (await caller("acct_2"), await caller("acct_1", live=True)):
        for answer in (await other.read("Q-1"), await other.recall("Q-1")):
            assert answer.status == 404
            assert answer.json | {"request_id": ""} == nothing.json | {"request_id": ""}
        assert (await other.list()).json["quotes"] == []
        assert (await other.changes()).json["changes"] == []
        assert (await other.publish("Q-1", quote(title="Mine"))).status == 201
    assert (await api.read("Q-1")).json["content"]["title"] == "A quote"


async def test_times_are_the_databases(api: Api, database: Pool) -> None:
    published = (await api.publish("Q-1", quote())).json
    at = datetime.fromisoformat(published["published_at"])
    now = await database.fetchval("SELECT now()")
    assert abs((now - at).total_seconds()) < 30
    assert at.tzinfo == UTC
