"""Publishes that wait for their confirm: each a future, none waits longer than it was given."""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple
from uuid import uuid4

from quittance.broker import BrokerAway, NotInTime, NotTaken, Unroutable

# How late a lapse of time may be noticed, in seconds: one look at all that wait costs less than a timer for each.
SWEEP: Final = 0.05
_TAG_DIGITS: Final = 12


class Waiting(NamedTuple):
    """A publish without its confirm."""

    future: "asyncio.Future[None]"
    deadline: float  # loop time


class Confirms:
    """The publishes of one channel, numbered from 1 as the broker numbers them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._last = 0
        self._waiting: dict[int, Waiting] = {}  # in order of tags
        self._unroutable: set[int] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        # An id unique per attempt, which names the tag: with one that may be in flight twice, a return could not be
        # told from a confirm.
        self._ids = uuid4().hex[:-_TAG_DIGITS]

    def add(self, timeout: float) -> tuple[str, "asyncio.Future[None]"]:
        """The next publish: its message_id, and what becomes of it within `timeout` seconds."""
        self._last += 1
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting[self._last] = Waiting(future, self._loop.time() + timeout)
        if timeout < SWEEP:
            self._loop.call_later(timeout, self._give_up)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP, self._sweep)
        return f"{self._ids}{self._last:0{_TAG_DIGITS}x}", future

    def take_back(self) -> None:
        """The newest publish was not sent after all."""
        self._waiting.pop(self._last)
        self._last -= 1

    def returned(self, message_id: str) -> None:
        """What came back with this id reached no queue. Raises ValueError where it is none of ours."""
        if not message_id.startswith(self._ids):
            raise ValueError("a message came back that was not sent here")
        self._unroutable.add(int(message_id[-_TAG_DIGITS:], 16))

    def settle(self, tag: int, *, multiple: bool, taken: bool) -> None:
        """The broker's word on `tag`, and with `multiple` on all before it (all, where it is 0)."""
        if not 0 < tag <= self._last and not (multiple and tag == 0):
            raise ValueError(f"a confirm of {tag}, which was not sent")
        if not multiple:
            self._settle_one(tag, taken)
            return
        upto = []
        for waiting in self._waiting:
            if 0 < tag < waiting:
                break
            upto.append(waiting)
        for one in upto:
            self._settle_one(one, taken)
        if self._unroutable:
            self._unroutable = {one for one in self._unroutable if 0 < tag < one}

    def fail(self, error: Callable[[], BrokerAway]) -> None:
        """Nothing that waits will be confirmed any more."""
        for waiting in self._waiting.values():
            if not waiting.future.done():
                waiting.future.set_exception(error())
        self._waiting.clear()
        self._unroutable.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _settle_one(self, tag: int, taken: bool) -> None:
        came_back = tag in self._unroutable
        self._unroutable.discard(tag)
        waiting = self._waiting.pop(tag, None)
        if waiting is None or waiting.future.done():
            return  # nobody waits for it any more
        if came_back:
            waiting.future.set_exception(Unroutable("no queue is bound for it"))
        elif taken:
            waiting.future.set_result(None)
        else:
            waiting.future.set_exception(NotTaken("the queue is full"))

    def _sweep(self) -> None:
        self._give_up()
        self._sweeper = self._loop.call_later(SWEEP, self._sweep) if self._waiting else None

    def _give_up(self) -> None:
        now = self._loop.time()
        late = [tag for tag, waiting in self._waiting.items() if waiting.deadline <= now]
        for tag in late:
            waiting = self._waiting.pop(tag)
            if not waiting.future.done():
                waiting.future.set_exception(NotInTime("not confirmed in time"))
