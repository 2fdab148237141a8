"""Check out where everything happens at once, or is lost half-way: never two sessions in which one quote could be paid."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from asyncpg.pool import Pool

from quittance.checkouts import Make, next_step
from tests.fakes.stripe import Fault
from tests.support.polling import eventually
from tests.web.conftest import line
from tests.web.shop import Shop, be_impatient, open_shop

SESSIONS = "/v1/checkout/sessions"


@pytest.fixture
async def shop(database: Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    be_impatient(monkeypatch)
    async with open_shop(database) as opened:
        yield opened


# At once -------------------------------------------------------------------------------------------------------------


async def test_twenty_clicks_at_once_in_two_processes_make_one_session(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.checkout.PATIENCE", 10.0)
    token = await shop.publish(discounts=[{"amount": 100}], contact={"email": "ann@example.com"})
    shop.stripe.faults.append(Fault("POST", path=SESSIONS, before=0.3))
    clicks = await asyncio.gather(*(shop.click(token, at=number) for number in range(20)))
    assert all(click.to_stripe for click in clicks), clicks
    assert len({click.location for click in clicks}) == 1
    assert len(shop.stripe.sessions_of()) == 1
    assert len(shop.stripe.calls_of("POST", SESSIONS)) == 1
    assert await shop.states() == ["open"]


async def test_whoever_waits_too_long_for_another_click_gets_a_page_that_tries_again(shop: Shop) -> None:
    token = await shop.publish()
    shop.stripe.faults.append(Fault("POST", path=SESSIONS, before=1.5))
    first, second = await asyncio.gather(shop.click(token, at=0), shop.click(token, at=1))
    assert sorted([first.status, second.status]) == [303, 503]
    waiting = first if first.status == 503 else second
    assert int(waiting.headers["Retry-After"]) >= 1
    assert f"/q/{token}/checkout" in waiting.text, "the page sends the click again"
    assert len(shop.stripe.sessions_of()) == 1


async def test_twenty_clicks_at_once_on_a_session_that_ends_soon_make_one_new_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.checkout.PATIENCE", 10.0)
    token = await shop.publish()
    old = await shop.clicked_to_stripe(token)
    await shop.database.execute("UPDATE checkout_sessions SET expires_at = now() + interval '1 minute'")
    clicks = await asyncio.gather(*(shop.click(token, at=number) for number in range(20)))
    assert len({click.location for click in clicks}) == 1
    assert len(shop.stripe.sessions_of()) == 2
    assert old not in shop.payable()
    assert len(shop.payable()) == 1


async def test_a_recall_while_the_session_is_made_wins(shop: Shop) -> None:
    token = await shop.publish()
    shop.stripe.faults.append(Fault("POST", path=SESSIONS, after=0.5))
    clicking = asyncio.create_task(shop.click(token))
    await eventually(lambda: shop.stripe.sessions_of("open"))
    await shop.recall()
    assert await shop.states() == ["closing"]
    await shop.perform()
    assert await shop.states() == ["closing"], "the click still holds it"
    clicked = await clicking
    assert (clicked.status, clicked.location) == (303, f"/q/{token}"), "nobody is sent to a session of a recalled quote"
    assert await shop.states() == ["closing"]
    await shop.perform()
    assert (await shop.states(), shop.payable()) == (["closed"], [])


async def test_an_expiry_while_the_session_is_made_wins(shop: Shop) -> None:
    token = await shop.publish(expires_on="2100-01-01")
    shop.stripe.faults.append(Fault("POST", path=SESSIONS, after=0.5))
    clicking = asyncio.create_task(shop.click(token))
    await eventually(lambda: shop.stripe.sessions_of("open"))
    await shop.pass_expiry()
    assert await shop.tick() == 1
    clicked = await clicking
    assert (clicked.status, clicked.location) == (303, f"/q/{token}")
    await shop.perform()
    assert (await shop.states(), shop.payable()) == (["closed"], [])


async def test_a_click_and_an_expiry_at_once_leave_nothing_open(shop: Shop) -> None:
    """Expiry takes no lock of ours: what it does not see of a click, the click must see of it."""
    for number in range(12):
        name = f"Q-{number}"
        token = await shop.publish(quote_id=name, expires_on="2100-01-01")
        await shop.leave(0.02 * (number % 4), quote_id=name)
        await asyncio.gather(shop.click(token), shop.tick(), shop.click(token, at=1), shop.tick())
        await asyncio.sleep(0.1)
        await shop.tick()
        await shop.perform()
        assert shop.payable(name) == []


async def test_an_expiry_passes_over_a_quote_that_a_click_is_at_and_finds_its_attempt_later(shop: Shop) -> None:
    token = await shop.publish(expires_on="2100-01-01")
    await shop.leave(0.5)
    async with shop.database.acquire() as db, db.transaction():
        assert isinstance(await next_step(db, token, uuid4(), shop.endings.settings), Make)
        await eventually(lambda: shop.database.fetchval("SELECT expires_at <= now() FROM published_quotes"))
        assert await shop.tick() == 0, "it would not see the attempt, which nobody would close"
    assert await shop.tick() == 1
    assert await shop.states() == ["closing"]


async def test_the_second_revision_waits_until_the_first_ones_session_is_ended(shop: Shop) -> None:
    first = await shop.publish()
    old = await shop.clicked_to_stripe(first)
    await shop.recall()
    token = await shop.publish(line(unit_amount=20_000))
    shop.stripe.faults.append(Fault("POST", path=f"{SESSIONS}/", status=500))
    assert (await shop.click(token)).status == 503
    assert shop.payable() == [old], "nothing new while the old one can be paid"
    session_id = await shop.clicked_to_stripe(token)
    assert shop.payable() == [session_id]
    assert [(one.revision, one.state) for one in await shop.attempts()] == [(1, "closed"), (2, "open")]


async def test_the_second_revision_ends_a_session_of_the_first_whose_answer_was_lost(shop: Shop) -> None:
    first = await shop.publish()
    shop.stripe.faults.append(Fault("POST", path=SESSIONS, drops=True, executes=True, times=3))
    assert (await shop.click(first)).status == 503
    assert len(shop.payable()) == 1
    await shop.recall()
    token = await shop.publish(line(unit_amount=20_000))
    session_id = await shop.clicked_to_stripe(token)
    assert shop.payable() == [session_id]
    assert len(shop.stripe.sessions_of()) == 2


async def test_a_click_and_the_worker_may_end_one_session_both(shop: Shop) -> None:
    await shop.clicked_to_stripe(await shop.publish())
    await shop.recall()
    token = await shop.publish()
    clicked, _ = await asyncio.gather(shop.click(token), shop.perform())
    if clicked.status == 503:  # the worker was first, and slow
        clicked = await shop.click(token)
    assert clicked.to_stripe
    assert len(shop.payable()) == 1


# Lost ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", path=SESSIONS, drops=True, executes=True),
        Fault("POST", path=SESSIONS, drops=True),
        Fault("POST", path=SESSIONS, status=500, executes=True),
        Fault("POST", path=SESSIONS, status=500),
        Fault("POST", path=SESSIONS, status=502, executes=True, body="<html>Bad gateway</html>"),
        Fault("POST", path=SESSIONS, status=409, code="idempotency_key_in_use"),
    ],
    ids=["answer lost", "call lost", "made and failed", "failed", "made behind a bad gateway", "key in use"],
)
async def test_what_goes_wrong_once_is_no_trouble_of_the_buyers(shop: Shop, fault: Fault) -> None:
    token = await shop.publish()
    shop.stripe.faults.append(fault)
    session_id = await shop.clicked_to_stripe(token)
    assert shop.payable() == [session_id]
    assert len(shop.stripe.sessions_of()) == 1, "what was made is found again"


async def test_an_answer_that_comes_when_we_have_given_up_is_the_same_session(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.checkout.STEP_BUDGET", 0.3)
    token = await shop.publish()
    shop.stripe.faults.append(Fault("POST", path=SESSIONS, after=1.0))
    clicked = await shop.click(token)
    assert clicked.status == 503
    assert await shop.states() == ["creating"]
    await eventually(lambda: all(call.status for call in shop.stripe.calls))
    session_id = await shop.clicked_to_stripe(token)
    assert [one["id"] for one in shop.stripe.sessions_of()] == [session_id]
    one, two = shop.stripe.calls_of("POST", SESSIONS)
    assert (one.key, one.params) == (two.key, two.params)


async def test_who_dies_between_stripes_answer_and_our_book_leaves_the_same_session(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is gone: nobody gives the claim back. Until it runs out nobody else asks; then the same is asked again."""

    async def dies(*_: Any) -> None:
        raise asyncio.CancelledError

    token = await shop.publish(discounts=[{"amount": 100}])
    with monkeypatch.context() as patched:
        patched.setattr("quittance.checkout_book.opened", dies)
        with pytest.raises(Exception, match=r"(?i)disconnected"):
            await shop.click(token)
    (made,) = shop.payable()
    assert await shop.states() == ["creating"]
    assert (await shop.click(token)).status == 503, "it might still be alive"
    await shop.everybody_died()
    assert await shop.clicked_to_stripe(token, at=1) == made
    assert len(shop.stripe.sessions_of()) == 1


async def test_who_dies_before_stripe_is_asked_leaves_nothing_behind(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    token = await shop.publish()
    with monkeypatch.context() as patched:
        patched.setattr("web.checkout.make_session", dies)
        with pytest.raises(Exception, match=r"(?i)disconnected"):
            await shop.click(token)
    (attempt,) = await shop.attempts()
    assert attempt.params is not None
    await shop.everybody_died()
    await shop.clicked_to_stripe(token)
    (call,) = shop.stripe.calls_of("POST", SESSIONS)
    assert call.key == attempt.idempotency_key
    assert call.params["expires_at"] == str(attempt.params["expires_at"]), "what was noted is what is sent"


async def test_who_is_slower_than_the_lease_changes_nothing_any_more(shop: Shop) -> None:
    """Somebody else took over and had the answer first; both lead to the same session."""
    token = await shop.publish()
    shop.stripe.faults.append(Fault("POST", path=SESSIONS, after=0.8))
    slow = asyncio.create_task(shop.click(token))
    await eventually(lambda: shop.stripe.sessions_of("open"))
    await shop.everybody_died()
    fast = await shop.click(token, at=1)  # 409 until the first call ends: asked again, then
    assert {(await slow).location, fast.location} - {None} == {shop.stripe.sessions_of()[0]["url"]}
    assert len(shop.stripe.sessions_of()) == 1
    assert await shop.states() == ["open"]


async def test_an_attempt_that_was_lost_for_so_long_that_it_has_ended_makes_way(shop: Shop) -> None:
    token = await shop.publish()
    shop.stripe.faults.append(Fault("POST", path=SESSIONS, drops=True, executes=True, times=3))
    assert (await shop.click(token)).status == 503
    (lost,) = shop.payable()
    await shop.stripe.expire(lost)
    await shop.database.execute("UPDATE checkout_sessions SET expires_at = now() - interval '1 minute'")
    session_id = await shop.clicked_to_stripe(token)
    assert shop.payable() == [session_id]
    assert await shop.states() == ["closed", "open"]


async def test_a_lost_attempt_whose_time_is_too_short_by_now_makes_way(shop: Shop) -> None:
    """Nobody made it, and its parameters cannot be sent any more: Stripe's least is 30 minutes."""
    token = await shop.publish(expires_on="2100-01-01")
    await shop.leave(40 * 60)
    shop.stripe.faults.append(Fault("POST", path=SESSIONS, drops=True, times=3))
    assert (await shop.click(token)).status == 503
    shop.stripe.ahead += 20 * 60
    # Our clock is not Stripe's here, so the next attempt is refused for the same reason until ours has come as far.
    await shop.leave(3 * 60 * 60)
    session_id = await shop.clicked_to_stripe(token)
    assert shop.payable() == [session_id]
    assert await shop.states() == ["closed", "open"]


# Refused -------------------------------------------------------------------------------------------------------------


async def test_a_failure_that_the_key_keeps_is_no_dead_end(shop: Shop) -> None:
    token = await shop.publish()
    shop.stripe.faults.append(Fault("POST", path=SESSIONS, status=500))
    session_id = await shop.clicked_to_stripe(token)
    first, again, second = shop.stripe.calls_of("POST", SESSIONS)
    assert first.key == again.key != second.key, "asked again, told the same, and begun anew"
    assert shop.stripe.calls_of("GET", SESSIONS), "but only after Stripe was asked whether it had made it"
    assert await shop.states() == ["closed", "open"]
    assert shop.payable() == [session_id]


async def test_too_many_calls_are_passed_on_as_a_pause(shop: Shop) -> None:
    token = await shop.publish()
    shop.stripe.faults.append(Fault("POST", path=SESSIONS, status=429, headers={"Retry-After": "17"}))
    clicked = await shop.click(token)
    assert (clicked.status, clicked.headers["Retry-After"]) == (503, "17")
    assert len(shop.stripe.calls_of("POST", SESSIONS)) == 1, "nobody who is limited is asked again at once"
    key = shop.stripe.calls_of("POST", SESSIONS)[0].key
    await shop.clicked_to_stripe(token)
    assert shop.stripe.calls_of("POST", SESSIONS)[1].key == key


@pytest.mark.parametrize("path", ["/v1/coupons", "/v1/customers", SESSIONS])
async def test_stripe_away_at_any_step_is_a_page_that_tries_again(shop: Shop, path: str) -> None:
    token = await shop.publish(discounts=[{"amount": 100}], contact={"email": "ann@example.com"})
    shop.stripe.faults.append(Fault(path=path, drops=True, times=50))
    clicked = await shop.click(token)
    assert clicked.status == 503
    assert "Retry-After" in clicked.headers
    shop.stripe.faults.clear()
    session_id = await shop.clicked_to_stripe(token)
    assert shop.stripe.payment(session_id).session["amount_total"] == 9_900
    assert len(shop.stripe.sessions_of()) == 1


async def test_a_quote_that_stripe_refuses_is_said_to_be_and_may_be_tried_again(shop: Shop) -> None:
    token = await shop.publish()
    shop.stripe.faults.append(Fault("POST", path=SESSIONS, status=400, code="amount_too_large"))
    clicked = await shop.click(token)
    assert clicked.status == 502
    (attempt,) = await shop.attempts()
    assert (attempt.state, attempt.error) == (
        "closed",
        "status 400, type invalid_request_error, code amount_too_large, request req_0",
    )
    await shop.clicked_to_stripe(token)


async def test_postgres_going_away_in_between_leaves_the_same_session(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: Any) -> None:
        raise ConnectionResetError

    token = await shop.publish()
    with monkeypatch.context() as patched:
        patched.setattr("quittance.checkout_book.opened", fails)
        assert (await shop.click(token)).status == 503
    session_id = await shop.clicked_to_stripe(token)
    assert [one["id"] for one in shop.stripe.sessions_of()] == [session_id]


async def test_no_connection_is_held_while_stripe_is_called(shop: Shop) -> None:
    """Ten slow calls hold nobody up who only needs the database."""
    tokens = [await shop.publish(quote_id=f"Q-{number}") for number in range(12)]
    shop.stripe.faults.append(Fault("POST", path=SESSIONS, before=1.0, times=12))
    clicks = [asyncio.create_task(shop.click(token)) for token in tokens]
    await eventually(lambda: len(shop.stripe.calls_of("POST", SESSIONS)) == 12)
    assert shop.database.get_idle_size() == shop.database.get_size()
    async with asyncio.timeout(0.5):
        assert await shop.status() is None
    assert all([(await click).to_stripe for click in clicks])
