"""`quittance init`: the schema, the partitions and the broker's topology. Declared here and nowhere else."""

from typing import Any, Final

from quittance import broker, partitions
from quittance.addresses import place, split, vhost
from quittance.broker import CRM_QUEUE_MAX_BYTES, BrokerAway, TopologyDiffers
from quittance.cli import output
from quittance.cli.connections import database
from quittance.cli.filters import AsJson
from quittance.cli.running import CouldNot, read_settings, run
from quittance.cli.schema_check import differences
from quittance.cli.workers_registry import queues
from quittance.database import apply_schema
from quittance.settings import Reader

DIFFERS: Final = (
    "A queue or exchange is on the broker with other arguments than this version declares:\n  {fault}\n"
    "Cure: stop ingest and relay, let the workers empty the queue, then delete it (`rabbitmqctl delete_queue NAME`) and "
    "run `quittance init` again. What is still in it is lost: `quittance events replay` brings it back from the archive."
)
NO_LEADER: Final = (
    "The broker does not answer as it should:\n  {fault}\n"
    "Cure, for a queue without leader: start the broker's other nodes; where there are none, the queue is lost: "
    "`rabbitmqctl delete_queue -p {vhost} NAME`, `quittance init`, then let Stripe send again what was in it."
)


def init(*, as_json: AsJson = False) -> None:
    """Create what is missing: tables, partitions, exchanges, queues, bindings. Safe to repeat; run it before any traffic.

    Needs DATABASE_URL and AMQP_URL (and CRM_QUEUE_MAX_BYTES, where the queue `crm` is to hold more or less than 1 GiB).
    Ends when every queue has a leader.
    """
    database_url, amqp_url, crm_bytes = read_settings(
        lambda reader: (reader.database_url(), reader.amqp_url(), crm_queue_max_bytes(reader))
    )
    report = run(_init(database_url, amqp_url, crm_bytes))
    if as_json:
        output.print_json(report)
    else:
        output.say(f"ready: {output.count(report['tables'], 'table')}, {output.count(len(report['queues']), 'queue')}")


def crm_queue_max_bytes(reader: Reader) -> int:
    """CRM_QUEUE_MAX_BYTES: how much the queue `crm` holds before the relay waits; 1 GiB."""
    return reader.number("CRM_QUEUE_MAX_BYTES", CRM_QUEUE_MAX_BYTES, 1 << 10, 1 << 50)


async def _init(database_url: str, amqp_url: str, crm_bytes: int) -> dict[str, Any]:
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
    places = " or ".join(map(place, split(amqp_url)))
    output.note(f"broker: declaring at {places}, and waiting for the queues' leaders")
    try:
        await broker.declare(amqp_url, queues().values(), crm_bytes)
    except TopologyDiffers as error:
        raise CouldNot(DIFFERS.format(fault=error)) from error
    except BrokerAway as error:
        raise CouldNot(NO_LEADER.format(fault=error, vhost=vhost(split(amqp_url)[0]))) from error
    names = [*queues(), broker.CRM_QUEUE, broker.DEAD_LETTERS]
    return {"tables": tables, "exchanges": list(broker.EXCHANGES), "queues": names}


TABLES: Final = """
SELECT count(*) FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""
