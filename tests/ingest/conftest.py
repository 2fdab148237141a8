"""One ingress for the tests that only talk to it; those that break something start their own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.ingest import ingress
from tests.ingest.ingress import Ingress


@pytest.fixture(scope="session")
def shared_ingress(topology: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingress]:
    """A running ingress that nobody stops or reconfigures; it knows two secrets."""
    secrets = f"{ingress.SECRET},whsec_second"
    with ingress.running(tmp_path_factory.mktemp("ingest"), topology.url, STRIPE_WEBHOOK_SECRETS=secrets) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client without a limit of connections."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


@pytest.fixture(name="ingress")
def own_ingress(amqp_url: str, tmp_path: Path) -> Iterator[Ingress]:
    """An ingress of this test's own."""
    with ingress.running(tmp_path, amqp_url) as started:
        yield started
