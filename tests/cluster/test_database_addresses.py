"""DATABASE_URL with a primary and its standbys, as libpq and asyncpg take it."""

import asyncpg
import pytest

from quittance import database
from quittance.settings import Reader

TWO = "postgresql://u:p%2Cq@a:5432,b:5433/quittance?target_session_attrs=read-write"


@pytest.mark.parametrize(
    "url",
    [
        TWO,
        "postgresql://a,b/x",
        "postgresql://u:p@a/x",
        "postgresql:///x?host=/run/postgresql",
        "postgres://u:p@/x?host=a,b&port=1,2",
    ],
)
def test_what_asyncpg_takes_is_taken(url: str) -> None:
    reader = Reader({"DATABASE_URL": url})
    assert reader.database_url() == url
    assert reader.faults == []


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("", "DATABASE_URL is not set"),
        ("mysql://a/x", "DATABASE_URL must begin with postgresql:// or postgres://"),
        ("postgresql://a:hidden/x", "DATABASE_URL is no address"),
        ("postgresql://a:1,b:hidden,:3/x", "DATABASE_URL (host 2) is no address; DATABASE_URL (host 3) names no host"),
    ],
)
def test_each_host_is_checked(url: str, fault: str) -> None:
    reader = Reader({"DATABASE_URL": url})
    reader.database_url()
    assert "; ".join(reader.faults) == fault


async def test_the_host_that_can_be_written_to_is_found(database_url: str) -> None:
    user, _, place = database_url.rpartition("@")
    db = await database.connect(f"{user}@127.0.0.1:1,{place}?target_session_attrs=read-write", "test")
    try:
        assert await db.fetchval("SELECT pg_is_in_recovery()") is False
    finally:
        await database.close(db)


async def test_where_no_host_can_be_written_to_it_is_away() -> None:
    with pytest.raises(database.DATABASE_ERRORS) as raised:
        await database.connect("postgresql://u:p@127.0.0.1:1,127.0.0.1:2/x?target_session_attrs=read-write", "test")
    assert not isinstance(raised.value, asyncpg.PostgresError)
