"""What mutations begin from: the recorded payloads that STRIPE_PAYLOADS names, and the lives that dev/ makes."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any, Final

from dev.lives import LIVES, life
from dev.stripe_events import body
from tests.fuzz import smtp
from tests.fuzz.targets import SPLIT

# One of each type, and the shorter of two: enough to begin from, and soon decoded.
LARGEST: Final = 32_768  # bytes


@cache
def documents() -> tuple[bytes, ...]:
    """Events as JSON, one of each type from either source, in a fixed order."""
    found: dict[tuple[str, str], bytes] = {}
    for name in sorted(LIVES):
        for sent in life(name, 7).events:
            found.setdefault(("made", sent["type"]), body(sent))
    folder = os.environ.get("STRIPE_PAYLOADS", "")
    for path in sorted(Path(folder).glob("*.json")) if folder else ():
        raw = path.read_bytes()
        sent = json.loads(raw)
        if isinstance(sent, dict) and sent.get("object") == "event" and len(raw) <= LARGEST:
            found.setdefault(("recorded", sent["type"]), raw)
    return tuple(found[key] for key in sorted(found))


@cache
def events() -> tuple[dict[str, Any], ...]:
    """The same, decoded; not to be changed."""
    return tuple(json.loads(document) for document in documents())


def of(target: str) -> list[bytes]:
    """What the fuzzer begins from."""
    if target == "smtp":
        return list(smtp.SEEDS)
    head = b"t=1790000000,v1=" + b"0" * 64 + SPLIT if target == "signature" else b""
    return [head + document for document in documents()]
