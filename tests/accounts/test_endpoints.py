"""Webhooks of the platform's own endpoint and of its Connect endpoint, each with a secret of its own, end to end: both are
heard, and accounts and modes are never mixed (S1).
"""

import json
from typing import Any

import aiohttp
from asyncpg.pool import Pool

from tests.fakes.stripe import Place, StripeApi
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.support.processes import program, workers

PLATFORM, CONNECT = "whsec_platform", "whsec_connect"
ROWS = "SELECT account, livemode, charges_enabled, deauthorised_at IS NOT NULL AS gone FROM accounts"
ARCHIVED = "SELECT event_id, account, livemode FROM events"


async def rows(database: Pool) -> dict[tuple[str, bool], tuple[bool | None, bool]]:
    return {
        (row["account"], row["livemode"]): (row["charges_enabled"], row["gone"]) for row in await database.fetch(ROWS)
    }


async def test_s1_both_endpoints_are_heard_and_nothing_is_mixed(
    database_url: str, database: Pool, amqp: Broker
) -> None:
    environment: dict[str, Any] = {
        "AMQP_URL": amqp.url,
        "INGEST_HOST": "127.0.0.1",
        "INGEST_PORT": "0",
        "STRIPE_WEBHOOK_SECRETS": f"{PLATFORM},{CONNECT}",
    }
    async with (
        StripeApi.running() as stripe,
        program("-m", "ingest", **environment) as ingest,
        workers("accounts", "archive", database_url=database_url, amqp_url=amqp.url),
    ):
        port = json.loads(await ingest.logged("ingest.listening", timeout=60))["port"]
        url = f"http://127.0.0.1:{port}/webhooks/stripe"
        stripe.webhooks.to(url, PLATFORM, "account")
        stripe.webhooks.to(url, CONNECT, "connect")
        stripe.webhooks.hold()
        stripe.change_account("acct_1", charges_enabled=False)
        stripe.change_account("acct_1", charges_enabled=True, livemode=True)
        stripe.change_account("acct_2", charges_enabled=True)
        stripe.change_account("self", charges_enabled=False)
        stripe.revoke("acct_2", livemode=True)
        stripe.revoke("acct_1")
        # Of the platform's endpoint: the key's own account dealt with somebody's application.
        stripe.emit(Place("self", False), "account.application.deauthorized", {"id": "ca_x", "object": "application"})
        stripe.webhooks.release(shuffled=7, twice=True)
        await stripe.webhooks.delivered()
        expected = {
            ("acct_1", False): (False, True),
            ("acct_1", True): (True, False),
            ("acct_2", False): (True, False),
            ("acct_2", True): (None, True),
            ("self", False): (False, False),
        }

        async def all_heard() -> bool:
            archived = await database.fetchval("SELECT count(*) FROM events")
            return archived == len(stripe.webhooks.events) and await rows(database) == expected

        await eventually(all_heard, timeout=60)
        archived = {row["event_id"]: (row["account"], row["livemode"]) for row in await database.fetch(ARCHIVED)}
        sent = {one["id"]: (one.get("account", "self"), one["livemode"]) for one in stripe.webhooks.events}
        assert archived == sent
        assert {status for _, _, _, status in stripe.webhooks.deliveries} == {200}

        stripe.webhooks.endpoints.clear()
        async with aiohttp.ClientSession() as session, session.post(url, data=b"{}") as unsigned:
            assert unsigned.status == 400
        assert await rows(database) == expected
