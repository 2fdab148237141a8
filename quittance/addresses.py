"""Several addresses of one broker cluster in one text, comma-separated: the first that answers is taken."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

T = TypeVar("T")

# A node that refuses is passed over at once; one that keeps silent (frozen, cut off) is given this long before the next
# is asked as well (seconds).
HEAD_START: Final = 1.0

# Only where an address begins: a comma may stand inside one, as in a password.
_BETWEEN: Final = re.compile(r"\s*,\s*(?=[A-Za-z][A-Za-z0-9+.-]*://|$)")

_leaving: set["asyncio.Task[None]"] = set()  # the event loop itself holds tasks weakly


def split(urls: str) -> tuple[str, ...]:
    """The addresses in `urls`, in order, each once; at least one, which is empty where `urls` is."""
    found = tuple(dict.fromkeys(filter(None, _BETWEEN.split(urls.strip()))))
    return found or ("",)


def place(url: str) -> str:
    """An address without its user and password, for people."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:  # whose text may hold a piece of the password
        return "an address that is none"
    return f"{parts.hostname or 'its socket'}{port}{parts.path}"


def vhost(url: str) -> str:
    """The name space of the broker that an address names; `/` where it names none."""
    return unquote(urlsplit(url).path[1:]) or "/"


async def first_to_answer(
    urls: str,
    attempt: Callable[[str], Awaitable[T]],
    drop: Callable[[T], Awaitable[None]],
    failed: Callable[[str], Exception],
) -> T:
    """What `attempt` makes of the first address that answers; where none does, raises `failed` with what each one said.

    The next is asked when one fails, or when it has been silent for HEAD_START; what answers too late is `drop`ped. With
    a single address, this is `attempt`, with its own errors.
    """
    waiting = list(split(urls))
    if len(waiting) == 1:
        return await attempt(waiting[0])
    trying: dict[asyncio.Future[T], str] = {}
    faults: list[str] = []
    try:
        while waiting or trying:
            if waiting:
                url = waiting.pop(0)
                trying[asyncio.ensure_future(attempt(url))] = url
            done, _ = await asyncio.wait(
                trying, timeout=HEAD_START if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                url = trying.pop(task)
                error = asyncio.CancelledError() if task.cancelled() else task.exception()
                if error is None:
                    return task.result()
                faults.append(f"{place(url)}: {error}")
        raise failed("; ".join(faults))
    finally:
        if trying:  # beside: a silent one may be slow to be let go
            leaving = asyncio.create_task(_let_go(list(trying), drop))
            _leaving.add(leaving)
            leaving.add_done_callback(_leaving.discard)


async def _let_go(tasks: list["asyncio.Future[T]"], drop: Callable[[T], Awaitable[None]]) -> None:
    for task in tasks:
        task.cancel()
    for answer in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(answer, BaseException):
            await drop(answer)
