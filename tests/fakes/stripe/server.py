"""Stripe, as far as Quittance knows it: the API, the hosted page, OAuth and webhooks, in one server on the loopback."""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from dev.stripe_events import API_VERSIONS
from tests.fakes.stripe import accounts, buyer, customers, refunds, sessions
from tests.fakes.stripe.errors import Refused, api_error
from tests.fakes.stripe.faults import Fault, next_fault
from tests.fakes.stripe.hosted import HostedPage
from tests.fakes.stripe.idempotency import Answer, Keys
from tests.fakes.stripe.oauth import OAuth, OAuthRefused, key_of
from tests.fakes.stripe.parameters import typed
from tests.fakes.stripe.payments import Payment
from tests.fakes.stripe.routes import route
from tests.fakes.stripe.shapes import Asked, Call, JsonObject, Place
from tests.fakes.stripe.world import World

KEY: Final = "sk_test_quittance"
LIVE_KEY: Final = "sk_live_quittance"
EXPIRY_EVERY: Final = 0.2  # seconds


class StripeApi(World):
    """The world with its doors open: the log of calls, the faults to come, and what buyers and sellers do in it."""

    def __init__(self, **world: Any) -> None:
        """Nobody is a customer yet, and no endpoint is told of anything."""
        super().__init__(**world)
        self.api_keys = {KEY, LIVE_KEY}
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.keys = Keys()
        self.oauth = OAuth(self)

    @classmethod
    @asynccontextmanager
    async def running(cls, **world: Any) -> AsyncIterator["StripeApi"]:
        """A server on a free port of the loopback."""
        api = cls(**world)
        application = web.Application()
        application.add_routes([*HostedPage(api).routes(), *api.oauth.routes()])
        application.router.add_route("*", "/{path:.*}", api._answer)
        # A client that gives up does not undo what Stripe has begun.
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=False)
        await runner.setup()
        async with api.webhooks.running():
            expiry = asyncio.create_task(api._expire())
            try:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                host, port = runner.addresses[0][:2]
                api.url = f"http://{host}:{port}"
                yield api
            finally:
                expiry.cancel()
                await asyncio.gather(expiry, return_exceptions=True)
                await runner.cleanup()

    # What there is ---------------------------------------------------------------------------------------------------

    @property
    def events(self) -> list[JsonObject]:
        """Every event so far, in the order in which things happened, delivered or not."""
        return self.webhooks.events

    def add(self, email: str | None, *, account: str = "self", livemode: bool = False, **fields: Any) -> JsonObject:
        """A customer that is there without a call."""
        return customers.add(self, email, Place(account, livemode), **fields)

    def delete(self, customer_id: str, account: str = "self", livemode: bool = False) -> None:
        """Somebody deletes a customer in Stripe."""
        customers.delete(self, customer_id, Place(account, livemode))

    def made(self, account: str = "self", livemode: bool = False) -> int:
        """How many customers there are."""
        return len(self.customers_at(Place(account, livemode)))

    def calls_of(self, method: str, path: str = "") -> list[Call]:
        """The calls of one method, whose path begins so."""
        return [call for call in self.calls if call.method == method and call.path.startswith(path)]

    def sessions_of(self, status: str | None = None) -> list[JsonObject]:
        """The sessions of all accounts and modes, oldest first; of one status where given."""
        found = (payment.session for payment in self.payments.values())
        return [session for session in found if status in (None, session["status"])]

    def payment(self, session: str) -> Payment:
        """What became of a session (its id, or the address of its page)."""
        return self.payments[urlsplit(session).path.rpartition("/")[2]]

    # What people do --------------------------------------------------------------------------------------------------

    async def pay(
        self, session: str, how: buyer.How = "card", *, email: str = "buyer@example.com", name: str = "Bo Buyer"
    ) -> str | None:
        """A buyer submits the page of a session (its id, or the address of its page).

        Gives where they are sent; None if the card is declined. Raises buyer.NotOpen where the session is not open.
        """
        return buyer.pay(self, self.payment(session), how, email, name)

    async def settle(self, session: str, *, paid: bool = True) -> None:
        """The bank decides on a debit."""
        buyer.settle(self.payment(session), paid)

    async def refund(self, session: str, amount: int | None = None) -> JsonObject:
        """The seller gives money back in the Dashboard."""
        return refunds.refund(self, self.payment(session), amount, request_id=self.ids.draw("request"))

    async def expire(self, session: str) -> None:
        """Nobody pays, and the session's time is over; all others stay. Raises buyer.NotOpen."""
        payment = self.payment(session)
        if payment.session["status"] != "open":
            raise buyer.NotOpen(payment.session["status"])
        sessions.end(payment, None)

    async def renew(self, session: str, *, paid: bool = True) -> None:
        """The subscription of a session renews; its invoice is paid, or declined."""
        payment = self.payment(session)
        assert payment.subscription is not None, "the session has no subscription"
        payment.story.goes_on()
        payment.story.renew(payment.subscription, paid=paid)

    async def advance(self, seconds: float) -> None:
        """Let time pass on Stripe's clock; what expires in it does."""
        self.ahead += seconds
        sessions.expire_due(self)

    def change_account(self, account: str, *, livemode: bool = False, **fields: object) -> JsonObject:
        """Stripe or the user changes an account (charges_enabled=False): `account.updated`."""
        return accounts.update(self, account, livemode=livemode, **fields)

    def revoke(self, account: str, *, livemode: bool = False) -> None:
        """The user takes the platform's access away, in their Dashboard."""
        self.oauth.revoke(account, livemode)

    # The API ---------------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        pairs = [(name, str(value)) for name, value in (await request.post()).items()] + list(request.query.items())
        params = dict(pairs)
        api_key = key_of(request, params)
        place = Place(request.headers.get("Stripe-Account", "self"), "_live_" in api_key)
        key = request.headers.get("Idempotency-Key") if request.method == "POST" else None
        index = len(self.calls)
        call = Call(request.method, request.path, *place, key, params, 0)
        self.calls.append(call)
        fault = next_fault(self.faults, request.method, request.path)
        await asyncio.sleep(fault.before)
        if fault.drops and not fault.executes:  # it never arrived: no key knows of it
            return _dropped(request)
        try:
            if api_key not in self.api_keys:
                raise Refused(401, f"Invalid API Key provided: {api_key[:8]}***")
            fault.turns_away()
            answer = await self._done(call, pairs, place, fault, f"req_{index}")
        except Refused as refusal:
            answer = Answer(refusal.status, refusal.body)
        except OAuthRefused as refusal:
            answer = Answer(refusal.status, refusal.body)
        self.calls[index] = call._replace(status=answer.status)
        if fault.drops:
            return _dropped(request)
        headers = {
            "Request-Id": f"req_{index}",
            "Stripe-Version": API_VERSIONS["endive"],
            **({"Idempotency-Key": key} if key else {}),
            **({"Idempotent-Replayed": "true"} if answer.replayed else {}),
            **fault.headers,
        }
        if fault.body is not None:
            return web.Response(status=answer.status, text=fault.body, headers=headers)
        return web.json_response(answer.body, status=answer.status, headers=headers)

    async def _done(
        self, call: Call, pairs: list[tuple[str, str]], place: Place, fault: Fault, request_id: str
    ) -> Answer:
        if call.path in ("/oauth/token", "/oauth/deauthorize") and call.method == "POST":
            act = self.oauth.token if call.path == "/oauth/token" else self.oauth.deauthorize
            return await self._execute(lambda: act(call.params, place.livemode), fault)
        self.accounts.check(place.account, place.livemode)
        to, object_id = route(call.method, call.path)

        async def execute() -> Answer:
            asked = Asked(place, typed(pairs, to.published), request_id, object_id)
            return await self._execute(lambda: to.handle(self, asked), fault)

        if call.key is None:
            return await execute()
        if len(call.key) > 255:
            raise Refused(400, "Idempotency keys can be up to 255 characters", kind="idempotency_error")
        return await self.keys.once(place, call.key, call.path, call.params, execute)

    async def _execute(self, effect: Any, fault: Fault) -> Answer:
        """The effect, unless the fault is that there is none."""
        await asyncio.sleep(0)  # so that two calls at once really are
        answer = Answer(fault.status or 200, {})
        if fault.executes or not fault.fails:
            answer = _effect(effect)
        await asyncio.sleep(fault.after)
        return Answer(fault.status or 500, api_error()) if fault.fails else answer

    async def _expire(self) -> None:
        while True:
            sessions.expire_due(self)
            await asyncio.sleep(EXPIRY_EVERY)


def _effect(effect: Any) -> Answer:
    """What is refused while it is executed is an answer like any other; what fails validation is raised."""
    try:
        return Answer(200, copy.deepcopy(effect()))  # as it is now: a key gives it again as it was
    except (Refused, OAuthRefused) as refusal:
        if type(refusal) is not Refused:
            raise
        return Answer(refusal.status, refusal.body)


def _dropped(request: web.Request) -> web.StreamResponse:
    """The connection ends, and nobody hears what became of the call."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
