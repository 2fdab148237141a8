"""Stripe's customers, looked up and made (R18, R19): the outside part of the customers worker."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

import aiohttp
import stripe
from asyncpg import Record
from stripe import RequestOptions
from stripe.params import CustomerCreateParams

from quittance import stripe_client
from quittance.domain.customers import AddressFact, stay_of
from quittance.stripe_client import StripeSettings, header, in_words, is_replayed_failure, retry_after
from workers.runtime.outcomes import Done, Failed, Outcome, Refused, Unavailable

# The three calls of an attempt (6 s each) must end before the runtime gives it up (20 s), and that before the lease does
# (30 s).
ATTEMPT_TIMEOUT: Final = 18.0

# Stripe answers a failure of its own (500) again for a day when asked with the same key, so the next one needs another.
KEYS: Final = 4


class StripeCustomer(NamedTuple):
    """A customer as Stripe answered: its id, its address as stored, and when it was made (Unix seconds)."""

    id: str
    email: str
    created: int


class Answer(NamedTuple):
    """Who has the address at Stripe at the time `at` (Unix seconds, by Stripe's clock), and whether we made it."""

    customers: tuple[StripeCustomer, ...]
    made: bool
    at: int


class Skipped(NamedTuple):
    """Stripe was not called, and why."""

    why: str


class StripeAccounts:
    """Stripe's API for our own account and those connected to it. Customers are looked up or made, never changed."""

    def __init__(self, settings: StripeSettings, client: stripe.StripeClient) -> None:
        """`client` must not try again by itself: what a failure means is decided here."""
        self.settings = settings
        self._client = client

    async def customer(self, account: str, email: str, name: str | None, key: str) -> Answer:
        """The customers who have the address `email`, as typed or in lower case; else one made with it and `name`.

        `key` makes a creation that is tried again the same creation. Raises stripe.StripeError, aiohttp.ClientError and
        TimeoutError.
        """
        options = stripe_client.options(account)
        properties: CustomerCreateParams = {"email": email} if name is None else {"email": email, "name": name}
        failed: stripe.StripeError | None = None
        for attempt in range(KEYS):
            found = await self._find({email, email.lower()}, options)
            if found.customers:
                return found
            try:
                keyed = stripe_client.options(account, f"{key}-{attempt}")
                made = await self._client.v1.customers.create_async(properties, keyed)
            except stripe.APIError as error:
                if not is_replayed_failure(error):
                    raise
                failed = error
            else:
                return Answer(_customers([made]), made=True, at=_answered_at(made))
        raise failed or stripe.APIError("no key was left")

    async def _find(self, spellings: Iterable[str], options: RequestOptions) -> Answer:
        customers: set[StripeCustomer] = set()
        at = 0
        for email in sorted(spellings):  # Stripe compares addresses letter by letter, in their case
            page = await self._client.v1.customers.list_async({"email": email, "limit": 100}, options)
            customers.update(_customers(page.data))
            at = max(at, _answered_at(page))
        return Answer(tuple(sorted(customers)), made=False, at=at)


@asynccontextmanager
async def connected(settings: StripeSettings) -> AsyncIterator[StripeAccounts]:
    """One client, and its connections, for the length of a block."""
    async with stripe_client.connected(settings) as client:
        yield StripeAccounts(settings, client)


async def ask(claim: Record, accounts: StripeAccounts) -> Outcome:
    """Perform a row of customer_requests; Done holds an Answer, or Skipped."""
    why = accounts.settings.silent(claim["livemode"])
    if why is not None:
        return Done(Skipped(why))
    key = idempotency_key(claim["account"], claim["livemode"], claim["email_normalised"], claim["round"])
    try:
        async with asyncio.timeout(ATTEMPT_TIMEOUT):
            return Done(await accounts.customer(claim["account"], claim["email"], claim["name"], key))
    except stripe.StripeError as error:
        return outcome_of(error)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Unavailable(f"no answer: {type(error).__name__}")


def facts_in(answer: Answer) -> tuple[AddressFact, ...]:
    """What Stripe answered: of customers found, that each has the address now; of one made, that it came then.

    A customer that was found is dated back to its making: of several, the oldest is to stand for the address.
    """
    facts = []
    for customer in answer.customers:
        if answer.made:
            found = stay_of("created", customer.created, "customers.create", customer.email, moved=True)
        else:
            found = stay_of("updated", answer.at, "customers.list", customer.email, moved=False)
        if found is not None:
            address, stay = found
            facts.append(AddressFact(customer.id, address, stay._replace(first_at=min(customer.created, answer.at))))
    return tuple(facts)


def idempotency_key(account: str, livemode: bool, address: str, round_number: int) -> str:
    """The same for every attempt to make a customer for an address, in whichever process."""
    text = "\x00".join((account, str(livemode), address, str(round_number)))
    return f"quittance-customer-{hashlib.sha256(text.encode()).hexdigest()}"


def outcome_of(error: stripe.StripeError) -> Outcome:
    """What a refusal or failure of Stripe's means. Its message is left out: it may hold the address."""
    status = error.http_status
    detail = in_words(error)
    if isinstance(error, stripe.RateLimitError):
        return Unavailable(detail, retry_after(error))
    if isinstance(error, stripe.APIConnectionError) or status is None:
        return Unavailable(f"no answer: {type(error.__cause__ or error).__name__}")
    if status >= 500:
        return Unavailable(detail, retry_after(error))
    if status in (401, 403):
        return Refused("account_refused", detail)
    if status in (400, 402, 404):
        return Refused("stripe_refused", detail)
    return Failed(detail)  # 409: an attempt whose lease ended is still under way with the same key


def _customers(answered: Iterable[stripe.Customer]) -> tuple[StripeCustomer, ...]:
    return tuple(StripeCustomer(one.id, one.email, one.created) for one in answered if isinstance(one.email, str))


def _answered_at(answer: stripe.StripeObject) -> int:
    """The time of an answer by Stripe's own clock, which its events are dated by; else by ours."""
    response = answer.last_response
    date = header(response.headers, "date") if response is not None else None
    try:
        return int(parsedate_to_datetime(date or "").timestamp())
    except ValueError:
        return int(time.time())
