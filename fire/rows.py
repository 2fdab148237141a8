"""All rows, in the order of the table."""

from typing import Final

from fire.faults import broker, load, network, poison, postgres, processes
from fire.row import Row

ROWS: Final[tuple[Row, ...]] = (*processes.ROWS, *broker.ROWS, *postgres.ROWS, *network.ROWS, *load.ROWS, *poison.ROWS)
