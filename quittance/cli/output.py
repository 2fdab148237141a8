"""What the command line prints: JSON on stdout for programs, tables on stdout for people, everything else on stderr."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Redirected output has no width of its own; rich would fold cells at 80 columns, and nobody could grep for them.
WIDTH_OF_A_FILE: Final = 10_000

# Payloads are shaped by whoever pays: an escape sequence in one must not reach the terminal (C0 but tab and newline, DEL,
# C1, and the marks that turn the direction of writing round).
UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """`text` with each character that a terminal might obey written out as an escape."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def out() -> Console:
    """Where the answer goes."""
    return _console(sys.stdout)


def err() -> Console:
    """Where progress, questions and complaints go."""
    return _console(sys.stderr)


def _console(stream: Any) -> Console:
    width = None if stream.isatty() else WIDTH_OF_A_FILE
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=not stream.isatty())


def say(message: str) -> None:
    """A line for people, on stdout."""
    out().print(clean(message))


def note(message: str) -> None:
    """A line of progress or complaint, on stderr."""
    err().print(clean(message))


def print_json(value: Any) -> None:
    """One JSON array or object on stdout: times as RFC 3339 in UTC."""
    encoded = msgspec.json.encode(value, enc_hook=_plain)
    sys.stdout.write(msgspec.json.format(encoded, indent=2).decode() + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Iterable[str] = ()) -> None:
    """A table on stdout; `numbers` names the columns to align right. Line breaks within a cell become spaces."""
    right = set(numbers)
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(" ".join(cell(value).split()))) for value in row))
    _print_aligned(table)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Names and values one a line, on stdout; those without a value are left out."""
    table = Table(box=None, pad_edge=False, show_header=False, show_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value not in (None, "", [], ()):
            table.add_row(Text(name), Text(clean(cell(value))))
    _print_aligned(table)


def _print_aligned(table: Table) -> None:
    """A table without the blanks that rich fills its last column with."""
    console = out()
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.out(line.rstrip(), highlight=False)


def heading(text: str) -> None:
    """The title of a section, on stdout."""
    out().print()
    out().print(Text(clean(text), style="bold"))


def cell(value: object) -> str:
    """A value as people read it; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, list | tuple):
        return ", ".join(cell(part) for part in value)
    return str(value)


def moment(value: datetime) -> str:
    """A point in time to the second, in UTC and marked so: an incident is told in one time zone."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def mode(livemode: bool) -> str:
    """`live` or `test`, as in the CRM event's source."""
    return "live" if livemode else "test"


def money(amount: int | None, currency: str | None, exponent: int | None) -> str:
    """An amount for people: `100.00 eur`; the bare minor units where the exponent is not known."""
    if amount is None:
        return "unknown"
    if currency is None:
        return f"{amount} (minor units)"
    if exponent is None:
        return f"{amount} {currency} (minor units)"
    return f"{Decimal(amount).scaleb(-exponent):f} {currency}"


def length(seconds: float) -> str:
    """A length of time in its two largest units: `3 min 20 s`."""
    left = max(0, round(seconds))
    parts = []
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number} {name}")
    return " ".join(parts[:2]) or "0 s"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """`1 event`, `2 events`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def text_of(body: bytes) -> str:
    """An event's bytes as text; what is no UTF-8 is written out as escapes."""
    return body.decode(errors="backslashreplace")


def _plain(value: object) -> object:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(type(value).__name__)
