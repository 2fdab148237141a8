"""The quote's page, the page after Stripe, and the small answer that both ask for again while a payment is on its way."""

import re
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web
from asyncpg.pool import Pool

from quittance.checkouts import PublishedPage, load_page
from quittance.database import CONNECT_TIMEOUT
from quittance.stripe_client import StripeSettings
from web.limits import Limiter
from web.page.assets import by_address
from web.page.notices import Notice, notice_of, notice_on_return
from web.page.rendering import RENDERER
from web.page.view import Shown, quote_of
from web.problems import Problem, json_response, not_found
from web.security import client_address

TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{22,64}")

# Of one address, behind which a whole company may sit. A page that waits asks every second at first.
CALLS_PER_SECOND: Final = 10.0
CALLS_AT_ONCE: Final = 60
# Addresses that lead nowhere: nobody needs many of them.
MISSES_PER_SECOND: Final = 1.0
MISSES_AT_ONCE: Final = 20

FOR_EVER: Final = "public, max-age=31536000, immutable"
# Without JavaScript a page asks again by loading itself, each time later than the last.
FIRST_REFRESH: Final = 4  # seconds
LONGEST_REFRESH: Final = 120
LATE: Final = 6  # this many times, about a minute: it takes longer than usual


@dataclass(frozen=True)
class Refresh:
    """How a page without JavaScript loads itself again; `count` goes into the next one's address."""

    seconds: int
    count: int


class QuotePage:
    """`routes` is what the application serves."""

    def __init__(self, pool: Pool, stripe: StripeSettings) -> None:
        self._pool = pool
        self._stripe = stripe
        self._calls = Limiter(CALLS_PER_SECOND, CALLS_AT_ONCE)
        self._misses = Limiter(MISSES_PER_SECOND, MISSES_AT_ONCE)

    def routes(self) -> list[web.RouteDef]:
        """Of people's browsers: nobody needs a token of the API."""
        return [
            web.get("/q/{token}", self.quote),
            web.get("/q/{token}/return", self.returned),
            web.get("/q/{token}/state", self.state),
            web.get("/q/{token}/checkout", self.reloaded),
            web.get("/static/{name}", self.static),
        ]

    async def quote(self, request: web.Request) -> web.Response:
        """GET /q/{token}: the quote, with Check out or with the reason why not."""
        shown = await self._shown(request)
        notice = notice_of(shown)
        quote = quote_of(shown)
        return request.app[RENDERER].answer(
            "quote.html", quote.words, quote=quote, notice=notice, ask="state", refresh=_refresh(request, notice)
        )

    async def returned(self, request: web.Request) -> web.Response:
        """GET /q/{token}/return: where Stripe sends a buyer who has paid. What it says is what our record says."""
        shown = await self._shown(request)
        notice = notice_on_return(shown)
        quote = quote_of(shown)
        late = notice.passing and _count(request) >= LATE
        return request.app[RENDERER].answer(
            "return.html",
            quote.words,
            quote=quote,
            notice=notice,
            ask="state?at=return",
            late=late,
            refresh=_refresh(request, notice),
        )

    async def state(self, request: web.Request) -> web.Response:
        """GET /q/{token}/state: the notice as JSON; `?at=return` as the page after Stripe has it."""
        shown = await self._shown(request)
        notice = notice_on_return(shown) if request.query.get("at") == "return" else notice_of(shown)
        return json_response({"offer": shown.offer, **_json(notice)})

    async def reloaded(self, request: web.Request) -> web.Response:
        """GET /q/{token}/checkout: who goes back to the address of a click that failed is led to the quote."""
        token = request.match_info["token"]
        if not TOKEN.fullmatch(token):
            raise not_found()
        return web.Response(status=303, headers={hdrs.LOCATION: f"{request.app[RENDERER].prefix}/q/{token}"})

    async def static(self, request: web.Request) -> web.Response:
        """GET /static/{name}: style, script, icon."""
        asset = by_address().get(request.match_info["name"])
        if asset is None:
            raise not_found()
        headers = {str(hdrs.CACHE_CONTROL): FOR_EVER}
        return web.Response(body=asset.body, content_type=asset.content_type, charset="utf-8", headers=headers)

    async def _shown(self, request: web.Request) -> Shown:
        """What is known of the quote. Raises Problem: 404 for a token that is none or not known, 429 too often."""
        address = client_address(request)
        if (seconds := self._calls.wait(address)) is not None:
            raise _too_often(seconds)
        token = request.match_info["token"]
        page = None
        if TOKEN.fullmatch(token):
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
                page = await load_page(db, token)
        if page is None:
            if (seconds := self._misses.wait(address)) is not None:
                raise _too_often(seconds)
            raise not_found()
        return shown_of(page, self._stripe)


def shown_of(page: PublishedPage, stripe: StripeSettings) -> Shown:
    """What a page shows of what is known."""
    quote = page.quote
    return Shown(
        token=quote.page_token,
        content=quote.content,
        totals=quote.totals,
        offer=page.offer(stripe),
        livemode=page.livemode,
        account_name=page.account_name,
        payment=page.payment,
        attempt=page.attempt,
    )


def _json(notice: Notice | None) -> dict[str, object]:
    if notice is None:
        return {"passing": False}  # and no title: Check out is offered
    return {
        "state": notice.state,
        "passing": notice.passing,
        "tone": notice.tone,
        "title": notice.title,
        "text": notice.text,
        "ask_seller": notice.ask_seller,
    }


def _refresh(request: web.Request, notice: Notice | None) -> Refresh | None:
    if notice is None or not notice.passing:
        return None
    count = _count(request)
    return Refresh(min(FIRST_REFRESH * 2 ** (count // 2), LONGEST_REFRESH), count + 1)


def _count(request: web.Request) -> int:
    """How often the page has loaded itself again."""
    given = request.query.get("again", "")
    return min(int(given), 20) if re.fullmatch(r"[0-9]{1,3}", given) else 0


def _too_often(seconds: float) -> Problem:
    return Problem(429, "too_many_requests", "Too many requests from this address.", retry_after=seconds)
