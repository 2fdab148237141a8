"""The load, in a process of its own: complete lives, as fast as they are taken or at a steady rate.

python -m bench.sender '{"url": …}'     # Job as JSON; Sent is written to the file that it names
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from bench.bodies import numbered_lives
from bench.client import Door, Line, lines

# An event that is answered with 503 is sent again, as Stripe would, but sooner; so often at most.
TRIES: Final = 50
PAUSE: Final = 0.1  # seconds

# Of so many lives the next event is sent in turn, at a steady rate.
ACTIVE_LIVES: Final = 64

Row = tuple[str, float, float]  # event id, when it was due, when it was answered; Unix seconds


class NotTakenError(RuntimeError):
    """Ingest refused an event, or was not there for it."""


class Job(msgspec.Struct, kw_only=True):
    """What to send: `lives` lives from number `first` on. With `rate` (events a second) steadily, else as fast as `senders`
    connections can. `signed_before`: every request is built and signed before the clock starts, for figures of the other
    side alone; few enough that they fit in memory and are sent within the 300 s for which a signature is good.
    """

    url: str
    secret: str
    run: str
    lives: int
    senders: int
    first: int = 0
    rate: float | None = None
    signed_before: bool = False
    result: str = ""  # a file for Sent; runs.load names one
    record: bool = False  # whether Sent has the rows
    deadline: float = 600.0  # seconds for all of it


class Sent(msgspec.Struct, kw_only=True):
    """What came of it. Times in Unix seconds; answer times in seconds, sorted."""

    events: int
    began: float
    ended: float
    statuses: dict[str, int]
    answer_times: list[float]
    cpu: float
    bytes: int
    rows: list[Row] | None = None


class Sending:
    """The events sent so far."""

    def __init__(self, request: Callable[[bytes], bytes], *, record: bool = False) -> None:
        self.request = request
        self.record = record
        self.statuses: dict[str, int] = {}
        self.took: list[float] = []
        self.rows: list[Row] = []
        self.bytes = 0

    async def send(self, line: Line, event_id: str, body: bytes, due: float) -> None:
        """Post one event until it is accepted."""
        for _ in range(TRIES):
            status = await line.post(self.request(body))
            self.statuses[str(status)] = self.statuses.get(str(status), 0) + 1
            if status == 200:
                break
            if status != 503:
                raise NotTakenError(f"{event_id} was answered {status}")
            await asyncio.sleep(PAUSE)
        else:
            raise NotTakenError(f"{event_id} was answered 503 {TRIES} times")
        now = time.time()
        self.took.append(now - due)
        self.bytes += len(body)
        if self.record:
            self.rows.append((event_id, due, now))


async def fast(sending: Sending, all_lines: Sequence[Line], lives: Iterator[list[tuple[str, bytes]]]) -> None:
    """Each connection takes a life, sends its events one after the other, and takes the next."""

    async def lane(line: Line) -> None:
        for told in lives:
            for event_id, body in told:
                await sending.send(line, event_id, body, time.time())

    async with asyncio.TaskGroup() as group:
        for line in all_lines:
            group.create_task(lane(line))


def interleaved(lives: Iterator[list[tuple[str, bytes]]], at_a_time: int) -> Iterator[tuple[str, bytes]]:
    """The events of many lives in turn, each life's own in causal order."""
    active = [iter(told) for told in itertools.islice(lives, at_a_time)]
    while active:
        going = []
        for told in active:
            event = next(told, None)
            if event is None:
                fresh = next(lives, None)
                if fresh is None:
                    continue
                told = iter(fresh)  # noqa: PLW2901 - its place is taken by the next life
                event = next(told)
            yield event
            going.append(told)
        active = going


async def steady(
    sending: Sending,
    all_lines: Sequence[Line],
    lives: Iterator[list[tuple[str, bytes]]],
    rate: float,
    at_a_time: int = ACTIVE_LIVES,
) -> None:
    """One event every 1/rate seconds. An event that finds no free connection counts from when it was due."""
    events = enumerate(interleaved(lives, at_a_time))
    began = time.time()

    async def lane(line: Line) -> None:
        for index, (event_id, body) in events:
            due = began + index / rate
            if (left := due - time.time()) > 0:
                await asyncio.sleep(left)
            await sending.send(line, event_id, body, due)

    async with asyncio.TaskGroup() as group:
        for line in all_lines:
            group.create_task(lane(line))


async def send(job: Job) -> Sent:
    """Do the job."""
    door = Door.at(job.url, job.secret)
    lives = numbered_lives(job.run, job.first, job.lives)
    request: Callable[[bytes], bytes] = door.request
    if job.signed_before:
        lives = iter([[(event_id, door.request(body)) for event_id, body in told] for told in lives])
        request = bytes
    sending = Sending(request, record=job.record)
    all_lines = await lines(door, job.senders)
    began, cpu = time.time(), time.process_time()
    async with asyncio.timeout(job.deadline):
        if job.rate is None:
            await fast(sending, all_lines, lives)
        else:
            await steady(sending, all_lines, lives, job.rate)
    ended = time.time()
    cpu = time.process_time() - cpu
    for line in all_lines:
        line.close()
    return Sent(
        events=len(sending.took),
        began=began,
        ended=ended,
        statuses=sending.statuses,
        answer_times=sorted(sending.took),
        cpu=cpu,
        bytes=sending.bytes,
        rows=sending.rows if job.record else None,
    )


def main() -> None:
    """Read the job from the command line, write what came of it."""
    job = msgspec.json.decode(sys.argv[1], type=Job)
    try:
        sent = uvloop.run(send(job))
    except* NotTakenError as problem:
        sys.exit(str(problem.exceptions[0]))
    Path(job.result).write_bytes(msgspec.json.encode(sent))


if __name__ == "__main__":
    main()
