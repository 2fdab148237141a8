"""Check out (R12): a click on the quote page's button, and the way to Stripe's page.

Every click takes the next step that quittance/checkouts.py names, until there is one session to pay in, or a reason why
there is none. No connection to the database is held while Stripe is called. What fails on the way leaves an attempt that
the next click takes up: with the same key, so that it is the same session.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import stripe
import structlog
from aiohttp import hdrs, web
from asyncpg.pool import Pool

from quittance import checkout_book, stripe_client
from quittance.checkout_book import Attempt
from quittance.checkouts import End, Make, PublishedPage, Ready, Shut, Wait, load_page, next_step
from quittance.database import CONNECT_TIMEOUT
from quittance.domain.publishing.checkout import Buyer, Words, session_end, session_params
from quittance.stripe_making import NeverMade, make_session
from quittance.stripe_sessions import SessionStaysOpen
from web.checkout_ends import end_attempt, still_open
from web.limits import Limiter
from web.metrics import CHECKOUTS
from web.page.handlers import TOKEN
from web.page.onward import onward
from web.page.trouble import render_trouble
from web.page.words import words_for
from web.preparing import CouponDiffers, ensure_coupon, find_buyer
from web.problems import not_found
from web.security import client_address
from web.settings import Settings

# Steps of one click: ending what is open, making, making again without what Stripe objects to.
STEPS: Final = 8
# All calls to Stripe of one step; the lease of its claim is longer (checkout_book.LEASE).
STEP_BUDGET: Final = 20.0  # seconds
PATIENCE: Final = 6.0  # seconds for somebody else's click to come to its end
LOOK_AGAIN: Final = 0.2
COME_BACK: Final = 5.0  # seconds, where Stripe names none

# Of one address, behind which a whole office may sit; and of one page, whoever clicks.
CLICKS_PER_SECOND: Final = 2.0
CLICKS_AT_ONCE: Final = 40
PAGE_CLICKS_AT_ONCE: Final = 40

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Busy(Exception):
    """Somebody else's click is still under way."""


class Refused(Exception):
    """Stripe will not make a session of this quote: the seller has to do something."""


@dataclass
class Click:
    """One click: `without` are the parameters that Stripe objected to."""

    token: str
    page: PublishedPage
    patient_until: float
    without: set[str] = field(default_factory=set)


class Checkout:
    """`routes` is what the application serves."""

    def __init__(self, pool: Pool, settings: Settings, client: Callable[[], stripe.StripeClient]) -> None:
        self._pool = pool
        self._settings = settings
        self._client = client
        self._addresses = Limiter(CLICKS_PER_SECOND, CLICKS_AT_ONCE)
        self._pages = Limiter(CLICKS_PER_SECOND, PAGE_CLICKS_AT_ONCE)

    def routes(self) -> list[web.RouteDef]:
        """The form of the quote page."""
        return [web.post("/q/{token}/checkout", self.checkout)]

    async def checkout(self, request: web.Request) -> web.Response:
        """303 to Stripe's page; 303 back to the quote where it cannot be checked out; else a page that says what is wrong."""
        if not self._is_from_here(request):
            return self._trouble(request, "forged", 403)
        if (seconds := self._addresses.wait(client_address(request))) is not None:
            return self._trouble(request, "too_often", 429, retry_after=seconds)
        token = request.match_info["token"]
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
            page = await load_page(db, token) if TOKEN.fullmatch(token) else None
        if page is None:
            CHECKOUTS.labels("unknown").inc()
            raise not_found()
        structlog.contextvars.bind_contextvars(
            account=page.account, livemode=page.livemode, quote_id=page.quote.quote_id, revision=page.quote.revision
        )
        about: dict[str, Any] = {"token": token, "locale": page.quote.content["locale"], "again": "checkout"}
        if (seconds := self._pages.wait(token)) is not None:
            return self._trouble(request, "too_often", 429, retry_after=seconds, **about)
        click = Click(token, page, time.monotonic() + PATIENCE)
        try:
            url = await self._follow(click)
        except Busy:
            return self._trouble(request, "busy", 503, retry_after=COME_BACK, **about)
        except (Refused, CouponDiffers, stripe.InvalidRequestError, stripe.CardError) as error:
            log.error("checkout.refused", error=_said(error))
            return self._trouble(request, "refused", 502, **about)
        except (stripe.AuthenticationError, stripe.PermissionError) as error:
            log.error("checkout.account_refused", error=_said(error))
            return self._trouble(request, "refused", 502, **about)
        except (stripe.StripeError, SessionStaysOpen, *stripe_client.NO_ANSWER) as error:
            log.warning("checkout.stripe_away", error=_said(error))
            seconds = stripe_client.retry_after(error) if isinstance(error, stripe.StripeError) else None
            return self._trouble(request, "away", 503, retry_after=seconds or COME_BACK, **about)
        if url is None:
            CHECKOUTS.labels("shut").inc()
            prefix = urlsplit(self._settings.public_url).path
            return web.Response(status=303, headers={hdrs.LOCATION: f"{prefix}/q/{token}"})
        CHECKOUTS.labels("sent").inc()
        return onward(request, url, locale=page.quote.content["locale"])

    async def _follow(self, click: Click) -> str | None:
        """Where a buyer can pay; None where the quote's page says why nobody can."""
        for _ in range(STEPS):
            claim = uuid4()
            step = await self._next(click, claim)
            if step is None or isinstance(step, Shut):
                log.info("checkout.shut", offer=None if step is None else step.offer)
                return None
            if isinstance(step, Ready):
                if step.fresh or await still_open(self._pool, self._client(), step.attempt):
                    return step.attempt.url
            else:
                await self._take(click, step, claim)
        raise Busy

    async def _next(self, click: Click, claim: UUID) -> Ready | Make | End | Shut | None:
        while True:
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db, db.transaction():
                step = await next_step(db, click.token, claim, self._settings.stripe)
            if not isinstance(step, Wait):
                return step
            if time.monotonic() >= click.patient_until:
                raise Busy
            await asyncio.sleep(LOOK_AGAIN)

    async def _take(self, click: Click, step: Make | End, claim: UUID) -> None:
        """Take a step at Stripe. Where it fails the claim is given back, so that the next click goes on with it; where we
        die it runs out.
        """
        try:
            async with asyncio.timeout(STEP_BUDGET):
                if isinstance(step, End):
                    await end_attempt(self._pool, self._client(), step.attempt, claim)
                else:
                    await self._make(click, step, claim)
        except (stripe.StripeError, SessionStaysOpen, *stripe_client.NO_ANSWER) as error:
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
                await checkout_book.release(db, step.attempt.id, claim, _said(error))
            raise

    async def _make(self, click: Click, step: Make, claim: UUID) -> None:
        attempt = step.attempt
        params = attempt.params
        if params is None:
            try:
                params = await self._prepare(click, step.page, attempt, claim)
            except CouponDiffers as error:
                await self._never_made(attempt, claim, _said(error))
                raise
        if params is None:
            return  # the claim is lost: somebody else is making it
        made = await make_session(
            self._client(),
            attempt.account,
            attempt.idempotency_key,
            params,
            since=attempt.created_at,
            first=attempt.params is None,
        )
        if isinstance(made, NeverMade):
            await self._never_made(attempt, claim, made.why)
            _learn(click, made)
            return
        if made.status != "open" or made.url is None:  # found again, when it was over
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
                await checkout_book.settle(db, attempt.id, "complete" if made.status == "complete" else "closed")
            return
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db, db.transaction():
            state = await checkout_book.opened(db, attempt.id, claim, made)
        log.info("checkout.opened", attempt=attempt.attempt, session_id=made.id, state=state)

    async def _prepare(self, click: Click, page: PublishedPage, attempt: Attempt, claim: UUID) -> dict[str, Any] | None:
        """What to send to Stripe, noted before it is sent."""
        client, revision = self._client(), page.revision
        gettext = words_for(revision.content.locale).gettext
        words = Words(discount=gettext("Discount"), fee=gettext("Fee"), tax=gettext("Tax"))
        await ensure_coupon(client, revision, words)
        buyer = await find_buyer(client, self._pool, revision)
        if "customer" in click.without:
            buyer = Buyer(email=buyer.email)
        if "customer_email" in click.without:
            buyer = Buyer()
        expires_at = session_end(page.now, page.quote.expires_at)
        params = session_params(
            revision,
            buyer,
            attempt=attempt.attempt,
            page_url=f"{self._settings.public_url}/q/{click.token}",
            expires_at=expires_at,
            words=words,
        )
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
            return await checkout_book.prepare(db, attempt.id, claim, params, expires_at)

    async def _never_made(self, attempt: Attempt, claim: UUID, why: str) -> None:
        log.warning("checkout.never_made", attempt=attempt.attempt, error=why)
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as db:
            await checkout_book.never_made(db, attempt.id, claim, why)

    def _is_from_here(self, request: web.Request) -> bool:
        """Whether the click was on a page of ours (CSRF). Browsers say where a POST comes from; who is no browser may leave
        it out, and has nobody's login to misuse.
        """
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site in ("same-origin", "none")
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None:
            return True
        ours = urlsplit(self._settings.public_url)
        return origin in {f"{ours.scheme}://{ours.netloc}", f"http://{request.host}", f"https://{request.host}"}

    def _trouble(
        self,
        request: web.Request,
        outcome: str,
        status: int,
        *,
        token: str | None = None,
        retry_after: float | None = None,
        again: Literal["checkout"] | None = None,
        locale: str | None = None,
    ) -> web.Response:
        CHECKOUTS.labels(outcome).inc()
        return render_trouble(request, status, token=token, retry_after=retry_after, again=again, locale=locale)


def _learn(click: Click, never: NeverMade) -> None:
    """What the next attempt does otherwise. Raises Refused where nothing would help."""
    name = never.param.partition("[")[0]
    if name in ("customer", "customer_email") and name not in click.without:
        click.without.add(name)  # deleted there, and we have not heard of it; or no address in Stripe's eyes
    elif not (never.again or name in {"expires_at", "discounts"}):
        raise Refused(never.why)


def _said(error: BaseException) -> str:
    """An error for the log: Stripe's in its codes alone, as its message may hold an address."""
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, stripe.APIConnectionError):
        return type(error.__cause__ or error).__name__
    return stripe_client.in_words(error) if isinstance(error, stripe.StripeError) else type(error).__name__
