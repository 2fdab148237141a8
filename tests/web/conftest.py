"""The quotes API on a port of its own, against this test's own database; and a client for each token."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from asyncpg.pool import Pool

from quittance.cli.tokens import CREATE
from quittance.domain.publishing.policies import HUBSPOT_2023, Policy
from quittance.settings import LogSettings
from quittance.stripe_client import StripeSettings
from quittance.tokens import PERMISSIONS, SHOWN, new_token, token_hash
from web.__main__ import runner_of
from web.app import Web
from web.settings import Settings

PUBLIC_URL = "https://quotes.example.com"


@dataclass(frozen=True)
class Answer:
    """What a request was answered."""

    status: int
    json: Any
    headers: Mapping[str, str]  # in any case

    @property
    def faults(self) -> list[tuple[str, str, int | None]]:
        """Rule, code and line of each of `errors`."""
        return [(error["rule"], error["code"], error["line"]) for error in self.json["errors"]]

    @property
    def rules(self) -> list[str]:
        """The rules of `errors`."""
        return [error["rule"] for error in self.json["errors"]]

    @property
    def warned(self) -> list[str]:
        """The rules of `warnings`."""
        return [warning["rule"] for warning in self.json["warnings"]]


@dataclass(frozen=True)
class Api:
    """Somebody with a token (or without)."""

    session: aiohttp.ClientSession
    base: str
    token: str | None

    async def ask(self, method: str, path: str, **given: Any) -> Answer:
        """Send a request; `given` as aiohttp has it."""
        headers = dict(given.pop("headers", {}))
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        async with self.session.request(method, f"{self.base}{path}", headers=headers, **given) as answer:
            body = await answer.json(content_type=None)
            return Answer(answer.status, body, answer.headers)

    async def publish(self, quote_id: str, body: Any) -> Answer:
        return await self.ask("PUT", f"/v1/quotes/{quote_id}", json=body)

    async def recall(self, quote_id: str, **body: Any) -> Answer:
        return await self.ask("POST", f"/v1/quotes/{quote_id}/recall", **({"json": body} if body else {}))

    async def read(self, quote_id: str) -> Answer:
        return await self.ask("GET", f"/v1/quotes/{quote_id}")

    async def list(self, **params: Any) -> Answer:
        return await self.ask("GET", "/v1/quotes", params=params)

    async def changes(self, **params: Any) -> Answer:
        return await self.ask("GET", "/v1/changes", params=params)


# `await caller("acct_1", "read", live=True)`: a client with a new token.
Caller = Callable[..., Awaitable[Api]]


async def make_token(database: Pool, account: str, *permissions: str, live: bool = False) -> str:
    """A token, as `quittance tokens create` makes it."""
    token = new_token(live)
    granted = list(permissions or PERMISSIONS)
    await database.execute(CREATE, token_hash(token), token[:SHOWN], account, live, granted, "a test")
    return token


def settings_with(
    policy: Policy = HUBSPOT_2023, *, stripe: StripeSettings | None = None, connect_client_id: str = ""
) -> Settings:
    return Settings(
        database_url="postgresql://unused",
        amqp_url="amqp://unused",
        host="127.0.0.1",
        port=0,
        public_url=PUBLIC_URL,
        policy=policy,
        stripe=stripe or StripeSettings(""),
        connect_client_id=connect_client_id,
        forwarded_hops=0,
        log=LogSettings("warning", "json"),
    )


@pytest.fixture
def policy() -> Policy:
    """Which currencies may be used; a test may override it."""
    return HUBSPOT_2023


@pytest.fixture
async def base(database: Pool, policy: Policy) -> AsyncIterator[str]:
    """The address of the API."""
    runner = runner_of(Web(settings_with(policy), database))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(trust_env=False) as opened:
        yield opened


@pytest.fixture
def caller(base: str, database: Pool, session: aiohttp.ClientSession) -> Caller:
    async def made(account: str = "acct_1", *permissions: str, live: bool = False) -> Api:
        return Api(session, base, await make_token(database, account, *permissions, live=live))

    return made


@pytest.fixture
async def api(caller: Caller) -> Api:
    """Somebody of account acct_1 in test mode who may do everything."""
    return await caller()


def line(**given: Any) -> dict[str, Any]:
    return {"name": "Consulting", "quantity": 1, "unit_amount": 10_000, **given}


def quote(*lines: dict[str, Any], **given: Any) -> dict[str, Any]:
    """What a CRM sends."""
    return {
        "number": "2026-17",
        "title": "A quote",
        "currency": "USD",
        "owner": {"name": "Sal Seller", "email": "sal@example.com"},
        "deal_id": "deal-7",
        "line_items": list(lines) or [line()],
        **given,
    }
