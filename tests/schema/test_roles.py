"""Least privilege: each role can run what its processes run, and every grant is one that some statement needs."""

from typing import NamedTuple

import asyncpg
import pytest

from tests.schema.statements import ROLES, Statement, run_by, statements

PREVIEWERS = "quittance_previewers"
EVERY_ROLE = (*ROLES, PREVIEWERS)

TABLE_GRANTS = """
SELECT relname AS subject, privilege_type AS privilege, NULL AS column
FROM pg_class, aclexplode(relacl) WHERE grantee = $1::regrole AND relkind IN ('r', 'p')
  AND relnamespace = current_schema()::regnamespace
UNION ALL
SELECT relname, privilege_type, attname
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid, aclexplode(attacl)
WHERE grantee = $1::regrole AND relnamespace = current_schema()::regnamespace
ORDER BY 1, 2, 3
"""

# What no statement of ours says, and a process of the role does none the less: with the reason.
NEEDED_OTHERWISE: dict[tuple[str, str, str], str] = {}


class Grant(NamedTuple):
    """A privilege on a table, or on one column of it."""

    subject: str
    privilege: str
    column: str | None

    def revoked_from(self, role: str) -> str:
        """The statement that takes it back."""
        what = self.privilege if self.column is None else f'{self.privilege} ("{self.column}")'
        return f'REVOKE {what} ON "{self.subject}" FROM {role}'


async def refused(connection: asyncpg.Connection, role: str, statement: Statement) -> str | None:
    """Why the role may not run a statement; None where it may. Planned, and its executor begun, but not run."""
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        await connection.execute(f"SET LOCAL ROLE {role}")
        await connection.execute(f"PREPARE one AS {statement.text}")
        nothing = f"({', '.join(['NULL'] * statement.parameters)})" if statement.parameters else ""
        await connection.execute(f"EXPLAIN EXECUTE one{nothing}")
    except asyncpg.InsufficientPrivilegeError as error:
        return str(error)
    finally:
        await savepoint.rollback()
        await connection.execute("DEALLOCATE ALL")
    return None


def test_every_statement_is_of_a_process_that_is_known() -> None:
    """A new statement needs a decision: whose it is (tests/schema/statements.py)."""
    assert [statement.name for statement in statements() if statement.roles is None] == []
    assert len(statements()) > 100


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_can_do_its_work(owner: asyncpg.Connection, role: str) -> None:
    async with owner.transaction():
        found = {each.name: why for each in run_by(role) if (why := await refused(owner, role, each))}
    assert found == {}


@pytest.mark.parametrize("role", ROLES)
async def test_every_grant_is_needed_by_a_statement(owner: asyncpg.Connection, role: str) -> None:
    """Each is taken back in turn: something that the role's processes run must then be refused."""
    grants = [Grant(*row) for row in await owner.fetch(TABLE_GRANTS, role)]
    assert grants, "roles without any rights are not those of schema.sql"
    mine, superfluous = run_by(role), []
    for grant in grants:
        async with owner.transaction():
            savepoint = owner.transaction()
            await savepoint.start()
            await owner.execute(grant.revoked_from(role))
            about = [each for each in mine if grant.subject.removesuffix("_default") in each.text]
            needed = False
            for statement in about:
                needed = await refused(owner, role, statement) is not None
                if needed:
                    break
            await savepoint.rollback()
        if not needed and (role, grant.subject, grant.privilege) not in NEEDED_OTHERWISE:
            superfluous.append(grant)
    assert superfluous == []


@pytest.mark.parametrize(
    ("role", "forbidden"),
    [
        ("quittance_workers", "SELECT token_hash FROM api_tokens"),
        ("quittance_workers", "DELETE FROM events"),
        ("quittance_workers", "UPDATE inbox SET handled_at = now()"),
        ("quittance_workers", "SELECT body FROM outbox"),
        ("quittance_relay", "UPDATE quotes SET status = 'paid'"),
        ("quittance_relay", "SELECT email FROM customers"),
        ("quittance_relay", "INSERT INTO outbox (destination) VALUES ('crm')"),
        ("quittance_web", "UPDATE quotes SET status = 'paid'"),
        ("quittance_web", "SELECT body FROM events"),
        ("quittance_web", "SELECT token_hash FROM api_tokens"),
        ("quittance_operators", "UPDATE quotes SET status = 'paid'"),
        ("quittance_operators", "SELECT token_hash FROM api_tokens"),
        ("quittance_operators", "DELETE FROM failed_deliveries"),
        ("quittance_operators", "SELECT event_body FROM emails"),
        ("quittance_previewers", "SELECT FROM quotes"),
    ],
)
async def test_what_is_nobody_elses_is_refused(owner: asyncpg.Connection, role: str, forbidden: str) -> None:
    assert await refused(owner, role, Statement("forbidden", forbidden)) is not None


@pytest.mark.parametrize("role", EVERY_ROLE)
async def test_no_role_may_change_the_schema(owner: asyncpg.Connection, role: str) -> None:
    for statement in (
        "CREATE TABLE mine ()",
        "DROP TABLE quotes",
        "TRUNCATE events",
        "ALTER TABLE inbox ADD COLUMN mine text",
        "CREATE SCHEMA mine",
        "CREATE TEMPORARY TABLE mine ()",
        "CREATE ROLE mine",
    ):
        savepoint = owner.transaction()
        await savepoint.start()
        await owner.execute(f"SET LOCAL ROLE {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.execute(statement)
        await savepoint.rollback()


async def test_the_public_may_do_nothing(owner: asyncpg.Connection) -> None:
    """A user of the same server without any of the roles does not even get into the database."""
    database, schema = await owner.fetchrow("SELECT current_database(), current_schema()") or ("", "")
    assert not await owner.fetchval(
        "SELECT EXISTS (SELECT FROM pg_namespace, aclexplode(nspacl) WHERE nspname = $1 AND grantee = 0)", schema
    )
    assert database
    for function in ("tokens_with(bytea[])", "drop_partition(text, timestamptz)"):
        assert not await owner.fetchval(
            "SELECT EXISTS (SELECT FROM pg_proc, aclexplode(proacl) WHERE oid = $1::regprocedure AND grantee = 0)",
            function,
        )
