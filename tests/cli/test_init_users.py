"""`quittance init` makes the users of the processes, where it is told their passwords."""

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest
import yaml

from dev.least_privilege import as_user
from dev.servers import Servers
from dev.venv import ROOT
from quittance.cli.database_users import USERS
from tests.cli.conftest import Command
from tests.conftest import administer
from tests.support.cli import quittance

ROLES_OF = """
SELECT array_agg(granted.rolname::text) FROM pg_auth_members
JOIN pg_roles AS granted ON granted.oid = roleid JOIN pg_roles AS held ON held.oid = member WHERE held.rolname = $1
"""
PASSWORDS = {user.variable: f"first-{user.name}'$%I" for user in USERS}


@pytest.fixture
async def cluster(servers: Servers) -> AsyncIterator[Servers]:
    """One whose users are gone again afterwards: they belong to no database."""
    if not servers.managed:
        pytest.skip("the users of a server that is somebody else's are his")
    yield servers
    await administer(servers.database_url, *(f"DROP ROLE IF EXISTS {user.name}" for user in USERS))


async def test_the_users_are_made_and_a_changed_password_is_changed(cluster: Servers, empty: Command) -> None:
    url: str = empty.keywords["DATABASE_URL"]  # type: ignore[attr-defined]
    assert (await empty("init", "--json")).ok().json["users"] == []
    made = (await empty("init", "--json", **PASSWORDS)).ok()
    assert made.json["users"] == [user.name for user in USERS]
    for user in USERS:
        db = await asyncpg.connect(url, user=user.name, password=PASSWORDS[user.variable])
        assert await db.fetchval(ROLES_OF, user.name) == [user.role]
        await db.close()
    only = {"WEB_PASSWORD": "second"}
    assert (await empty("init", "--json", **only)).ok().json["users"] == ["quittance_of_web"]
    await (await asyncpg.connect(url, user="quittance_of_web", password="second")).close()
    await (await asyncpg.connect(url, user="quittance_of_relay", password=PASSWORDS["RELAY_PASSWORD"])).close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url, user="quittance_of_web", password=PASSWORDS["WEB_PASSWORD"])


async def test_no_log_ever_holds_a_password(cluster: Servers, empty: Command) -> None:
    """Postgres logs each statement that asks for it, ALTER ROLE too; and it keeps what it is told."""
    url: str = empty.keywords["DATABASE_URL"]  # type: ignore[attr-defined]
    await administer(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET log_statement = 'all'")
    said = (await empty("init", WEB_PASSWORD="that-is-not-to-be-seen")).ok()
    assert cluster.logs is not None
    log = (cluster.logs / "postgres.log").read_text(errors="replace")
    assert "ALTER ROLE quittance_of_web" in log
    assert "that-is-not-to-be-seen" not in log + said.out + said.err
    db = await asyncpg.connect(url)
    kept = await db.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = 'quittance_of_web'")
    await db.close()
    assert kept.startswith("SCRAM-SHA-256$4096:")


async def test_passwords_that_would_have_to_be_normalised_are_refused() -> None:
    answer = await quittance("init", DATABASE_URL="postgresql://a@b/c", AMQP_URL="amqp://a", WEB_PASSWORD="lösen ord")
    assert answer.code == 2
    assert "WEB_PASSWORD may hold letters, digits and marks of ASCII alone" in answer.err


async def test_an_owner_who_may_make_no_users_is_told_what_to_do(cluster: Servers, empty: Command) -> None:
    url: str = empty.keywords["DATABASE_URL"]  # type: ignore[attr-defined]
    owner = f"owner_{uuid4().hex[:8]}"
    (await empty("init")).ok()  # the roles are there
    await administer(url, f"CREATE ROLE {owner} LOGIN PASSWORD 'x'")
    name = f"init_{uuid4().hex[:8]}"
    await administer(url, f"CREATE DATABASE {name} OWNER {owner}")
    try:
        own = as_user(url.rpartition("/")[0] + f"/{name}", owner, "x")
        answer = await empty("init", **{"DATABASE_URL": own, **PASSWORDS})
        assert answer.code == 1
        assert "docs/security.md" in answer.err
        assert "Traceback" not in answer.err
    finally:
        await administer(url, f"DROP DATABASE {name} WITH (FORCE)", f"DROP ROLE {owner}")


def test_each_process_of_compose_is_the_user_that_may_do_its_work() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    told = {name: service.get("environment", {}) for name, service in services.items()}
    assert {user.variable for user in USERS} <= told["init"].keys()
    example = (ROOT / ".env.example").read_text()
    for user in USERS:
        assert f"\n{user.variable}=" in example
    names = {user.role.removeprefix("quittance_"): f"//{user.name}:${{{user.variable}:?" for user in USERS}
    checked = 0
    for name, environment in told.items():
        if "DATABASE_URL" in environment and name not in ("init", "quittance"):  # the owner's
            assert names.get(name, names["workers"]) in environment["DATABASE_URL"], name
            checked += 1
    assert checked > 8
