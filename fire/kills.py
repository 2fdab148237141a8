"""`python -m fire.kills --at POINT --nth N MODULE…`: run one of our programs, and kill it (-9) at a named point.

The points are put around the runtime's own functions here: the product knows nothing of them.

    before-effect   a batch is about to be handled        before-commit   it was handled, and is not committed
    after-commit    it is committed, and not acked        after-publish   published and confirmed; the relay has not
                                                                          deleted it, ingest has not answered

`--on EVENT` instead: it dies each time that it handles this event.
"""

import argparse
import os
import runpy
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from ingest.publisher import Publisher
from workers.runtime import batch, relay

Work = Callable[..., Awaitable[Any]]


def killing(work: Work, nth: int, *, before: bool) -> Work:
    """`work`, at whose `nth` call the process dies: before it begins, or when it is done."""
    calls = 0

    async def wrapped(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if before and calls >= nth:
            os.kill(os.getpid(), signal.SIGKILL)
        result = await work(*arguments, **more)
        if calls >= nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


def dying_of(work: Work, event_id: str) -> Work:
    """`within` of a batch, which no process survives that has `event_id` in it."""

    async def wrapped(db: Any, queue: str, handle: Any, events: Any) -> Any:
        if any(event.id == event_id for event in events):
            os.kill(os.getpid(), signal.SIGKILL)
        return await work(db, queue, handle, events)

    return wrapped


# Where each point lies: whose function, and whether it is before the call or after it.
PLACES: Final[Mapping[str, tuple[tuple[Any, str, bool], ...]]] = {
    "before-effect": ((batch, "within", True),),
    "before-commit": ((batch, "within", False),),
    "after-commit": ((batch, "run", False),),
    "after-publish": ((relay, "publish_in_waves", False), (Publisher, "publish", False)),
}


def arm(point: str, nth: int) -> None:
    """Put the end of this process at `point`."""
    for owner, name, before in PLACES[point]:
        setattr(owner, name, killing(getattr(owner, name), nth, before=before))


def main() -> None:
    """Arm, and become the program."""
    parser = argparse.ArgumentParser(prog="python -m fire.kills", description=__doc__)
    when = parser.add_mutually_exclusive_group(required=True)
    when.add_argument("--at", choices=PLACES)
    when.add_argument("--on", metavar="EVENT")
    parser.add_argument("--nth", type=int, default=1, help="the passage at which it dies (%(default)s)")
    parser.add_argument("program", nargs="+", help="as after `python -m`: ingest, or workers and their names")
    chosen = parser.parse_args()
    if chosen.on:
        setattr(batch, "within", dying_of(batch.within, chosen.on))  # noqa: B010 - it is not of that type
    else:
        arm(chosen.at, chosen.nth)
    sys.argv = chosen.program
    runpy.run_module(chosen.program[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
