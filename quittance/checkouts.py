"""What stands behind a quote page: the quote and what a buyer may do with it; and, of a click on Check out, the next step.

A click holds the lock that publishing and recalling hold, for one short transaction and never while Stripe is called:
what it decides is written down first, so that whoever comes next, in whichever process, sees it.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from asyncpg import Record

from quittance import checkout_book
from quittance.checkout_book import Attempt
from quittance.domain.publishing.checkout import Revision, coupon_id, idempotency_key
from quittance.domain.publishing.content import Content, read_content
from quittance.domain.publishing.faults import Faults
from quittance.domain.publishing.offer import AttemptState, Circumstances, Offer, offer_of
from quittance.locks import Connection, lock
from quittance.publishing import Quote
from quittance.stripe_client import StripeSettings

# A buyer needs some minutes for a payment; a session with less left makes way for a new one.
ENOUGH: Final = timedelta(minutes=5)
# Who clicks twice is sent to the same session without Stripe being asked whether it is still open.
JUST_BEGUN: Final = timedelta(seconds=15)

# An attempt that is complete outranks a newer one, as its money may be on its way; not so once the quotes worker has its
# completion and counts it as ours: then the status says what became of it. A subscription that lives on would be charged
# beside the next one.
PAGE: Final = """
SELECT published.account, published.livemode, published.quote_id, published.revision, published.content_hash,
       published.content, published.totals, published.warnings, published.page_token, published.checkout_key,
       published.published_at, published.expires_at, published.recalled_at, published.expired_at,
       clock_timestamp() AS now, quotes.data AS payment, accounts.name AS account_name,
       accounts.country AS account_country, accounts.charges_enabled,
       accounts.deauthorised_at IS NOT NULL AS deauthorised, newest.state AS attempt,
       EXISTS (
           SELECT FROM stripe_objects AS subscription
           WHERE subscription.account = published.account AND subscription.livemode = published.livemode
             AND subscription.quote_id = published.quote_id AND subscription.kind = 'subscription'
             AND subscription.snapshot->>'status' IN ('active', 'trialing', 'past_due', 'unpaid', 'paused')
       ) AS subscribed
FROM published_quotes AS published
LEFT JOIN quotes USING (account, livemode, quote_id)
LEFT JOIN accounts ON accounts.account = published.account AND accounts.livemode = published.livemode
LEFT JOIN LATERAL (
    SELECT sessions.state FROM checkout_sessions AS sessions
    LEFT JOIN stripe_objects AS seen
           ON seen.account = sessions.account AND seen.livemode = sessions.livemode AND seen.object_id = sessions.session_id
    WHERE sessions.account = published.account AND sessions.livemode = published.livemode
      AND sessions.quote_id = published.quote_id
      AND (sessions.state = 'complete'
           AND seen.snapshot->>'status' IN ('complete_unpaid', 'async_failed', 'paid', 'no_payment_required')
           AND quotes.facts->'published' ? sessions.revision::text
           AND NOT quotes.data->'anomalies' ? 'currency_mismatch') IS NOT TRUE
    ORDER BY sessions.state = 'complete' DESC, sessions.id DESC LIMIT 1
) AS newest ON true
WHERE published.page_token = $1
"""
# Against expiry, which takes no lock of ours and passes over rows that are held (quittance/publishing.py, EXPIRE).
HOLD: Final = "SELECT quote_id FROM published_quotes WHERE page_token = $1 FOR SHARE"


@dataclass(frozen=True)
class PublishedPage:
    """A published revision and all that its page tells of: `payment` is the data of the quote's newest CRM event, None
    while there is none; `now` the database's time.
    """

    account: str
    livemode: bool
    quote: Quote
    now: datetime
    payment: dict[str, Any] | None
    account_name: str | None
    account_country: str | None
    charges_enabled: bool | None
    deauthorised: bool
    attempt: AttemptState | None
    subscribed: bool

    @property
    def content(self) -> Content:
        """What was published, typed."""
        faults = Faults()
        content = read_content(self.quote.content, faults)
        if content is None:
            raise ValueError(f"what was published cannot be read: {faults.found}")
        return content

    @property
    def revision(self) -> Revision:
        """What Checkout is made of."""
        return Revision(
            account=self.account,
            livemode=self.livemode,
            quote_id=self.quote.quote_id,
            revision=self.quote.revision,
            checkout_key=self.quote.checkout_key,
            content=self.content,
            totals=self.quote.totals,
        )

    def offer(self, settings: StripeSettings) -> Offer:
        """What a buyer may do now."""
        quote = self.quote
        usable = self.charges_enabled is not False and not self.deauthorised
        return offer_of(
            Circumstances(
                status=None if self.payment is None else self.payment.get("status"),
                recalled=quote.recalled_at is not None,
                expired=quote.expired_at is not None or (quote.expires_at is not None and quote.expires_at <= self.now),
                payment_enabled=bool(quote.content["payment_enabled"]),
                usable=usable and settings.silent(self.livemode) is None,
                attempt=self.attempt,
                subscribed=self.subscribed,
            )
        )


@dataclass(frozen=True)
class Ready:
    """There is a session to pay in. `fresh`: Stripe need not be asked whether it is still open."""

    attempt: Attempt
    fresh: bool


@dataclass(frozen=True)
class Make:
    """The caller holds the claim of an attempt and makes its session."""

    attempt: Attempt
    page: PublishedPage


@dataclass(frozen=True)
class End:
    """The caller holds the claim of an attempt that must be ended at Stripe before another may begin."""

    attempt: Attempt


@dataclass(frozen=True)
class Wait:
    """Somebody else is at it."""


@dataclass(frozen=True)
class Shut:
    """There is nothing to click: the page says why."""

    offer: Offer


Step = Ready | Make | End | Wait | Shut


async def load_page(db: Connection, page_token: str) -> PublishedPage | None:
    """The page of a token; None where there is none."""
    row = await db.fetchrow(PAGE, page_token)
    return None if row is None else _page(row)


async def next_step(db: Connection, page_token: str, claim: UUID, settings: StripeSettings) -> Step | None:
    """What a click comes to now, in the caller's transaction; None where there is no such page."""
    page = await load_page(db, page_token)
    if page is None:
        return None
    await lock(db, "publishing", [(page.account, page.livemode, page.quote.quote_id)])
    await db.execute(HOLD, page_token)
    # Before the page: an attempt that somebody settles meanwhile is seen on the page as complete, or is held here.
    attempt = await checkout_book.unsettled(db, page.account, page.livemode, page.quote.quote_id)
    page = await load_page(db, page_token)  # as it is under the lock
    if page is None:
        return None
    offer = page.offer(settings)
    if offer != "open":
        return Shut(offer)
    if attempt is not None and _is_void(attempt, page.now):
        # Nobody was ever given its address, and what there may be of it at Stripe has ended by itself.
        await checkout_book.settle(db, attempt.id, "closed")
        attempt = None
    if attempt is None:
        return Make(await _begin(db, page, claim), page)
    if attempt.state != "open" and attempt.claimed_until is not None and attempt.claimed_until > page.now:
        return Wait()
    if attempt.revision != page.quote.revision or attempt.state == "closing":
        return End(await checkout_book.take(db, attempt, "closing", claim))
    if attempt.state == "creating":
        return Make(await checkout_book.take(db, attempt, "creating", claim), page)
    if not _has_enough_life(attempt, page):
        return End(await checkout_book.take(db, attempt, "closing", claim))
    return Ready(attempt, fresh=page.now - attempt.created_at < JUST_BEGUN)


async def _begin(db: Connection, page: PublishedPage, claim: UUID) -> Attempt:
    revision = page.revision
    key = (page.account, page.livemode, revision.quote_id, revision.revision)
    number = await checkout_book.next_attempt(db, key)
    coupon = coupon_id(revision) if revision.totals["discount"] else None
    return await checkout_book.insert(db, key, number, claim, key=idempotency_key(revision, number), coupon_id=coupon)


def _is_void(attempt: Attempt, now: datetime) -> bool:
    """Whether an attempt's answer never came, and would come too late by now; or nothing was ever asked for."""
    if attempt.session_id is not None or (attempt.claimed_until is not None and attempt.claimed_until > now):
        return False
    if attempt.params is None:
        return attempt.state == "closing"
    return attempt.expires_at is not None and attempt.expires_at <= now


def _has_enough_life(attempt: Attempt, page: PublishedPage) -> bool:
    """Whether a session can still be paid in; one that lasts as long as its quote cannot be bettered."""
    end = attempt.expires_at
    if end is None or end <= page.now:
        return False
    quote_end = page.quote.expires_at
    return end - page.now >= ENOUGH or (quote_end is not None and end >= quote_end)


def _page(row: Record) -> PublishedPage:
    fields = dict(row)
    about = {
        name: fields.pop(name)
        for name in (
            "account",
            "livemode",
            "now",
            "payment",
            "account_name",
            "account_country",
            "charges_enabled",
            "deauthorised",
            "attempt",
            "subscribed",
        )
    }
    about["payment"] = None if about["payment"] is None else json.loads(about["payment"])
    for name in ("content", "totals", "warnings"):
        fields[name] = json.loads(fields[name])
    return PublishedPage(quote=Quote(**fields), **about)
