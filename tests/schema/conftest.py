"""A database in which the rights are as `quittance init` leaves them, seen as one role after the other."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from quittance.database import apply_schema


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection: `SET ROLE` makes it another's."""
    await apply_schema(database_url)  # a database made from a template has not its rights as a database
    connection = await asyncpg.connect(database_url, statement_cache_size=0)
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    yield connection
    await connection.close()
