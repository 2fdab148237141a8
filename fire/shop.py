"""Quotes that are published here: put up, checked out by a buyer who does not pay, and taken back."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from dev.buyer import Buyer
from dev.quotes_api import environment_of, grant
from dev.samples import sample
from fire.system import System
from quittance.tokens import new_token

WEB: Final = "web"
CHECK_OUT: Final = "Check out"


class NotSold(Exception):
    """The web process did not do what was asked of it; the message says what."""


@dataclass(frozen=True)
class Shop:
    """The web process, and a token for it."""

    url: str
    token: str

    async def check_out(self, quote_id: str) -> None:
        """Publish a quote, and open its Checkout Session. Raises NotSold."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with aiohttp.ClientSession(trust_env=False) as http:
            async with http.put(self._address(quote_id), json=sample("en", quote_id), headers=headers) as answer:
                if answer.status != 201:
                    raise NotSold(f"{quote_id} is not published: {answer.status} {await answer.text()}")
                page = str((await answer.json())["url"])
            buyer = Buyer(http)
            hosted = await buyer.press(await buyer.open(page), CHECK_OUT)
            if hosted.came_by != (303, 200):
                raise NotSold(f"{quote_id} is not checked out: {hosted.came_by}")

    async def recall(self, quote_id: str) -> None:
        """Take a quote back. Raises NotSold."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with (
            aiohttp.ClientSession(trust_env=False, headers=headers) as http,
            http.post(f"{self._address(quote_id)}/recall") as answer,
        ):
            if answer.status != 200:
                raise NotSold(f"{quote_id} is not recalled: {answer.status} {await answer.text()}")

    def _address(self, quote_id: str) -> str:
        return f"{self.url}/v1/quotes/{quote_id}"


@asynccontextmanager
async def shop(system: System) -> AsyncIterator[Shop]:
    """The web process of a system, until the block ends."""
    servers = system.servers
    environment = environment_of(system.environment, servers.database_url, servers.amqp_url)
    system.children.start(WEB, [WEB], "WEB_PORT", environment)
    try:
        await system.children.ready()
        token = new_token(livemode=False)
        await grant(servers.database_url, token, "fire")
        yield Shop(environment["PUBLIC_URL"], token)
    finally:
        await asyncio.shield(system.end(WEB, signal.SIGTERM))
