"""`quittance doctor`: what is wrong, in words, and with the cure."""

import asyncio
from collections import Counter
from typing import Annotated, Final

import typer

from quittance.broker import CRM_QUEUE_MAX_BYTES
from quittance.cli import output
from quittance.cli.doctor_broker import check_broker, quiet
from quittance.cli.doctor_checks import Check
from quittance.cli.doctor_database import check_database
from quittance.cli.doctor_outside import check_mail
from quittance.cli.doctor_settings import check_settings
from quittance.cli.filters import AsJson
from quittance.cli.init import crm_queue_max_bytes
from quittance.cli.running import read_settings, run
from quittance.settings import Reader

MARKS: Final = {"ok": "ok", "note": "--", "warning": "WARN", "fault": "FAULT"}


def doctor(
    *,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe/--no-probe",
            help="Try each binding with an empty message, which our workers answer and drop. Whoever else has bound a "
            "queue to our exchanges sees it too.",
        ),
    ] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for warnings too.")] = False,
    quiet_: Annotated[bool, typer.Option("--quiet", "-q", help="Print only what is wrong.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at everything that Quittance needs and does, and say what is wrong and how to mend it.

    Environment, broker (alarms, exchanges, queues, leaders, arguments, bindings, consumers), database (shape,
    partitions, clock), work that waits or failed, mail server. Changes nothing. Exit 1 where there is a fault.
    """
    read_settings(lambda _: None)
    checks = run(_check(probe=probe))
    if as_json:
        output.print_json(checks)
    else:
        _print([check for check in checks if not quiet_ or check.state in ("warning", "fault")], checks)
    counted = Counter(check.state for check in checks)
    if counted["fault"] or (strict and counted["warning"]):
        raise typer.Exit(1)


async def _check(*, probe: bool) -> list[Check]:
    """Everything; what a missing or wrong address makes impossible is left out, the environment's checks say why."""
    reader = Reader()
    amqp_url = _good(reader, reader.amqp_url())
    database_url = _good(reader, reader.database_url())
    crm_bytes = crm_queue_max_bytes(reader)
    checks = check_settings()
    mail = asyncio.create_task(check_mail())
    quiet_queues: set[str] = set()
    if amqp_url:
        checks += await check_broker(amqp_url, crm_bytes or CRM_QUEUE_MAX_BYTES, probe=probe)
        quiet_queues = await quiet(amqp_url)
    if database_url:
        checks += await check_database(database_url, quiet_queues=quiet_queues)
    checks += await mail
    # One area's checks together, in the order in which the areas came up.
    areas = list(dict.fromkeys(check.area for check in checks))
    return sorted(checks, key=lambda check: areas.index(check.area))


def _good(reader: Reader, value: str) -> str:
    """`value` where nothing was wrong with it."""
    faults, reader.faults = reader.faults, []
    return "" if faults else value


def _print(shown: list[Check], checks: list[Check]) -> None:
    area = ""
    for check in shown:
        if check.area != area:
            area = check.area
            output.heading(area)
        output.say(f"  {MARKS[check.state]:<5}  {check.says}")
        if check.cure:
            output.say(f"         cure: {check.cure}")
    counted = Counter(check.state for check in checks)
    output.say("")
    output.say(
        f"{output.count(counted['fault'], 'fault')}, {output.count(counted['warning'], 'warning')}, "
        f"{output.count(counted['ok'], 'check')} passed"
    )
