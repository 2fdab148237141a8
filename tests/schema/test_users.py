"""The roles in use: each process logs in as a user of its own, which is a member of its role and of nothing else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from asyncpg.pool import Pool

from dev.least_privilege import as_user
from dev.servers import Servers
from dev.story_after import FullStory
from dev.stripe_objects import purchase
from quittance.cli.preview import what_would_happen
from quittance.cli.running import CouldNot
from quittance.database import SCHEMA_FILE, apply_schema, pool
from tests.conftest import administer, with_database
from tests.schema.statements import OPERATORS, RELAY, ROLES, WEB, WORKERS
from tests.support.crm_side import assert_told_in_order, everything_told, quotes_in
from tests.support.many_lives import lately
from tests.support.random_lives import as_event
from tests.support.stripe_side import Stripe
from tests.support.system import settled, system
from workers import WORKERS as EVERY_WORKER

PASSWORD = "a-users-password"
PARTITIONS = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relispartition"
HELD = "SELECT pg_has_role($1, $2, 'MEMBER')"


@pytest.fixture
async def users(servers: Servers, database_url: str) -> AsyncIterator[dict[str, str]]:
    """For each role an address of the fresh database, as a user who is a member of that role alone."""
    await apply_schema(database_url)
    mark = uuid4().hex[:8]
    names = {role: f"{role}_{mark}" for role in ROLES}
    for role, name in names.items():
        await administer(servers.database_url, f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' IN ROLE {role}")
    yield {role: as_user(database_url, name, PASSWORD) for role, name in names.items()}
    await administer(servers.database_url, *(f"DROP ROLE {name}" for name in names.values()))


async def test_a_life_is_handled_by_processes_that_may_do_nothing_else(
    users: dict[str, str], database: Pool, database_url: str, amqp_url: str
) -> None:
    """INVARIANT: with least privilege everything works: paid, one mail, one customer, told in order, nothing failed."""
    story = FullStory(purchase("least-privilege", begins=lately()))
    story.complete(story.open_session())
    events = list(map(as_event, story.events))
    async with system(database_url, amqp_url) as running:
        running.users = dict.fromkeys(EVERY_WORKER, users[WORKERS]) | {"relay": users[RELAY], "web": users[WEB]}
        await running.start("ingest", *EVERY_WORKER, "relay", "web")
        stripe = Stripe(running.url)
        await stripe.send(events, lanes=2)
        await settled(running, stripe.events)
        assert [mail.recipients for mail in running.mails.received] == [[story.p.owner_email]]
        assert running.stripe.made() == 1
        refused = [line for each in running.programs.values() for line in each.lines if "InsufficientPrivilege" in line]
        assert refused == []
    assert await database.fetchval("SELECT array_agg(status) FROM quotes") == ["paid"]
    assert await database.fetchval("SELECT count(*) FROM failed_deliveries") == 0
    assert assert_told_in_order(await everything_told(amqp_url), await quotes_in(database)) == 0


async def test_the_relay_makes_and_drops_partitions_it_does_not_own(users: dict[str, str], database: Pool) -> None:
    relay = await asyncpg.connect(users[RELAY])
    try:
        week = "date_trunc('week', now() AT TIME ZONE 'UTC' + interval '70 days') AT TIME ZONE 'UTC'"
        before = await database.fetchval(PARTITIONS)
        await relay.execute(f"SELECT make_partition('inbox', {week})")
        assert await database.fetchval(PARTITIONS) == before + 1
        with pytest.raises(asyncpg.InvalidParameterValueError, match="younger than 40 days"):
            await relay.execute(f"SELECT drop_partition('inbox', {week})")
    finally:
        await relay.close()


async def test_who_may_preview_has_the_rights_of_workers_for_that_alone(
    servers: Servers, users: dict[str, str], database_url: str
) -> None:
    assert users
    name = f"previewer_{uuid4().hex[:8]}"
    roles = f"{OPERATORS}, quittance_previewers"
    await administer(servers.database_url, f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' IN ROLE {OPERATORS}")
    try:
        async with pool(as_user(database_url, name, PASSWORD), "test", 1) as operator, operator.acquire() as db:
            with pytest.raises(CouldNot, match="quittance_previewers"):
                await what_would_happen(db, [])
            await administer(servers.database_url, f"GRANT {roles} TO {name}")
            assert (await what_would_happen(db, [])).steps == []
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await db.execute("UPDATE quotes SET status = 'paid'")
    finally:
        await administer(servers.database_url, f"DROP ROLE {name}")


async def test_a_user_without_a_role_does_not_get_in(
    servers: Servers, users: dict[str, str], database_url: str
) -> None:
    assert users
    name = f"nobody_{uuid4().hex[:8]}"
    await administer(servers.database_url, f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(as_user(database_url, name, PASSWORD))
    finally:
        await administer(servers.database_url, f"DROP ROLE {name}")


async def test_schemas_of_two_databases_can_be_applied_at_once_and_again_by_an_owner_who_may_make_no_role(
    servers: Servers,
) -> None:
    """Roles belong to the cluster: there they meet. An owner needs no CREATEROLE where they are there already."""
    owner = f"owner_{uuid4().hex[:8]}"
    names = [f"test_{uuid4().hex[:12]}" for _ in range(2)]
    await administer(servers.database_url, f"CREATE ROLE {owner} LOGIN PASSWORD '{PASSWORD}'")
    for name in names:
        await administer(servers.database_url, f"CREATE DATABASE {name} OWNER {owner}")
    try:
        urls = [as_user(with_database(servers.database_url, name), owner, PASSWORD) for name in names]
        for _ in range(2):
            await asyncio.gather(*map(apply_schema, urls))
        for url in urls:
            connection = await asyncpg.connect(url)
            assert await connection.fetchval("SELECT has_table_privilege($1, 'quotes', 'UPDATE')", WORKERS)
            assert not await connection.fetchval(HELD, owner, WORKERS)
            await connection.close()
    finally:
        for name in names:
            await administer(servers.database_url, f"DROP DATABASE {name} WITH (FORCE)")
        await administer(servers.database_url, f"DROP ROLE {owner}")


async def test_an_owner_who_may_make_no_role_is_warned_and_has_the_tables(servers: Servers, tmp_path: Path) -> None:
    """Seen with a role that is in nobody's way: as if schema.sql asked for one that is not there."""
    owner, database = f"owner_{uuid4().hex[:8]}", f"test_{uuid4().hex[:12]}"
    await administer(servers.database_url, f"CREATE ROLE {owner} LOGIN PASSWORD '{PASSWORD}'")
    await administer(servers.database_url, f"CREATE DATABASE {database} OWNER {owner}")
    asked = SCHEMA_FILE.read_text("utf-8").replace("'{quittance_workers,", "'{quittance_nobodys,quittance_workers,", 1)
    (tmp_path / "schema.sql").write_text(asked)
    url, said = as_user(with_database(servers.database_url, database), owner, PASSWORD), list[str]()
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("quittance.database.SCHEMA_FILE", tmp_path / "schema.sql")
            await apply_schema(url, warn=said.append)
        assert said == [
            f"{owner} may not create the role quittance_nobodys: docs/security.md has what a superuser types"
        ]
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT count(*) FROM quotes") == 0
        await connection.close()
    finally:
        await administer(servers.database_url, f"DROP DATABASE {database} WITH (FORCE)", f"DROP ROLE {owner}")
