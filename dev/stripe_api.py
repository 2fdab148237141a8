"""A stand-in for the part of Stripe's API that Quittance calls: customers, looked up by address and created."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from dev.mailbox import serving
from dev.stripe_events import API_VERSIONS, Json, token
from dev.stripe_objects import customer, purchase

KEY: Final = "sk_test_stand_in"


@dataclass
class StripeApi:
    """The customers of each account, and the answers already given to an idempotency key."""

    base: str = ""
    customers: dict[str, list[Json]] = field(default_factory=dict)
    answered: dict[tuple[str, str], Json] = field(default_factory=dict)
    created: int = 0

    def of(self, request: web.Request) -> list[Json]:
        """The customers of the account that the request is for."""
        return self.customers.setdefault(request.headers.get("Stripe-Account", "self"), [])

    async def list_customers(self, request: web.Request) -> web.Response:
        """GET /v1/customers?email=…: an exact match, as Stripe's is."""
        email = request.query.get("email")
        found = [each for each in self.of(request) if email in (None, each["email"])]
        listed = {"object": "list", "data": found, "has_more": False, "url": "/v1/customers"}
        return web.json_response(listed, headers=_headers())

    async def create_customer(self, request: web.Request) -> web.Response:
        """POST /v1/customers: the same key gives the same customer."""
        given = await request.post()
        account = request.headers.get("Stripe-Account", "self")
        key = request.headers.get("Idempotency-Key", "")
        if key and (account, key) in self.answered:
            return web.json_response(self.answered[account, key], headers=_headers())
        self.created += 1
        email, name = str(given.get("email", "")), str(given.get("name", ""))
        customer_id = f"cus_{token(f'{account}/{email}/{self.created}', 14)}"
        made = customer(purchase(customer_id, email=email, name=name), customer_id, int(time.time()))
        prefix = "metadata["
        made["metadata"] = {
            field_name[len(prefix) : -1]: str(value)
            for field_name, value in given.items()
            if field_name.startswith(prefix)
        }
        self.of(request).append(made)
        self.answered[account, key] = made
        return web.json_response(made, headers=_headers())


async def _unknown(request: web.Request) -> web.Response:
    message = f"Unrecognized request URL ({request.method}: {request.path})."
    error = {"type": "invalid_request_error", "message": message}
    return web.json_response({"error": error}, status=404, headers=_headers())


def _headers() -> dict[str, str]:
    return {"Request-Id": f"req_{token(str(time.time_ns()), 14)}", "Stripe-Version": API_VERSIONS["endive"]}


@asynccontextmanager
async def stripe_api() -> AsyncIterator[StripeApi]:
    """The stand-in, on a free port of this machine until the block ends."""
    api = StripeApi()
    app = web.Application()
    app.router.add_get("/v1/customers", api.list_customers)
    app.router.add_post("/v1/customers", api.create_customer)
    app.router.add_route("*", "/{path:.*}", _unknown)
    async with serving(app) as api.base:
        yield api
