"""Headless Chromium, once; for each module Quittance as processes, with a Stripe beside it; for each test buyers of its own."""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from dev.browser import find_chromium, why_not
from dev.servers import Servers
from tests.browser.buyers import Visit, Visits
from tests.browser.shop import Shop, shop_at
from tests.conftest import Topology, administer, with_database

HERE = Path(__file__).parent

# Playwright's objects belong to the loop in which the browser was started: all of the folder's tests share one.
ONE_LOOP = pytest.mark.asyncio(loop_scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Called with the items of other folders too."""
    for item in items:
        if item.path.is_relative_to(HERE) and inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(ONE_LOOP, append=False)


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The system's Chromium."""
    found = find_chromium()
    if found is None:
        pytest.skip(why_not())
    return found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: Path) -> AsyncIterator[Browser]:
    """One for all tests. As root there is no sandbox to be had."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(
            executable_path=chromium, headless=True, chromium_sandbox=os.geteuid() != 0
        )
        yield started
        await started.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop(chromium: Path, servers: Servers, template: str) -> AsyncIterator[Shop]:
    """The whole of Quittance on a database and a vhost of the module's own, and Stripe, which sends it webhooks."""
    name = f"browser_{uuid4().hex[:12]}"
    await administer(servers.database_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    amqp_url = servers.amqp_url
    if servers.managed:
        amqp_url = await asyncio.to_thread(servers.add_vhost, name)
    await asyncio.to_thread(Topology, amqp_url)
    async with shop_at(with_database(servers.database_url, name), amqp_url) as opened:
        yield opened
    if servers.managed:
        await asyncio.to_thread(servers.rabbitmqctl, "delete_vhost", name)
    await administer(servers.database_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser, shop: Shop) -> AsyncIterator[Visit]:
    """`page = await visit(url, …)`: a buyer with a browser profile of his own opens an address.

    Whatever the console, the scripts or the Content Security Policy of our pages complain of fails the test.
    """
    visits = Visits(browser, shop.stripe.url)
    yield visits.visit
    await visits.end()
