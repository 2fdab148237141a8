"""Stripe's events about accounts, as the ingress makes them."""

from itertools import count
from typing import Any

from quittance.event import Event
from tests.support.handling import accepted

EPOCH = 1_790_000_000  # times in these tests are seconds after it

_numbers = count(1)


def webhook(
    event_type: str,
    obj: dict[str, Any],
    *,
    at: int,
    account: str | None = "acct_1",
    live: bool = False,
    previous: dict[str, Any] | None = None,
    event_id: str | None = None,
) -> Event:
    """An event of any type, `at` seconds after EPOCH; `account` None: of the key's own."""
    data = {"object": obj} | ({"previous_attributes": previous} if previous is not None else {})
    body = {
        "id": event_id or f"evt_{next(_numbers):06d}",
        "object": "event",
        "type": event_type,
        "created": EPOCH + at,
        "livemode": live,
        "api_version": "2026-03-25.dahlia",
        "data": data,
    }
    return accepted(body if account is None else body | {"account": account})


def updated(enabled: bool | None, *, at: int, account: str | None = "acct_1", **given: Any) -> Event:
    """account.updated; `name` and `country` where given."""
    obj: dict[str, Any] = {"id": account or "acct_platform", "object": "account"}
    if enabled is not None:
        obj["charges_enabled"] = enabled
    if "name" in given:
        obj["business_profile"] = {"name": given.pop("name")}
    if "country" in given:
        obj["country"] = given.pop("country")
    return webhook("account.updated", obj, at=at, account=account, **given)


def authorised(*, at: int, account: str | None = "acct_1", **given: Any) -> Event:
    """account.application.authorized."""
    return webhook("account.application.authorized", APPLICATION, at=at, account=account, **given)


def deauthorised(*, at: int, account: str | None = "acct_1", **given: Any) -> Event:
    """account.application.deauthorized."""
    return webhook("account.application.deauthorized", APPLICATION, at=at, account=account, **given)


APPLICATION = {"id": "ca_JWVN6vOJJs3RKsff0VUwIUfmUmN0VYqe", "object": "application", "name": None}
