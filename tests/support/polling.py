"""Waiting for something to become true, with a deadline; never a sleep of a guessed length."""

# ruff: noqa: ASYNC109 - the deadline is what this is for

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(check: Callable[[], Awaitable[T]], timeout: float = ..., every: float = ...) -> T: ...
@overload
async def eventually(check: Callable[[], T], timeout: float = ..., every: float = ...) -> T: ...
async def eventually(check: Callable[[], Any], timeout: float = 30.0, every: float = 0.02) -> Any:
    """The first true result of `check`, which may be async, or may raise AssertionError for "not yet".

    Raises AssertionError with what was seen last, when `timeout` seconds have passed.
    """
    deadline = time.monotonic() + timeout
    while True:
        seen: object
        try:
            result = check()
            value = await result if inspect.isawaitable(result) else result
            if value:
                return value
            seen = value
        except AssertionError as error:
            seen = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s; last seen: {seen!r}")
        await asyncio.sleep(every)
