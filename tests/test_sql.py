"""Every SQL constant is prepared against the schema: what a .sql file and its loader would have offered."""

import importlib
import json
import pkgutil
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from asyncpg.pool import Pool

import ingest
import quittance
import web
import workers
from quittance.database import Connection

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


# What reads all of an index or a table by its purpose, or what stays small: the relay's gauge, the Checkout Sessions that
# can be paid just now, the people who are connecting Stripe.
WHOLE = {"workers.runtime.housekeeping.DEPTH", "quittance.checkout_book.CLOSE_SESSIONS", "web.connect_states.GRANTED"}
BY_KEY = sorted(name for name in ALL if not name.startswith("quittance.cli.") and name not in WHOLE)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's nodes, itself included."""
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


def reads_all(node: dict[str, Any]) -> bool:
    """Whether a node reads all of a table or an index, to join or to filter it afterwards."""
    kind = str(node["Node Type"])
    return kind in ("Seq Scan", "Hash Join", "Merge Join") or ("Index" in kind and "Index Cond" not in node)


async def plan_for_any(db: Connection, statement: str) -> dict[str, Any]:
    """The plan that Postgres keeps, whatever the arguments."""
    parameters = (await db.prepare(statement)).get_parameters()
    given = f"({', '.join(['NULL'] * len(parameters))})" if parameters else ""
    await db.execute(f"PREPARE judged AS {statement}")
    ((explained,),) = await db.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE judged{given}")
    await db.execute("DEALLOCATE judged")
    return dict(json.loads(explained)[0]["Plan"])


async def test_no_statement_reads_all_of_a_table_without_statistics(database: Pool) -> None:
    """A plan made before the first ANALYZE is kept while the tables grow."""
    wrong = []
    async with database.acquire() as db:
        await db.execute("SET plan_cache_mode = force_generic_plan")
        for name in BY_KEY:
            found = [node for node in nodes(await plan_for_any(db, ALL[name])) if reads_all(node)]
            wrong += [f"{name}: {node['Node Type']} {node.get('Relation Name', '')}" for node in found]
    assert not wrong, "\n".join(wrong)
