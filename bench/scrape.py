"""What the workers say of themselves: how large their batches are, and how long one takes."""

import asyncio
from collections.abc import Mapping
from urllib.request import urlopen

from msgspec import Struct

SUM, COUNT, SECONDS = "quittance_batch_events_sum", "quittance_batch_events_count", "quittance_batch_seconds_sum"


class Batches(Struct):
    """Of one worker: how many events it handled in how many transactions, and how long these took together."""

    events: float = 0.0
    batches: float = 0.0
    seconds: float = 0.0

    def since(self, before: "Batches") -> "Batches":
        """What came since."""
        return Batches(self.events - before.events, self.batches - before.batches, self.seconds - before.seconds)


async def batches(metrics: Mapping[str, str]) -> dict[str, Batches]:
    """By worker; `metrics` has the address of each one's /metrics."""
    return {name: _read(await asyncio.to_thread(_get, url)) for name, url in metrics.items()}


def _get(url: str) -> str:
    with urlopen(url, timeout=10) as answer:  # noqa: S310 - an address of this machine, put together by us
        return str(answer.read().decode())


def _read(text: str) -> Batches:
    found = dict.fromkeys((SUM, COUNT, SECONDS), 0.0)
    for line in text.splitlines():
        name, _, rest = line.partition("{")
        if name in found:
            found[name] += float(rest.rpartition(" ")[2])
    return Batches(found[SUM], found[COUNT], found[SECONDS])
