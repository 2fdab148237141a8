"""`quittance init`: the schema, the partitions and the broker's topology. Declared here and nowhere else."""

from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from quittance import broker, partitions
from quittance.addresses import place, split, vhost
from quittance.broker import CRM_QUEUE_MAX_BYTES, BrokerAway, TopologyDiffers
from quittance.cli import database_users, output
from quittance.cli.connections import database
from quittance.cli.database_users import User
from quittance.cli.filters import AsJson
from quittance.cli.running import CouldNot, read_settings, run
from quittance.cli.schema_check import differences
from quittance.cli.workers_registry import queues
from quittance.database import apply_schema
from quittance.settings import Reader

DIFFERS: Final = (
    "A queue or exchange is on the broker with other arguments than this version declares:\n  {fault}\n"
    "Cure: stop ingest and relay, let the workers empty the queue, then delete it (`rabbitmqctl delete_queue NAME`) and "
    "run `quittance init` again. Of the queue `crm`: CRM_QUEUE_MAX_BYTES is not what it was made with; set that value, or let the "
    "CRM empty it first."
)
NO_LEADER: Final = (
    "The broker does not answer as it should:\n  {fault}\n"
    "Cure, for a queue without leader: start the broker's other nodes; where there are none, the queue is lost: "
    "`rabbitmqctl delete_queue -p {vhost} NAME`, `quittance init`; `quittance doctor` says beforehand what brings back what was in it."
)

NO_USERS: Final = (
    "The users of the processes could not be made, or not be changed:\n  {fault}\n"
    "Cure: a superuser types what docs/security.md has; then leave WORKERS_PASSWORD, RELAY_PASSWORD and WEB_PASSWORD unset."
)


def init(*, as_json: AsJson = False) -> None:
    """Create what is missing: tables, partitions, exchanges, queues, bindings. Safe to repeat; run it before any traffic.

    Needs DATABASE_URL and AMQP_URL (and CRM_QUEUE_MAX_BYTES, where the queue `crm` is to hold more or less than 1 GiB).
    WORKERS_PASSWORD, RELAY_PASSWORD, WEB_PASSWORD: makes the users quittance_of_workers, quittance_of_relay and
    quittance_of_web, or gives them these passwords; each may do what its processes do, and no more (docs/security.md).
    Ends when every queue has a leader.
    """
    database_url, amqp_url, crm_bytes, users = read_settings(
        lambda reader: (
            reader.database_url(),
            reader.amqp_url(),
            crm_queue_max_bytes(reader),
            database_users.passwords(reader),
        )
    )
    report = run(_init(database_url, amqp_url, crm_bytes, users))
    if as_json:
        output.print_json(report)
    else:
        output.say(f"ready: {output.count(report['tables'], 'table')}, {output.count(len(report['queues']), 'queue')}")


def crm_queue_max_bytes(reader: Reader) -> int:
    """CRM_QUEUE_MAX_BYTES: how much the queue `crm` holds before the relay waits; 1 GiB."""
    return reader.number("CRM_QUEUE_MAX_BYTES", CRM_QUEUE_MAX_BYTES, 1 << 10, 1 << 50)


async def _init(database_url: str, amqp_url: str, crm_bytes: int, users: Mapping[User, str]) -> dict[str, Any]:
    output.note(f"schema: applying to {place(database_url)}")
    await apply_schema(database_url, warn=lambda said: output.note(f"warning: {said}"))
    output.note("partitions: making those of the coming weeks and months")
    await partitions.maintain(database_url)
    async with database(database_url) as db:
        found = await differences(db)
        tables = await db.fetchval(TABLES)
    if found:
        listed = "\n  ".join(found)
        raise CouldNot(
            f"the tables were there before, and are not those of this version:\n  {listed}\n"
            "`init` creates what is missing and alters nothing: see CHANGELOG.md for the statements of this upgrade."
        )
    await _make_users(database_url, users)
    places = " or ".join(map(place, split(amqp_url)))
    output.note(f"broker: declaring at {places}, and waiting for the queues' leaders")
    try:
        await broker.declare(amqp_url, queues().values(), crm_bytes)
    except TopologyDiffers as error:
        raise CouldNot(DIFFERS.format(fault=error)) from error
    except BrokerAway as error:
        raise CouldNot(NO_LEADER.format(fault=error, vhost=vhost(split(amqp_url)[0]))) from error
    names = [*queues(), broker.CRM_QUEUE, broker.DEAD_LETTERS]
    made = [user.name for user in users]
    return {"tables": tables, "users": made, "exchanges": list(broker.EXCHANGES), "queues": names}


async def _make_users(database_url: str, users: Mapping[User, str]) -> None:
    if not users:
        return
    output.note(f"users: {', '.join(user.name for user in users)}")
    try:
        async with database(database_url) as db:
            await database_users.ensure(db, users)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedObjectError) as error:
        raise CouldNot(NO_USERS.format(fault=error)) from error


TABLES: Final = """
SELECT count(*) FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""
