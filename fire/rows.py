"""All rows, in the order of the table."""

from typing import Final

from fire.faults import (
    broker,
    clock,
    cluster,
    crm,
    disk,
    load,
    mail,
    network,
    poison,
    postgres,
    processes,
    standby,
    stripe,
)
from fire.row import Row
from fire.system import BACKLOG


def table(backlog: int) -> tuple[Row, ...]:
    """Every row; `backlog`: how many events that one is to be."""
    return (
        *processes.ROWS,
        *broker.ROWS,
        *postgres.ROWS,
        *network.ROWS,
        *mail.ROWS,
        *stripe.ROWS,
        *clock.ROWS,
        *load.rows(backlog),
        *poison.ROWS,
        *cluster.ROWS,
        *standby.ROWS,
        *disk.ROWS,
        *crm.ROWS,
    )


ROWS: Final[tuple[Row, ...]] = table(BACKLOG)
