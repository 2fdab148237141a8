"""Several statements that write rows, sent as one: a round trip to Postgres costs more than a small batch's rows."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final

from quittance.locks import Connection

Row = tuple[Any, ...]

_parameter: Final = re.compile(r"\$(\d+)")


def columns(rows: Iterable[Row]) -> list[list[Any]]:
    """Rows turned into the columns that `unnest` takes; none where there are no rows."""
    return [list(column) for column in zip(*rows, strict=True)]


@cache
def together(*statements: str) -> str:
    """One statement that does what `statements` do, its parameters theirs in a row.

    All of them see the tables as they were before (data-modifying CTEs), so none may read what another writes.
    """
    steps, shift = [], 0
    for number, statement in enumerate(statements, 1):
        shifted = _parameter.sub(lambda found, by=shift: f"${int(found[1]) + by}", statement)  # type: ignore[misc]
        steps.append(f"step_{number} AS ({shifted})")
        shift += max((int(found) for found in _parameter.findall(statement)), default=0)
    return f"WITH {', '.join(steps)} SELECT"


async def save(db: Connection, *parts: tuple[str, Sequence[Row]]) -> None:
    """Write the rows of each part, (statement, rows), in one round trip; each statement takes its rows' columns as arrays.

    Parts without rows are left out. See `together` for what the statements may not do.
    """
    given = [(statement, rows) for statement, rows in parts if rows]
    if not given:
        return
    arguments = [column for _, rows in given for column in columns(rows)]
    statement = given[0][0] if len(given) == 1 else together(*(statement for statement, _ in given))
    await db.execute(statement, *arguments)
