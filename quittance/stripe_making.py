"""Making a Checkout Session, once: whatever is lost, answered late or failed on the way, one key makes one session."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import stripe

from quittance import stripe_client
from quittance.stripe_client import in_words, is_replayed_failure
from quittance.stripe_sessions import find_session

TRIES: Final = 3
PAUSE: Final = 0.4  # seconds between two
# How far Stripe's clock may be behind ours, in which a session's `created` is looked for (seconds).
CLOCKS: Final = 300


class NeverMade(NamedTuple):
    """There is no session of this key, and there will be none; `param` is the one that Stripe objects to, else empty."""

    why: str
    param: str = ""
    again: bool = False  # whether another attempt may go better as it is


async def make_session(
    client: stripe.StripeClient,
    account: str,
    key: str,
    params: Mapping[str, Any],
    since: datetime,
    *,
    first: bool = False,
) -> stripe.checkout.Session | NeverMade:
    """The session that `params` make under `key`, however often this is called; first asked for at `since`, by this call
    where `first` says so.

    Raises stripe.StripeError and those of stripe_client.NO_ANSWER where it is not known whether it was made: to be asked
    again, with the same.
    """
    options = stripe_client.options(account, key)
    for left in reversed(range(TRIES)):
        try:
            return await client.v1.checkout.sessions.create_async(dict(params), options)  # type: ignore[arg-type]
        except stripe.RateLimitError:
            raise
        except (stripe.InvalidRequestError, stripe.CardError, stripe.IdempotencyError) as error:
            refused = _refused(error)
            if first and left == TRIES - 1 and not refused.again:
                return refused  # nothing was ever asked for before
            # Stripe looks at the key first, but at who may call at all even before: an earlier call may have made it.
            return await _found(client, account, params, since, refused)
        except stripe.APIError as error:
            if is_replayed_failure(error):
                return await _found(client, account, params, since, NeverMade(in_words(error), again=True))
            if not left or (error.http_status or 0) < 409:
                raise
        except stripe_client.NO_ANSWER:
            if not left:
                raise
        # 409: another call with this key is under way. Else a failure, or no answer: the key says what became of it.
        await asyncio.sleep(PAUSE)
    raise AssertionError("the last try returns or raises")


def _refused(error: stripe.StripeError) -> NeverMade:
    if isinstance(error, stripe.IdempotencyError):  # the key was used with other parameters
        return NeverMade(in_words(error), again=True)
    return NeverMade(in_words(error), str(getattr(error, "param", None) or ""))


async def _found(
    client: stripe.StripeClient, account: str, params: Mapping[str, Any], since: datetime, otherwise: NeverMade
) -> stripe.checkout.Session | NeverMade:
    """Stripe answers this key with a failure. It may have made the session all the same."""
    metadata: Mapping[str, str] = params["metadata"]
    earliest = int(since.timestamp()) - CLOCKS
    session = await find_session(client, stripe_client.options(account), metadata, earliest)
    return otherwise if session is None else session
