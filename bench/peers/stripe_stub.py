"""Stripe's API, as far as a peer asks it: each object of a run's lives as its last event told it, at once.

python -m bench.peers.stripe_stub 4242 RUN1 RUN2

An id that no event tells of (a payment method, a product) is answered with the least that such an object has.
"""

import asyncio
import sys
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import uvloop
from aiohttp import web

from bench.bodies import DIGITS, Template, stem, templates
from dev.stripe_events import token

ACCOUNT: Final = {"id": "acct_1" + token("bench", 15), "object": "account", "type": "standard", "livemode": False}
# The singular names, where leaving off an "s" is not enough.
SINGULAR: Final = {"balance_transactions": "balance_transaction", "sessions": "checkout.session"}
CREATED: Final = 1_790_000_000


class Objects:
    """Every object by its id without the copy's number (bench.bodies)."""

    def __init__(self, runs: Iterable[str]) -> None:
        self._last: dict[str, Template] = {}
        for run in runs:
            for told in templates(run):
                for each in told:
                    first = msgspec.json.decode(each.copy(b"0" * DIGITS))
                    self._last[stem(first["data"]["object"]["id"])] = each

    def find(self, kind: str, identifier: str) -> dict[str, Any]:
        """The object; made up where no event tells of it."""
        template = self._last.get(stem(identifier))
        if template is None:
            return made_up(kind, identifier)
        event = msgspec.json.decode(template.copy(identifier[-DIGITS:].encode()))
        return dict(event["data"]["object"])


def made_up(kind: str, identifier: str) -> dict[str, Any]:
    """What every object has, and what some kinds must have."""
    made = {"id": identifier, "object": kind, "created": CREATED, "livemode": False, "metadata": {}}
    if kind == "payment_method":
        made |= {"type": "card", "card": {"brand": "visa", "last4": "4242"}, "billing_details": {}, "customer": None}
    if kind == "product":
        made |= {"name": "A product", "type": "service", "active": True}
    if kind == "balance_transaction":
        made |= {"amount": 0, "fee": 0, "net": 0, "currency": "eur", "fee_details": [], "status": "available"}
        made |= {"type": "charge", "available_on": CREATED, "source": None, "reporting_category": "charge"}
    return made


def application(objects: Objects) -> web.Application:
    """The addresses of the API."""

    async def account(_: web.Request) -> web.Response:
        return web.json_response(ACCOUNT)

    async def one(request: web.Request) -> web.Response:
        resource = request.match_info["resource"].rpartition("/")[2]
        kind = SINGULAR.get(resource, resource.removesuffix("s"))
        return web.json_response(objects.find(kind, request.match_info["id"]))

    async def none(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "url": request.path, "has_more": False, "data": []})

    made = web.Application()
    made.router.add_get("/v1/account", account)
    made.router.add_get("/v1/accounts/{id}", account)
    made.router.add_get("/v1/{resource:checkout/sessions}/{id}", one)
    made.router.add_get("/v1/{resource:[a-z_]+}/{id}", one)
    made.router.add_get("/v1/{rest:.*}", none)
    return made


async def serve(port: int, runs: Iterable[str]) -> None:
    """On that port of this machine, until we are told to stop."""
    runner = web.AppRunner(application(Objects(runs)), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2:]))
