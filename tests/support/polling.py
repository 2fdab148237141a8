"""Waiting for something to become true, with a deadline; never a sleep of a guessed length."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(check: Callable[[], T | Awaitable[T]], timeout: float = 10.0, every: float = 0.02) -> T:  # noqa: ASYNC109
    """The first true result of `check`, which may be async, or may raise AssertionError for "not yet".

    Raises AssertionError with what was seen last, when `timeout` seconds have passed.
    """
    deadline = time.monotonic() + timeout
    while True:
        seen: object
        try:
            result = check()
            value: T = await result if inspect.isawaitable(result) else result
            if value:
                return value
            seen = value
        except AssertionError as error:
            seen = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s; last seen: {seen!r}")
        await asyncio.sleep(every)
