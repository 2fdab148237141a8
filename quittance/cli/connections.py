"""The connections that a command holds, from the variables that every process of ours reads."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from quittance.cli.running import CouldNot, read_settings
from quittance.database import pool
from quittance.locks import Connection
from quittance.settings import Reader


def database_url() -> str:
    """DATABASE_URL; exit 2 where it is missing or wrong."""
    return read_settings(Reader.database_url)


def amqp_url() -> str:
    """AMQP_URL; exit 2 where it is missing or wrong."""
    return read_settings(Reader.amqp_url)


def both_urls() -> tuple[str, str]:
    """DATABASE_URL and AMQP_URL; exit 2 with all that is wrong with either."""
    return read_settings(lambda reader: (reader.database_url(), reader.amqp_url()))


@asynccontextmanager
async def database(url: str) -> AsyncIterator[Connection]:
    """One connection as the workers have them. Raises CouldNot where the database is away."""
    async with pool(url, "command line", 1) as connections:
        try:
            db = await connections.acquire()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise CouldNot(f"the database does not answer ({type(error).__name__}): {error}") from error
        try:
            yield db
        finally:
            await connections.release(db)
