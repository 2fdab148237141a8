"""Every SQL constant is prepared against the schema: what a .sql file and its loader would have offered."""

import importlib
import pkgutil
from collections.abc import Iterator

import asyncpg
import pytest
from asyncpg.pool import Pool

import ingest
import quittance
import web
import workers

BEGINNINGS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")


def statements() -> Iterator[tuple[str, str]]:
    """`module.NAME` and text of each upper-case constant that begins as SQL does."""
    for package in (ingest, quittance, web, workers):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            for name, value in vars(module).items():
                # Maintenance of partitions names tables: those few are templates, and run by their own tests.
                if (
                    name.isupper()
                    and isinstance(value, str)
                    and value.lstrip().startswith(BEGINNINGS)
                    and "{" not in value
                ):
                    yield f"{found.name}.{name}", value


ALL = dict(statements())


def test_the_statements_are_found() -> None:
    assert "workers.runtime.inbox.FIRST_SEEN" in ALL
    assert len(ALL) > 30


async def test_every_statement_is_valid(database: Pool) -> None:
    wrong = []
    async with database.acquire() as db:
        for name, statement in sorted(ALL.items()):
            try:
                await db.prepare(statement)
            except asyncpg.PostgresError as error:
                wrong.append(f"{name}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", sorted(ALL))
def test_statement_names_its_columns(name: str) -> None:
    """`SELECT * FROM unnest(…)` names them in the INSERT around it."""
    assert "SELECT *" not in ALL[name].replace("SELECT * FROM unnest", "")
