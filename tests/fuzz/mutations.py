"""Events of Stripe's with fields deleted, retyped, nested, huge, or not Unicode: bytes that JSON alone would not make."""

import json
from copy import deepcopy
from typing import Any, Final

from hypothesis import strategies as st

# Put in as they are, where a value was: what no encoder writes.
RAW: Final = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e400",
    b"-1e-400",
    b"1" * 5_000,
    b"9223372036854775808",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"[" * 900 + b"]" * 900,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 900 + b"1" + b"}" * 900,
    b'"\xff\xfe"',
    b'"\xed\xa0\x80"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"a\\u0000b"',
    b'"\x01"',
    b"tru",
    b"",
    b"{}{}",
)
VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 10**15, 10**15 + 1, 2**31, 2**53, 2**63 - 1, -(2**63), 0.5, 1.7e308, "", " ", "0", "1",
    "\x00", "\ud800", "a\ud83d", "\U0001f600", "x" * 256, "x" * 70_000, "cs_1", "evt_1\x00", "paid", "usd", "ZZZ",
    [], [[]], [None], [1, "a", {}], {}, {"id": None}, {"id": "x_1"}, {"data": None}, {"data": [None, 1]},
    {"quote_id": 7}, {"quote_id": "\x00"}, {"": ""}, [{"id": "x_1"}] * 300,
)  # fmt: skip
TOKEN: Final = "\u2400raw {}\u2400"

Path = tuple[str | int, ...]


def paths_of(value: Any, before: Path = ()) -> list[Path]:
    """Every place in a document, its own first."""
    found = [before]
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        found += paths_of(inner, (*before, step))
    return found


def hold(document: Any, path: Path) -> Any:
    """What holds the last step of `path`; None where an earlier change took it away."""
    for step in path[:-1]:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return None
    return document if isinstance(document, dict | list) else None


@st.composite
def mutated(draw: st.DrawFn, events: tuple[dict[str, Any], ...], *, keep: tuple[str, ...] = ()) -> bytes:
    """One of `events` with one to four changes; the members `keep` of the event itself stay."""
    document = deepcopy(draw(st.sampled_from(events)))
    raw: dict[bytes, bytes] = {}
    for _ in range(draw(st.integers(1, 4))):
        places = [path for path in paths_of(document)[1:] if path[0] not in keep]
        path = draw(st.sampled_from(places)) if places else ()
        holder = hold(document, path)
        if holder is None or not path:
            continue
        last: Any = path[-1]
        match draw(st.sampled_from(["delete", "retype", "retype", "nest", "raw", "double", "rename"])):
            case "delete":
                del holder[last]
            case "retype":
                holder[last] = deepcopy(draw(st.sampled_from(VALUES)))
            case "nest":
                holder[last] = draw(st.sampled_from([{"id": holder[last]}, [holder[last]], {"data": [holder[last]]}]))
            case "raw":
                token = TOKEN.format(len(raw))
                raw[json.dumps(token).encode()] = draw(st.sampled_from(RAW))
                holder[last] = token
            case "double":
                holder[last] = [holder[last], deepcopy(holder[last])]
            case "rename" if isinstance(holder, dict):
                holder[draw(st.sampled_from(["\ud800", "\x00", "", "x" * 1_000, "id", "object"]))] = holder.pop(last)
    body = json.dumps(document, separators=(",", ":")).encode()
    for token_bytes, instead in raw.items():
        body = body.replace(token_bytes, instead)
    return body
