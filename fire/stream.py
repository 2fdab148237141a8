"""Stripe's side: a steady stream of complete lives, each event sent until it is answered 200, and then once more."""

import asyncio
import itertools
import time

import aiohttp

from bench.bodies import KINDS, MARK, Template, cut, digits, quote_id_of, templates
from dev.settled import Sent
from dev.stripe_events import sign

LANES = 24  # lives that are told at a time
PAUSE = 0.1  # seconds before an event is sent again; Stripe waits longer
PATIENCE = 120.0  # seconds
TIMEOUT = aiohttp.ClientTimeout(total=10)
GUEST = "Guest.{run}.{number}@example.com"


class Stream:
    """Lives of one run, whose quotes all end `paid`. `accepted` has every event that was answered 200.

    With `guests` each buyer is nobody's customer at Stripe yet, and buys twice, in two spellings of one address.
    """

    def __init__(self, url: str, secret: str, run: str, rate: float, *, guests: bool = False) -> None:
        self.url = url
        self.rate = rate  # events a second; may be changed while it runs
        self.accepted: dict[str, Sent] = {}
        self.quotes: list[str] = []  # whose lives were told to their end
        self.buyers: set[str] = set()  # the addresses, in lower case, of guests whose lives were
        self.answers: list[tuple[float, int]] = []  # monotonic time, status; 0 for none
        self._secret = secret
        self._run = run
        self.guests = guests
        self._lives = _of_guests(run) if guests else dict(zip(KINDS, templates(run), strict=True))
        self._ending = False
        self._next = 0.0
        self._numbers = itertools.count()

    async def run(self) -> None:
        """Tell lives until `end` is called; those that have begun are told to their end."""
        self._next = time.monotonic()
        connector = aiohttp.TCPConnector(limit=LANES)
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT, trust_env=False, connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(LANES):
                group.create_task(self._lane(session))

    def end(self) -> None:
        """Begin no more lives."""
        self._ending = True

    async def post(self, body: bytes) -> None:
        """Send one event that is not of the stream, until it is answered 200."""
        async with aiohttp.ClientSession(timeout=TIMEOUT, trust_env=False) as session:
            while await self._post(session, body) != 200:  # noqa: ASYNC110 - as in _send
                await asyncio.sleep(PAUSE)

    async def reached(self, accepted: int) -> None:
        """Wait until so many events have been accepted. Raises TimeoutError where no more are for too long."""
        seen, deadline = 0, 0.0
        while len(self.accepted) < accepted:
            if seen != len(self.accepted) or not deadline:
                seen, deadline = len(self.accepted), time.monotonic() + PATIENCE
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.accepted)} events accepted, and no more for too long")
            await asyncio.sleep(PAUSE)

    async def life(self) -> str:
        """Tell one life at once, beside the others; the quote, which is paid when all is handled."""
        async with aiohttp.ClientSession(timeout=TIMEOUT, trust_env=False) as session:
            return await self._life(session, next(self._numbers), due=False)

    async def _lane(self, session: aiohttp.ClientSession) -> None:
        while not self._ending:
            await self._life(session, next(self._numbers), due=True)

    async def _life(self, session: aiohttp.ClientSession, number: int, *, due: bool) -> str:
        """Tell a life to its end, each event when it is `due`, or at once."""
        copy, kind = divmod(number, len(self._lives))
        name, number_of_copy = list(self._lives)[kind], digits(copy)
        for each in self._lives[name]:
            if due:
                await self._turn()
            event = Sent(each.id_prefix + number_of_copy.decode(), each.type)
            await self._send(session, event, each.copy(number_of_copy))
        self.quotes.append(quote_id_of(self._run, name, number_of_copy))
        if self.guests:
            self.buyers.add(GUEST.format(run=self._run, number=number_of_copy.decode()).lower())
        return self.quotes[-1]

    async def _turn(self) -> None:
        """Wait until this stream's next event is due; what a fault held back is not made up for at once."""
        now = time.monotonic()
        self._next = max(self._next + 1 / self.rate, now - 0.5)
        await asyncio.sleep(self._next - now)

    async def _send(self, session: aiohttp.ClientSession, event: Sent, body: bytes) -> None:
        while await self._post(session, body) != 200:  # noqa: ASYNC110 - it is not a state that is waited for
            await asyncio.sleep(PAUSE)
        self.accepted[event.event_id] = event

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> int:
        headers = {"Stripe-Signature": sign(body, self._secret, time.time()), "Content-Type": "application/json"}
        try:
            async with session.post(self.url, data=body, headers=headers) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            status = 0
        self.answers.append((time.monotonic(), status))
        return status

    def first_answer(self, since: float) -> float | None:
        """Seconds from `since` (monotonic) to the first 200 after it."""
        return next((at - since for at, status in self.answers if at >= since and status == 200), None)

    def answered(self, status: int, since: float, until: float) -> int:
        """How often this was the answer between two moments (monotonic)."""
        return sum(since <= at <= until and was == status for at, was in self.answers)

    def unexpected(self, expected: frozenset[int]) -> set[int]:
        """Statuses that an honest sender should never see, but for those of a row that expects them."""
        return {status for _, status in self.answers} - {0, 200, 503} - expected


def _of_guests(run: str) -> dict[str, list[Template]]:
    address = GUEST.format(run=run, number=MARK)
    return {
        "guest": cut(run, "guest", "card", email=address.lower(), guest=True),
        "again": cut(run, "again", "card", email=address, guest=True),
    }
