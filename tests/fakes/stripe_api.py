"""Stripe's API for customers, as far as Quittance uses it: list by e-mail, create, retrieve; idempotency keys; faults.

    async with StripeApi.running() as stripe_api:
        stripe_api.faults.append(Fault("POST", status=500, executes=True))
        …  # STRIPE_API_BASE=stripe_api.url
        assert stripe_api.made() == 1

After Stripe's documentation: the e-mail filter compares letter by letter and sees what was just written; e-mails are
not unique; a key keeps the status and body of its first execution, failures included, and refuses other parameters
(400) and a second execution at the same time (409).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

from aiohttp import web

JsonObject = dict[str, Any]


@dataclass
class Fault:
    """What goes wrong with the next `times` calls of a method ("GET", "POST"; None for any)."""

    method: str | None = None
    status: int | None = None  # the answer; None for the true one
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    executes: bool = False  # whether the call has its effect all the same
    before: float = 0.0  # seconds until anything happens
    after: float = 0.0  # seconds between effect and answer
    times: int = 1
    body: str | None = None  # answered instead of JSON


class Call(NamedTuple):
    """One call as it came in, and how it was answered (0 while it is not)."""

    method: str
    path: str
    account: str
    livemode: bool
    key: str | None
    params: dict[str, str]
    status: int


class _Kept(NamedTuple):
    params: dict[str, str]
    status: int
    body: JsonObject


class _Refused(Exception):
    def __init__(self, status: int, kind: str, code: str = "", param: str = "", **headers: str) -> None:
        super().__init__(code or kind)
        self.status, self.headers = status, headers
        about = {"type": kind, "code": code, "param": param, "message": f"about somebody@example.com: {code or kind}"}
        self.body = {"error": {name: value for name, value in about.items() if value}}


class StripeApi:
    """The server's state: customers by account and mode, keys, the log of calls, and the faults to come."""

    def __init__(self) -> None:
        """Nobody is a customer yet."""
        self.url = ""
        self.api_keys = {"sk_test_quittance", "sk_live_quittance"}
        self.customers: dict[tuple[str, bool], dict[str, JsonObject]] = {}
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self._kept: dict[tuple[str, bool, str], _Kept | None] = {}
        self._numbers = count(1)

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator["StripeApi"]:
        """A server on a free port of the loopback."""
        api = cls()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", api._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=False)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            api.url = f"http://{host}:{port}"
            yield api
        finally:
            await runner.cleanup()

    def add(self, email: str | None, *, account: str = "self", livemode: bool = False, **fields: Any) -> JsonObject:
        """A customer that is there without a call."""
        number = next(self._numbers)
        customer = {
            "id": f"cus_Fake{number:010d}",
            "object": "customer",
            "created": int(time.time()),
            "email": email,
            "livemode": livemode,
            "name": None,
            "metadata": {},
            **fields,
        }
        self.customers.setdefault((account, livemode), {})[customer["id"]] = customer
        return customer

    def delete(self, customer_id: str, account: str = "self", livemode: bool = False) -> None:
        """Somebody deletes a customer in Stripe."""
        del self.customers[account, livemode][customer_id]

    def made(self, account: str = "self", livemode: bool = False) -> int:
        """How many customers there are."""
        return len(self.customers.get((account, livemode), {}))

    def calls_of(self, method: str) -> list[Call]:
        """The calls of one method."""
        return [call for call in self.calls if call.method == method]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        account = request.headers.get("Stripe-Account", "self")
        key = request.headers.get("Idempotency-Key") if request.method == "POST" else None
        params = {name: str(value) for name, value in (await request.post()).items()} | dict(request.query)
        api_key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        livemode = "_live_" in api_key
        index, call = len(self.calls), Call(request.method, request.path, account, livemode, key, params, 0)
        self.calls.append(call)
        fault = self._fault(request.method)
        await asyncio.sleep(fault.before)
        headers: dict[str, str] = {}
        try:
            if api_key not in self.api_keys:
                raise _Refused(401, "invalid_request_error")
            if fault.status is not None and not fault.executes and fault.status < 500:
                raise _Refused(fault.status, _kind(fault), fault.code)
            status, body, headers = await self._once(call, fault)
        except _Refused as refusal:
            status, body, headers = refusal.status, refusal.body, refusal.headers
        await asyncio.sleep(fault.after)
        self.calls[index] = call._replace(status=status)
        headers = {**headers, **fault.headers, "Request-Id": f"req_{index}"}
        if fault.body is not None:
            return web.Response(status=status, text=fault.body, headers=headers)
        return web.json_response(body, status=status, headers=headers)

    async def _once(self, call: Call, fault: Fault) -> tuple[int, JsonObject, dict[str, str]]:
        """Execute a call, or say again what its key was answered."""
        if call.key is None:
            return (*await self._execute(call, fault), {})
        name = (call.account, call.livemode, call.key)
        if name in self._kept:
            kept = self._kept[name]
            if kept is None:
                raise _Refused(409, "idempotency_error", "idempotency_key_in_use")
            if kept.params != call.params:
                raise _Refused(400, "idempotency_error")
            return kept.status, kept.body, {"Idempotent-Replayed": "true"}
        self._kept[name] = None
        try:
            status, body = await self._execute(call, fault)
        except BaseException:  # refused before it was executed: nothing is kept
            del self._kept[name]
            raise
        self._kept[name] = _Kept(call.params, status, body)
        return status, body, {}

    async def _execute(self, call: Call, fault: Fault) -> tuple[int, JsonObject]:
        await asyncio.sleep(0)  # so that two calls at once really are
        failed = fault.status is not None and fault.status >= 500
        if failed and not fault.executes:
            return fault.status or 500, _Refused(500, "api_error").body
        body = self._effect(call)
        await asyncio.sleep(fault.after)
        return (fault.status or 500, _Refused(500, "api_error").body) if failed else (200, body)

    def _effect(self, call: Call) -> JsonObject:
        account, livemode, params = call.account, call.livemode, call.params
        customers = self.customers.setdefault((account, livemode), {})
        if call.path == "/v1/customers" and call.method == "GET":
            data = [one for one in reversed(customers.values()) if params.get("email") in (None, one["email"])]
            most = int(params.get("limit", "10"))
            return {"object": "list", "url": "/v1/customers", "has_more": len(data) > most, "data": data[:most]}
        if call.path == "/v1/customers" and call.method == "POST":
            if "@" not in params.get("email", "@"):
                raise _Refused(400, "invalid_request_error", "email_invalid", "email")
            known = {name: params[name] for name in ("email", "name") if name in params}
            if unknown := set(params) - set(known):
                raise _Refused(400, "invalid_request_error", "parameter_unknown", min(unknown))
            return self.add(known.get("email"), account=account, livemode=livemode, name=known.get("name"))
        name = call.path.removeprefix("/v1/customers/")
        if call.method == "GET" and name in customers:
            return customers[name]
        raise _Refused(404, "invalid_request_error", "resource_missing", "id")

    def _fault(self, method: str) -> Fault:
        for fault in self.faults:
            if fault.method in (None, method):
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
                return fault
        return Fault()


def _kind(fault: Fault) -> str:
    return "card_error" if fault.status == 402 else "invalid_request_error"
