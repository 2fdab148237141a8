"""Webhooks: signed, in time and late, once and twice, in order and out of it, again until they are taken."""

import time
from typing import Any

import aiohttp
from aiohttp import web

from dev.mailbox import serving
from dev.stripe_events import SIGNATURE_HEADER
from tests.fakes.stripe import StripeApi
from tests.stripe_fake.conftest import SECRET, SELLER, Client, Listener
from tests.support.polling import eventually


async def test_they_come_at_once_and_in_order(client: Client, fake: StripeApi, listener: Listener) -> None:
    """INVARIANT: what happened is what is told, in order, unless a test wants it otherwise."""
    await fake.pay((await client.subscription()).id)
    await fake.webhooks.delivered()
    assert listener.types() == fake.webhooks.types()
    assert len({event["id"] for event in listener.events}) == len(listener.events)
    assert {delivery.status for delivery in fake.webhooks.deliveries} == {200}


async def test_an_event_is_what_its_object_was_then(client: Client, fake: StripeApi, listener: Listener) -> None:
    """INVARIANT: delivered late, it still says how things stood when it happened."""
    fake.webhooks.hold()
    made = await client.session()
    await fake.pay(made.id, "debit")
    await fake.settle(made.id)
    fake.webhooks.release()
    await fake.webhooks.delivered()
    sessions = {e["type"]: e["data"]["object"] for e in listener.events if e["type"].startswith("checkout.")}
    assert sessions["checkout.session.completed"]["payment_status"] == "unpaid"
    assert sessions["checkout.session.async_payment_succeeded"]["payment_status"] == "paid"


async def test_held_back_shuffled_and_twice(client: Client, fake: StripeApi, listener: Listener) -> None:
    """INVARIANT: nothing goes out while held; then everything, each twice, in an order that a seed gives."""
    fake.webhooks.hold()
    await fake.pay((await client.session()).id)
    await fake.webhooks.delivered()
    assert listener.events == []
    happened = fake.webhooks.types()
    assert fake.webhooks.release(shuffled=3, twice=True) == 2 * len(happened)
    await fake.webhooks.delivered()
    assert sorted(listener.types()) == sorted(happened * 2)
    assert listener.types() not in (happened * 2, sorted(happened * 2))
    await fake.pay((await client.session()).id)
    await fake.webhooks.delivered()
    assert len(listener.events) == 3 * len(happened)


async def test_late_and_twice_by_themselves(client: Client, fake: StripeApi, listener: Listener) -> None:
    """INVARIANT: a buyer is back before the webhook is."""
    fake.webhooks.delay = 0.2
    fake.webhooks.twice = True
    began = time.monotonic()
    assert await fake.pay((await client.session()).id) is not None
    assert listener.events == []
    await fake.webhooks.delivered()
    assert time.monotonic() - began >= 0.2
    assert len(listener.events) == 2 * len(fake.events)


async def test_again_until_it_is_taken(client: Client, fake: StripeApi, listener: Listener) -> None:
    """INVARIANT: 3xx, 4xx and 5xx are failures; a new signature each time; an event that is sent again is the same."""
    fake.webhooks.pause = 0.01
    listener.answers = [503, 302, 400, 200]
    made = await client.session()
    await client.v1.checkout.sessions.expire_async(made.id)
    await fake.webhooks.delivered()
    assert [delivery.status for delivery in fake.webhooks.deliveries] == [503, 302, 400, 200]
    assert len({event["id"] for event in listener.events}) == 1
    fake.webhooks.send(fake.events[0])
    await fake.webhooks.delivered()
    assert listener.events[-1] == listener.events[0]


async def test_nobody_listens_and_it_gives_up(client: Client, fake: StripeApi) -> None:
    """INVARIANT: an endpoint that is away holds nothing up for ever."""
    fake.webhooks.pause, fake.webhooks.attempts = 0.01, 3
    fake.webhooks.to("http://127.0.0.1:9/hook", SECRET)
    made = await client.session()
    await client.v1.checkout.sessions.expire_async(made.id)
    await fake.webhooks.delivered()
    assert [delivery.status for delivery in fake.webhooks.deliveries] == [0, 0, 0]


async def test_whose_events_they_are(client: Client, live_client: Client, fake: StripeApi, listener: Listener) -> None:
    """INVARIANT: a connected account's events name it and go to Connect endpoints; livemode is the key's."""
    fake.webhooks.endpoints.clear()
    fake.webhooks.to(f"{listener.url}?own", SECRET, "account")
    fake.webhooks.to(f"{listener.url}?connect", SECRET, "connect")
    fake.webhooks.to(f"{listener.url}?coupons", SECRET, types=frozenset({"coupon.created"}))
    for each, account in ((client, None), (live_client, SELLER)):
        made = await each.session(account=account)
        options: Any = {"stripe_account": account} if account else {}
        await each.v1.checkout.sessions.expire_async(made.id, options=options)
    await client.v1.coupons.create_async({"percent_off": 5})
    await fake.webhooks.delivered()
    came = {(d.url.rpartition("?")[2], d.type) for d in fake.webhooks.deliveries}
    assert came == {
        ("own", "checkout.session.expired"),
        ("own", "coupon.created"),
        ("coupons", "coupon.created"),
        ("connect", "checkout.session.expired"),
    }
    own, connected, *_ = fake.events
    assert ("account" in own, own["livemode"]) == (False, False)
    assert (connected["account"], connected["livemode"]) == (SELLER, True)
    assert connected["api_version"].endswith(".endive")


async def test_ids_differ_from_one_server_to_the_next(client: Client, fake: StripeApi) -> None:
    """INVARIANT: a database that outlives the stand-in never sees an id twice; with a seed, a run can be repeated."""

    async def ids(seed: str | None) -> list[str]:
        async with StripeApi.running(**({} if seed is None else {"seed": seed})) as there:
            caller = Client(there.url)
            made = await caller.subscription()
            await there.pay(made.id)
            await caller.http.close_async()  # type: ignore[no-untyped-call]
            return [made.id, *(event["id"] for event in there.events)]

    assert not set(await ids(None)) & set(await ids(None))
    assert await ids("seed") == await ids("seed")


async def test_a_signature_is_fresh(fake: StripeApi, client: Client, http: aiohttp.ClientSession) -> None:
    """INVARIANT: what an endpoint gets is signed with its own secret; another's does not verify."""
    heard: list[str] = []

    async def hear(request: web.Request) -> web.Response:
        heard.append(request.headers[SIGNATURE_HEADER])
        return web.Response()

    application = web.Application()
    application.router.add_post("/hook", hear)
    async with serving(application) as url:
        fake.webhooks.to(f"{url}/hook", "whsec_a")
        fake.webhooks.to(f"{url}/hook", "whsec_b")
        made = await client.session()
        await client.v1.checkout.sessions.expire_async(made.id)
        await eventually(lambda: len(heard) == 2)
    first, second = heard
    assert first != second
    assert abs(int(first.split(",")[0].removeprefix("t=")) - time.time()) < 5
