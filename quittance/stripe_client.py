"""How Stripe is called: with which key, for whose account, within what time; and how to read what it refuses."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Final, Self

import aiohttp
import stripe
from stripe import RequestOptions

from quittance.event import OWN_ACCOUNT
from quittance.settings import Reader

STRIPE_API: Final = "https://api.stripe.com"
STRIPE_CONNECT: Final = "https://connect.stripe.com"

# Of one call. Who makes several within a lease or a deadline sets a limit of its own around all of them.
CALL_TIMEOUT: Final = aiohttp.ClientTimeout(total=6, connect=3)

# What a call may raise where Stripe did not answer (TimeoutError is an OSError), beside stripe.StripeError.
NO_ANSWER: Final = (aiohttp.ClientError, OSError, stripe.APIConnectionError)


class StripeSettings:
    """How Stripe is called, and for which mode."""

    def __init__(self, api_key: str, api_base: str = STRIPE_API, connect_base: str = STRIPE_CONNECT) -> None:
        self.api_key = api_key
        self.api_base = api_base
        self.connect_base = connect_base

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """STRIPE_API_KEY (none: Stripe is never called), STRIPE_API_BASE (https://api.stripe.com) and STRIPE_CONNECT_BASE
        (https://connect.stripe.com).
        """
        api_key = reader.text("STRIPE_API_KEY")
        if api_key and not re.fullmatch(r"[!-~]*_(test|live)_[!-~]+", api_key):
            reader.faults.append("STRIPE_API_KEY is no secret key of Stripe's (sk_test_, sk_live_, rk_test_, rk_live_)")
        schemes = ("https", "http")
        return cls(
            api_key,
            reader.url("STRIPE_API_BASE", schemes, STRIPE_API),
            reader.url("STRIPE_CONNECT_BASE", schemes, STRIPE_CONNECT).rstrip("/"),
        )

    def silent(self, livemode: bool) -> str | None:
        """Why Stripe is not called for this mode; None where it is."""
        if not self.api_key:
            return "STRIPE_API_KEY is not set"
        if ("_live_" in self.api_key) is not livemode:
            return "STRIPE_API_KEY is of the other mode"
        return None


@cache
def stripe_settings() -> StripeSettings:
    """The settings of this process's environment. Raises SettingsError where they are wrong."""
    reader = Reader()
    settings = StripeSettings.read(reader)
    reader.check()
    return settings


@asynccontextmanager
async def connected(settings: StripeSettings) -> AsyncIterator[stripe.StripeClient]:
    """One client, and its connections, for the length of a block.

    It never tries again by itself: what a failure means is decided where it happens. Calls raise stripe.StripeError,
    aiohttp.ClientError and TimeoutError.
    """
    http = stripe.AIOHTTPClient(timeout=CALL_TIMEOUT)
    try:
        yield stripe.StripeClient(
            settings.api_key or "none",
            base_addresses={"api": settings.api_base, "connect": settings.connect_base},
            max_network_retries=0,
            http_client=http,
        )
    finally:
        await http.close_async()  # type: ignore[no-untyped-call]


def options(account: str, key: str | None = None) -> RequestOptions:
    """For whom a call is made: a connected account, directly (R13), or the key's own; and its idempotency key."""
    chosen: RequestOptions = {} if account == OWN_ACCOUNT else {"stripe_account": account}
    return chosen if key is None else {**chosen, "idempotency_key": key}


def header(headers: Mapping[str, str] | None, name: str) -> str | None:
    """A header's value; `name` in lower case."""
    return next((value for key, value in (headers or {}).items() if key.lower() == name), None)


def retry_after(error: stripe.StripeError) -> float | None:
    """The seconds that Stripe asks for before the next call; None where it asks for none."""
    value = header(error.headers, "retry-after") or ""
    return float(value) if re.fullmatch(r"[0-9]{1,5}", value) else None


def is_replayed_failure(error: stripe.StripeError) -> bool:
    """Whether Stripe only repeats how an earlier attempt with this key ended (500). What was asked for may have been made
    all the same, so it is looked for before another key is tried.
    """
    return (error.http_status or 0) >= 500 and header(error.headers, "idempotent-replayed") == "true"


def in_words(error: stripe.StripeError) -> str:
    """What Stripe said, for a log: never its message, which may repeat an address that we sent."""
    said = error.json_body.get("error") if isinstance(error.json_body, dict) else None
    said = said if isinstance(said, dict) else {}
    parts = [f"{name} {said[name]}" for name in ("type", "code", "param") if isinstance(said.get(name), str)]
    request = [f"request {error.request_id}"] * bool(error.request_id)
    return ", ".join([f"status {error.http_status}", *parts, *request])
