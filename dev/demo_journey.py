"""A buyer's way in the demo: a quote is published, opened, checked out and paid by plain HTTP; and what came of it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import aiohttp
from rich.table import Table

from dev.buyer import Buyer, Seen
from dev.crm import Crm
from dev.demo_report import row, table
from dev.mailbox import Mailbox
from dev.samples import sample

T = TypeVar("T")

PATIENCE: Final = 30.0  # seconds, for the payment to be told to everybody
LOOK_EVERY: Final = 0.1
CHECK_OUT: Final = "Check out"
PAY: Final = "Pay"
ADDRESS: Final = "bea@buyers.example"


@dataclass
class Journey:
    """Each step with what was answered, and what is not as it must be."""

    steps: list[tuple[str, str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def took(self, step: str, where: str, said: str) -> None:
        """A step was made."""
        self.steps.append((step, where, said))

    def shown(self) -> Table:
        """For people."""
        made = table("A buyer's way, without a browser", "step", "where", "answer")
        for each in self.steps:
            row(made, *each)
        return made


class Wrong(Exception):
    """A step went wrong in these words; those after it make no sense."""


@dataclass(frozen=True)
class Places:
    """Where the journey leads: the quotes API and a token for it, Stripe, the CRM, the mails."""

    api: str
    token: str
    stripe: str
    crm: Crm
    mails: Mailbox


async def travelled(quote_id: str, places: Places) -> Journey:
    """Publish a quote, pay it as a buyer does, and wait until the page, the CRM and a mail say so."""
    journey = Journey()
    try:
        async with aiohttp.ClientSession(trust_env=False) as http:
            await _travel(quote_id, places, Buyer(http), http, journey)
    except Wrong as wrong:
        journey.wrong.append(f"{quote_id}: {wrong}")
    except (aiohttp.ClientError, TimeoutError, LookupError) as trouble:
        journey.wrong.append(f"{quote_id}: {type(trouble).__name__}: {trouble}")
    return journey


async def _travel(quote_id: str, places: Places, buyer: Buyer, http: aiohttp.ClientSession, journey: Journey) -> None:
    url = await _publish(quote_id, places, http, journey)
    page = await buyer.open(url)
    _must(page.status == 200 and page.offer == "open", "the quote's page does not offer Check out", page)
    _must(page.html.count(f">{CHECK_OUT}</button>") == 2, "Check out does not stand at the top and at the bottom", page)
    journey.took("opens the quote", page.url, page.headlines[0])

    hosted = await buyer.press(page, CHECK_OUT)
    _must(hosted.came_by == (303, 200) and hosted.url.startswith(places.stripe), "Check out leads elsewhere", hosted)
    journey.took(f"presses {CHECK_OUT}", hosted.url, "the stand-in's page, by 303")

    back = await buyer.press(hosted, PAY, email=ADDRESS, name="Bea Bright")
    _must(back.came_by == (303, 200) and back.url.startswith(f"{url}/"), "paying does not lead back", back)
    journey.took(f"presses {PAY}, and is led back", back.url, back.headlines[0])

    page = await _until_paid(buyer, url)
    journey.took("opens the quote again", page.url, next(text for text in page.headlines if text.startswith("Paid")))
    told = await _told(quote_id, places.crm)
    journey.took("the CRM is told", "crm.events", " → ".join(told))
    journey.took("the seller is mailed", *await _mailed(quote_id, places.mails))


async def _publish(quote_id: str, places: Places, http: aiohttp.ClientSession, journey: Journey) -> str:
    address = f"{places.api}/v1/quotes/{quote_id}"
    headers = {"Authorization": f"Bearer {places.token}"}
    async with http.put(address, json=sample("en", quote_id), headers=headers) as answer:
        said: dict[str, Any] = await answer.json(content_type=None)
        if answer.status != 201:
            raise Wrong(f"publishing is answered {answer.status}, must be 201: {said}")
    journey.took("the seller publishes it", f"PUT {address}", "201")
    return str(said["url"])


def _must(right: bool, otherwise: str, page: Seen) -> None:
    if not right:
        raise Wrong(f"{otherwise}: {page.url} by {page.came_by}, {page.offer}, {[*page.headlines]}")


async def _until_paid(buyer: Buyer, url: str) -> Seen:
    async def look() -> Seen | None:
        page = await buyer.open(url)
        return page if page.offer == "paid" else None

    page = await _wait(look)
    if page is None:
        page = await buyer.open(url)
        raise Wrong(f"its page must say that it is paid, and says {page.offer}: {[*page.headlines]}")
    _must(f">{CHECK_OUT}<" not in page.html, "a paid quote offers Check out", page)
    return page


async def _told(quote_id: str, crm: Crm) -> list[str]:
    async def look() -> bool | None:
        changes = crm.quotes.get(quote_id, [])
        return True if changes and changes[-1].data["status"] == "paid" else None

    right = await _wait(look)
    first = {change.sequence: change.data["status"] for change in crm.quotes.get(quote_id, [])}
    statuses = list(first.values())
    told = [status for place, status in enumerate(statuses) if statuses[:place][-1:] != [status]]
    if right is None or list(first) != list(range(1, len(first) + 1)):
        raise Wrong(f"the CRM must be told that it is paid, and was told {first}")
    return told


async def _mailed(quote_id: str, mails: Mailbox) -> tuple[str, str]:
    async def look() -> tuple[str, str] | None:
        about = [mail for mail in mails.mails if quote_id in mail.subject + mail.text]
        return (", ".join(about[0].recipients), about[0].subject) if about else None

    found = await _wait(look)
    if found is None:
        raise Wrong("nobody was mailed that it is paid")
    return found


async def _wait(look: Callable[[], Awaitable[T | None]]) -> T | None:
    """The first result that is not None; None where patience ends."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while True:
                if (found := await look()) is not None:
                    return found
                await asyncio.sleep(LOOK_EVERY)
    return None
