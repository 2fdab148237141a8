"""What the API answers to: method, address, published parameters, and who does it."""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from stripe import params
from stripe.params import checkout

from tests.fakes.stripe import accounts, coupons, customers, refunds, sessions
from tests.fakes.stripe.errors import Refused
from tests.fakes.stripe.shapes import Asked, JsonObject
from tests.fakes.stripe.world import World


class Route(NamedTuple):
    """`handle` gets parameters that have been checked against `published` (None: it takes none)."""

    method: str
    address: str
    published: type | None
    handle: Callable[[World, Asked], JsonObject]


ROUTES: Final = (
    Route("POST", "/v1/checkout/sessions", checkout.SessionCreateParams, sessions.create),
    Route("GET", "/v1/checkout/sessions", checkout.SessionListParams, sessions.listed),
    Route("GET", "/v1/checkout/sessions/{id}", checkout.SessionRetrieveParams, sessions.retrieve),
    Route("GET", "/v1/checkout/sessions/{id}/line_items", checkout.SessionListLineItemsParams, sessions.lines),
    Route("POST", "/v1/checkout/sessions/{id}/expire", checkout.SessionExpireParams, sessions.expire),
    Route("POST", "/v1/coupons", params.CouponCreateParams, coupons.create),
    Route("GET", "/v1/coupons/{id}", params.CouponRetrieveParams, coupons.retrieve),
    Route("POST", "/v1/coupons/{id}", params.CouponUpdateParams, coupons.update),
    Route("DELETE", "/v1/coupons/{id}", params.CouponDeleteParams, coupons.delete),
    Route("GET", "/v1/customers", params.CustomerListParams, customers.listed),
    Route("POST", "/v1/customers", params.CustomerCreateParams, customers.create),
    Route("GET", "/v1/customers/{id}", params.CustomerRetrieveParams, customers.retrieve),
    Route("POST", "/v1/refunds", params.RefundCreateParams, refunds.create),
    Route("GET", "/v1/refunds", params.RefundListParams, refunds.listed),
    Route("GET", "/v1/refunds/{id}", params.RefundRetrieveParams, refunds.retrieve),
    Route("GET", "/v1/account", params.AccountRetrieveCurrentParams, accounts.current),
    Route("GET", "/v1/accounts", params.AccountListParams, accounts.listed),
    Route("GET", "/v1/accounts/{id}", params.AccountRetrieveParams, accounts.retrieve),
)
_PATTERNS: Final = tuple((each, re.compile(each.address.replace("{id}", "(?P<id>[^/]+)"))) for each in ROUTES)


def route(method: str, path: str) -> tuple[Route, str]:
    """Who answers, and the id in the address. Raises Refused where nobody does."""
    for each, pattern in _PATTERNS:
        if each.method == method and (match := pattern.fullmatch(path)):
            return each, match.groupdict().get("id", "")
    raise Refused(404, f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs.")
