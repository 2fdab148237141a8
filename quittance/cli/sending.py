"""Posting events to an ingress as Stripe does: signed, several at a time, sent again when it says 503."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import msgspec

from quittance.cli.event_files import FoundEvent

SIGNATURE_HEADER: Final = "Stripe-Signature"

# How long one answer may take: the ingress gives its own within 4 s and a little.
ANSWER_TIMEOUT: Final = 15.0

# An ingress that names no time, or no sane one.
USUAL_WAIT: Final = 1.0
LONGEST_WAIT: Final = 30.0


class Attempt(msgspec.Struct, frozen=True):
    """How sending one event once came out: the last answer's status, or None and why there was none."""

    status: int | None
    requests: int
    seconds: float
    error: str = ""


class Outcome(msgspec.Struct):
    """Everything that became of one event of a file, over all the times that it was sent."""

    event: FoundEvent
    attempts: list[Attempt] = msgspec.field(default_factory=list)

    @property
    def accepted(self) -> int:
        """How often it was answered with 200."""
        return sum(attempt.status == 200 for attempt in self.attempts)

    @property
    def worst(self) -> Attempt:
        """The attempt to show: one that failed if there is one, else the slowest."""
        return max(self.attempts, key=lambda attempt: (attempt.status != 200, attempt.seconds))


class Unreachable(Exception):
    """Nothing answers at the address."""


def signature(body: bytes, secret: str, timestamp: int) -> str:
    """The header that Stripe signs a webhook with: HMAC-SHA256 over `timestamp.body`, scheme v1."""
    signed = hmac.new(secret.encode(), b"%d." % timestamp + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={signed}"


class Sender:
    """Sends events to one address; `retries` bounds how often a 503 or a lost connection is tried again."""

    def __init__(self, session: aiohttp.ClientSession, url: str, secret: str, retries: int) -> None:
        self._session = session
        self._url = url
        self._secret = secret
        self._retries = retries
        self._answered = False

    async def send(self, body: bytes) -> Attempt:
        """Post `body` until it is answered with something other than 503, or the retries are used up.

        Raises Unreachable where nothing has answered at this address yet, to any event: the rest would only wait too.
        """
        began = time.monotonic()
        requests = 0
        while True:
            requests += 1
            status, wait, error = await self._post(body)
            if status not in (None, 503) or requests > self._retries:
                break
            await asyncio.sleep(wait)
        if status is None and not self._answered:
            raise Unreachable(error)
        return Attempt(status, requests, time.monotonic() - began, error)

    async def _post(self, body: bytes) -> tuple[int | None, float, str]:
        """One request: its status or None, how long to wait before another one, and what went wrong."""
        # Signed anew each time, as Stripe does: the ingress refuses a signature older than 300 s.
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            SIGNATURE_HEADER: signature(body, self._secret, int(time.time())),
        }
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                text = await answer.text(errors="replace")
                self._answered = True
                return answer.status, _wait(answer.headers.get("Retry-After")), "" if answer.status == 200 else text
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return None, USUAL_WAIT, str(error) or type(error).__name__


@asynccontextmanager
async def sender(url: str, secret: str, *, retries: int, concurrency: int) -> AsyncIterator[Sender]:
    """A Sender with a session of its own."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT)
    connector = aiohttp.TCPConnector(limit=concurrency)
    # A webhook goes where it was pointed at, whatever http_proxy says.
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as session:
        yield Sender(session, url, secret, retries)


async def send_all(
    sending: Sender, outcomes: Sequence[Outcome], order: Sequence[int], concurrency: int, told: Callable[[], None]
) -> None:
    """Send `outcomes[i].event` for each i of `order`, `concurrency` at a time, and note the attempts there."""
    todo = iter(order)

    async def lane() -> None:
        for index in todo:  # shared: each lane takes the next one
            outcome = outcomes[index]
            outcome.attempts.append(await sending.send(outcome.event.body))
            told()

    async with asyncio.TaskGroup() as lanes:
        for _ in range(min(concurrency, len(order))):
            lanes.create_task(lane())


def _wait(retry_after: str | None) -> float:
    """Seconds to wait as Retry-After says; its form as a date is not used by an ingress."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return USUAL_WAIT
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else USUAL_WAIT  # noqa: PLR0124 - NaN
