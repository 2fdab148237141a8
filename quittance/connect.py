"""Stripe's side of Connect (R6): the authorize page's address, the exchange of its code, and the taking back.

The tokens in Stripe's answer to the exchange are looked at by nobody: calls for a connected account use the platform's own
key and name the account (R13).
"""

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

import stripe
from stripe.oauth_error import InvalidClientError, InvalidGrantError, OAuthError

from quittance.domain.accounts import Account, described
from quittance.settings import Reader
from quittance.stripe_client import NO_ANSWER, header, in_words

ACCOUNT_ID: Final = re.compile(r"acct_[A-Za-z0-9]{1,250}")
_CLIENT_ID: Final = re.compile(r"ca_[A-Za-z0-9]{8,250}")


class CodeRefused(Exception):
    """Stripe does not take the code: it is older than some minutes, was used before, or is of the other mode."""


class ConnectFault(Exception):
    """Connect is not set up as it must be, here or at Stripe; the text is for our log."""


class StripeAway(Exception):
    """Stripe did not answer, or not now; what was asked for may have happened. The text is for our log."""


class Granted(NamedTuple):
    """What an exchange brought: which account, in which mode, and when, by Stripe's clock."""

    account: str
    livemode: bool
    at: int


def connect_client_id(reader: Reader) -> str:
    """STRIPE_CONNECT_CLIENT_ID, of the mode of STRIPE_API_KEY (Stripe has one for each); none: nobody can connect."""
    client_id = reader.text("STRIPE_CONNECT_CLIENT_ID")
    if client_id and not _CLIENT_ID.fullmatch(client_id):
        reader.faults.append("STRIPE_CONNECT_CLIENT_ID is no client id of Stripe Connect (ca_…)")
    return client_id


def authorize_url(client: stripe.StripeClient, client_id: str, redirect_uri: str, state: str) -> str:
    """Where a browser is sent to authorise us."""
    return client.oauth.authorize_url(
        {"client_id": client_id, "scope": "read_write", "redirect_uri": redirect_uri, "state": state}
    )


async def exchange(client: stripe.StripeClient, code: str) -> Granted:
    """What the code of Stripe's page grants. Never asked twice: Stripe takes back what a code granted that comes again.

    Raises CodeRefused, ConnectFault and StripeAway.
    """
    try:
        answer = await client.raw_request_async(
            "post", "/oauth/token", base="connect", grant_type="authorization_code", code=code
        )
    except InvalidGrantError as error:
        raise CodeRefused from error
    except stripe.StripeError as error:
        raise _fault(error) from error
    except NO_ANSWER as error:
        raise StripeAway(type(error).__name__) from error
    return _granted(answer.data, _time(answer.headers))


async def describe(client: stripe.StripeClient, account: str) -> Account:
    """What Stripe says of a connected account now. Raises ConnectFault and StripeAway."""
    begun = time.monotonic()
    try:
        answer = await client.v1.accounts.retrieve_async(account)
    except stripe.StripeError as error:
        raise _fault(error) from error
    except NO_ANSWER as error:
        raise StripeAway(type(error).__name__) from error
    response = answer.last_response
    # When it was asked: what an event says from then on is newer, or the same.
    at = _time(None if response is None else response.headers) - int(time.monotonic() - begun) - 1
    return described(answer.to_dict(), at)


async def revoke(client: stripe.StripeClient, client_id: str, account: str) -> int:
    """Take the connection back; when, by Stripe's clock. One that is not there any more is as good.

    Raises ConnectFault and StripeAway.
    """
    try:
        answer = await client.raw_request_async(
            "post", "/oauth/deauthorize", base="connect", client_id=client_id, stripe_user_id=account
        )
    except InvalidClientError as error:
        # Said of an account that is not connected to us, and of a client id that is not ours.
        if not await _is_gone(client, account):
            raise _fault(error) from error
        return _time(error.headers)
    except stripe.StripeError as error:
        raise _fault(error) from error
    except NO_ANSWER as error:
        raise StripeAway(type(error).__name__) from error
    return _time(answer.headers)


async def _is_gone(client: stripe.StripeClient, account: str) -> bool:
    """Whether Stripe refuses us the account."""
    try:
        await client.v1.accounts.retrieve_async(account)
    except stripe.StripeError as error:
        # 403 alone is said to a restricted key that may not look, too.
        if error.http_status == 404 or (error.http_status == 403 and _code(error) == "account_invalid"):
            return True
        raise _fault(error) from error
    except NO_ANSWER as error:
        raise StripeAway(type(error).__name__) from error
    return False


def _granted(answer: Mapping[str, Any], at: int) -> Granted:
    account, livemode = answer.get("stripe_user_id"), answer.get("livemode")
    if not isinstance(account, str) or not ACCOUNT_ID.fullmatch(account) or not isinstance(livemode, bool):
        raise ConnectFault("Stripe's answer to the exchange names no account, or no mode")
    return Granted(account, livemode, at)


def _code(error: stripe.StripeError) -> object:
    """Which refusal it is; the library leaves it out of its errors for 403."""
    said = error.json_body.get("error") if isinstance(error.json_body, dict) else None
    return said.get("code") if isinstance(said, dict) else said


def _fault(error: stripe.StripeError) -> ConnectFault | StripeAway:
    """What a refusal means; its own words are left out, they may repeat what we sent."""
    unread = not isinstance(error.json_body, dict)  # what something between us and Stripe said
    passing = isinstance(error, stripe.RateLimitError) or (error.http_status or 500) >= 500
    if isinstance(error, stripe.APIConnectionError):
        return StripeAway(f"no answer: {type(error.__cause__ or error).__name__}")
    if passing or unread:
        return StripeAway(in_words(error))
    said = f", {error.code}" if isinstance(error, OAuthError) else ""
    return ConnectFault(f"{in_words(error)}{said}")


def _time(headers: Mapping[str, str] | None) -> int:
    """The time of an answer by Stripe's clock, which its events are dated by; else by ours."""
    try:
        return int(parsedate_to_datetime(header(headers, "date") or "").timestamp())
    except ValueError:
        return int(time.time())
