"""The whole way as real processes: recalled and expired quotes lose their sessions and coupons, whoever is killed meanwhile."""

import pytest
from asyncpg.pool import Pool

from tests.checkouts.attempts import Quote, begun, coupons_of, discounted, expire, published, recall, states
from tests.fakes.stripe import Fault, Place
from tests.support.polling import eventually
from tests.support.stripe_environment import forget_settings
from tests.support.system import API_KEY, SECRET, System, system

NUMBER = 12
ENDED = "SELECT count(*) FROM quotes WHERE status = ANY ($1::text[]) AND anomalies = '{}'"
SETTLED = """
SELECT (SELECT count(*) FROM outbox)
     + (SELECT count(*) FROM checkout_sessions WHERE state IN ('creating', 'open', 'closing'))
     + (SELECT count(*) FROM quote_coupons WHERE state = 'archiving')
"""


async def ours(database: Pool, running: System, environment: pytest.MonkeyPatch) -> list[Quote]:
    """Quotes with a discount, each with a session that is open at Stripe; of every third, web was not told."""
    environment.setenv("STRIPE_API_KEY", API_KEY)
    environment.setenv("STRIPE_API_BASE", running.stripe.url)
    forget_settings()
    made = []
    for number in range(NUMBER):
        quote = await published(database, f"Q-{number}", discounts=[{"amount": 1_000}])
        coupon = await discounted(database, quote, f"coupon-{number}")
        await begun(database, quote, told=number % 3 > 0, coupon=coupon)
        made.append(quote)
    return made


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_r16_r28_ended_quotes_leave_nothing_that_can_be_paid(
    database: Pool, database_url: str, amqp_url: str, environment: pytest.MonkeyPatch
) -> None:
    """INVARIANT: two processes of the worker, one of them killed in the middle of its calls, Stripe limiting and failing
    now and then, webhooks of our own doings coming back twice: every session is over, every coupon gone, one buyer's
    payment is kept, and no anomaly is told to anybody.
    """
    async with system(database_url, amqp_url, RETRY_SCHEDULE="0.2,0.2,0.2,0.2") as running:
        running.stripe.webhooks.to(running.url, SECRET)
        running.stripe.webhooks.twice = True
        await running.start("ingest", "archive", "quotes", "customers", "documents", "notifications", "relay")
        made = await ours(database, running, environment)
        paid = running.stripe.sessions_of("open")[1]["id"]
        await running.stripe.pay(paid)
        await running.start("checkouts-1", "checkouts-2")
        running.stripe.faults += [
            Fault("POST", before=3.0, times=2, path="/v1/checkout/sessions/"),
            Fault("POST", status=429, headers={"Retry-After": "1"}, path="/v1/checkout/sessions/"),
            Fault("POST", status=500, executes=True, path="/v1/checkout/sessions"),
            Fault("DELETE", executes=True, drops=True),
        ]
        for number, quote in enumerate(made):
            await (recall if number % 2 else expire)(database, quote)
        await eventually(lambda: bool(running.stripe.calls_of("POST", "/v1/checkout/sessions/")), timeout=30)
        await running.kill("checkouts-1")
        await running.start("checkouts-1")
        await eventually(lambda: settled(database), timeout=120)
        await running.stripe.webhooks.delivered(60)
        await eventually(lambda: told(database), timeout=60)
        await eventually(lambda: bool(running.mails.received), timeout=30)
        await running.stop_all()

    found = await states(database)
    assert found.pop(("Q-1", 1, 1)) == "complete"
    assert set(found.values()) == {"closed"}
    assert running.stripe.sessions_of("open") == []
    assert running.stripe.coupons.at(Place("self", False)) == {}
    assert set(await coupons_of(database)) == {"archived"}
    assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0
    assert [mail.recipients for mail in running.mails.received] == [["sal@example.com"]]  # that Q-1 was paid


async def settled(database: Pool) -> bool:
    return bool(await database.fetchval(SETTLED) == 0)


async def told(database: Pool) -> bool:
    """Each quote has its end, and nothing was odd about it; but for the one that was paid before."""
    statuses = ["recalled", "expired", "paid"]
    handled = await database.fetchval("SELECT count(*) FROM inbox WHERE queue = 'quotes' AND event_id LIKE 'evt_%'")
    archived = await database.fetchval("SELECT count(*) FROM events WHERE type = 'coupon.deleted'")
    assert archived == NUMBER, f"{archived} coupon.deleted"
    return bool(handled and await database.fetchval(ENDED, statuses) == NUMBER)
