"""Reading event files: one event as JSON, a JSON array of events, or one event a line (NDJSON).

The bytes of each event are kept as they stand in the file, so that what is sent is what was recorded.
"""

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

SUFFIXES: Final = frozenset({".json", ".ndjson", ".jsonl"})

# What `object` says of an event: today's, and the thin events of Stripe's v2 API.
EVENT_OBJECTS: Final = frozenset({"event", "v2.core.event"})


class FoundEvent(msgspec.Struct, frozen=True):
    """An event in a file. `number` counts the file's events from 1; 0 where the file is one event."""

    file: Path
    number: int
    id: str
    type: str
    body: bytes

    @property
    def name(self) -> str:
        """The file, and which of its events."""
        return f"{self.file}#{self.number}" if self.number else str(self.file)


class NoEvent(msgspec.Struct, frozen=True):
    """A file, or a piece of one, that is no event; `named` says whether it was asked for by name."""

    name: str
    why: str
    named: bool


class _Shape(msgspec.Struct, frozen=True):
    id: Any = None
    type: Any = None
    object: Any = None
    data: Any = None


_array = msgspec.json.Decoder(list[msgspec.Raw])
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_shape = msgspec.json.Decoder(_Shape)


def read(paths: Sequence[Path]) -> tuple[list[FoundEvent], list[NoEvent]]:
    """The events of files, and of the event files that lie directly in folders (sorted); and what was none."""
    events: list[FoundEvent] = []
    others: list[NoEvent] = []
    for path, named in _files(paths):
        try:
            pieces = list(_pieces(path.read_bytes()))
        except OSError as error:
            others.append(NoEvent(str(path), f"cannot be read: {error.strerror}", named))
            continue
        for number, body in pieces:
            found = _event(path, number, body)
            if isinstance(found, str):
                others.append(NoEvent(f"{path}#{number}" if number else str(path), found, named))
            else:
                events.append(found)
        if not pieces:
            others.append(NoEvent(str(path), "is empty", named))
    return events, others


def with_fresh_id(event: FoundEvent) -> FoundEvent:
    """The same event under an id that was never used; nothing else of it is touched but the space between members."""
    fresh = f"evt_{uuid.uuid4().hex[:24]}"
    members = _fields.decode(event.body)
    members["id"] = msgspec.Raw(msgspec.json.encode(fresh))
    return msgspec.structs.replace(event, id=fresh, body=msgspec.json.encode(members))


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    for path in paths:
        if not path.is_dir():
            yield path, True
            continue
        for file in sorted(path.iterdir()):
            if file.suffix.lower() in SUFFIXES and file.is_file():
                yield file, False


def _pieces(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(0, the whole) for a file of one event, else (n, piece) for each element of an array or line of NDJSON."""
    start = content.lstrip()
    if not start:
        return
    if start[:1] == b"[":
        try:
            for number, raw in enumerate(_array.decode(content), 1):
                yield number, bytes(raw)
        except (msgspec.DecodeError, RecursionError):
            yield 0, content
        return
    lines = [line for line in content.splitlines() if line.strip()]
    # A file of one event written over many lines begins with a line that is no JSON by itself.
    if len(lines) > 1 and _is_json(lines[0]):
        yield from enumerate(lines, 1)
    else:
        yield 0, content


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _event(path: Path, number: int, body: bytes) -> FoundEvent | str:
    """The event that `body` is, or why it is none."""
    try:
        shape = _shape.decode(body)
    except (ValueError, RecursionError) as error:
        return f"is no JSON object: {error}"
    if not isinstance(shape.id, str) or not shape.id:
        return "is no event: it has no id"
    if not isinstance(shape.type, str) or not shape.type:
        return "is no event: it has no type"
    if shape.object not in EVENT_OBJECTS and not (shape.object is None and isinstance(shape.data, dict)):
        return f"is no event: it is a {shape.object!r}"
    return FoundEvent(path, number, shape.id, shape.type, body)
