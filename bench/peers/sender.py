"""The load for a peer, in a process of its own: bench.sender's lives and client, for servers that may hang up.

Gunicorn's synchronous workers close the connection after each answer; then the next event begins with a new one, as it
does at Stripe. An answer of 5xx is counted, and the event sent again.
"""

import asyncio
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.bodies import numbered_lives
from bench.client import Door, Line
from bench.sender import PAUSE, TRIES, Job, Sent


class ClosingLine(Line):
    """One connection that hears when the server is about to close it."""

    last = False

    def data_received(self, data: bytes) -> None:
        """Asyncio calls this."""
        self.last = self.last or b"connection: close" in data.lower()
        super().data_received(data)


class Lane:
    """One sender: one request at a time, over one connection after the other."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._line: ClosingLine | None = None
        self.statuses: dict[str, int] = {}
        self.took: list[float] = []
        self.bytes = 0

    async def _post(self, body: bytes) -> int:
        if self._line is None:
            loop = asyncio.get_running_loop()
            _, self._line = await loop.create_connection(ClosingLine, self._door.host, self._door.port)
        status = await self._line.post(self._door.request(body))
        if self._line.last:
            self.close()
        return status

    async def send(self, event_id: str, body: bytes) -> None:
        """Post one event until it is accepted."""
        due = time.time()
        for _ in range(TRIES):
            status = await self._post(body)
            self.statuses[str(status)] = self.statuses.get(str(status), 0) + 1
            if 200 <= status < 300:
                break
            if status < 500:
                raise SystemExit(f"{event_id} was answered {status}")
            await asyncio.sleep(PAUSE)
        else:
            raise SystemExit(f"{event_id} was refused {TRIES} times: {self.statuses}")
        self.took.append(time.time() - due)
        self.bytes += len(body)

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()
            self._line = None


async def send(job: Job, door: Door) -> Sent:
    """Complete lives, as fast as they are taken."""
    lives = numbered_lives(job.run, 0, job.lives)
    lanes = [Lane(door) for _ in range(job.senders)]

    async def work(lane: Lane) -> None:
        for told in lives:
            for event_id, body in told:
                await lane.send(event_id, body)
        lane.close()

    began, cpu = time.time(), time.process_time()
    async with asyncio.timeout(job.deadline), asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(work(lane))
    statuses: dict[str, int] = {}
    for lane in lanes:
        for status, number in lane.statuses.items():
            statuses[status] = statuses.get(status, 0) + number
    return Sent(
        events=sum(len(lane.took) for lane in lanes),
        began=began,
        ended=time.time(),
        statuses=statuses,
        answer_times=sorted(took for lane in lanes for took in lane.took),
        cpu=time.process_time() - cpu,
        bytes=sum(lane.bytes for lane in lanes),
    )


def main() -> None:
    """Read the job from the command line, write what came of it."""
    job = msgspec.json.decode(sys.argv[1], type=Job)
    parts = urlsplit(job.url)
    door = Door(parts.hostname or "127.0.0.1", parts.port or 80, parts.path, job.secret)
    sent = uvloop.run(send(job, door))
    Path(job.result).write_bytes(msgspec.json.encode(sent))


if __name__ == "__main__":
    main()
