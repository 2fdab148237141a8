"""The command line against this test's own database and the session's broker."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest

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
