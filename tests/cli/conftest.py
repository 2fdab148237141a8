"""The command line against this test's own database and the session's broker."""

from collections.abc import Awaitable, Callable
from functools import partial
from uuid import uuid4

import pytest

from dev.servers import Servers
from tests.support.cli import Answer, quittance

Command = Callable[..., Awaitable[Answer]]


@pytest.fixture
def cli(database_url: str, amqp_url: str) -> Command:
    """`await cli("quotes", "list", "--json")`: with DATABASE_URL and AMQP_URL set."""
    return partial(quittance, DATABASE_URL=database_url, AMQP_URL=amqp_url)


@pytest.fixture
def db_cli(database_url: str) -> Command:
    """The same with a database only: most commands need nothing else."""
    return partial(quittance, DATABASE_URL=database_url)


@pytest.fixture
def empty(servers: Servers) -> Command:
    """The command line on a database and a vhost in which there is nothing."""
    if not servers.managed:
        pytest.skip("AMQP_URL names a server on which no vhost can be made")
    name = f"init_{uuid4().hex[:8]}"
    urls = {"DATABASE_URL": servers.add_database(name), "AMQP_URL": servers.add_vhost(name)}
    return partial(quittance, **urls)
