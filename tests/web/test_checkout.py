"""Check out: what a click asks Stripe for, where it leads, and when it leads nowhere; each rule by its number."""

import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from asyncpg.pool import Pool
from structlog.testing import capture_logs

from quittance.stripe_client import StripeSettings
from tests.fakes.stripe import KEY, LIVE_KEY, Fault
from tests.fakes.stripe.shapes import Place
from tests.web.conftest import PUBLIC_URL, line
from tests.web.shop import ACCOUNT, Shop, be_impatient, open_shop

MINE = Place(ACCOUNT, False)
SESSIONS = "/v1/checkout/sessions"


@pytest.fixture
async def shop(database: Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    be_impatient(monkeypatch)
    async with open_shop(database) as opened:
        yield opened


@contextmanager
def every_log_line() -> Iterator[list[Any]]:
    """Also what the tests leave out (tests/conftest.py)."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    try:
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
            yield logs
    finally:
        structlog.configure(wrapper_class=before)


async def know_account(shop: Shop, **fields: Any) -> None:
    """What the accounts worker has heard."""
    await shop.database.execute(
        "INSERT INTO accounts (account, livemode, charges_enabled, deauthorised_at) VALUES ($1, false, $2, $3)"
        " ON CONFLICT (account, livemode) DO UPDATE SET charges_enabled = $2, deauthorised_at = $3",
        ACCOUNT,
        fields.get("charges_enabled"),
        fields.get("deauthorised_at"),
    )


# What is asked for ---------------------------------------------------------------------------------------------------


async def test_r12_a_click_leads_to_stripes_page_and_r10_it_asks_for_what_is_due(shop: Shop) -> None:
    token = await shop.publish(
        line(quantity=3, discount={"amount": 100}),
        line(billing_frequency="monthly"),
        discounts=[{"percent": "10", "duration": "once"}],
        fees=[{"name": "Setup", "amount": 500}],
        taxes=[{"percent": "25"}],
    )
    session = shop.stripe.payment(await shop.clicked_to_stripe(token)).session
    due = await shop.database.fetchval("SELECT (totals->>'due')::bigint FROM published_quotes")
    assert (session["amount_total"], session["currency"], session["mode"]) == (due, "usd", "subscription")
    assert session["success_url"] == f"{PUBLIC_URL}/q/{token}/return"
    assert session["cancel_url"] == f"{PUBLIC_URL}/q/{token}"


async def test_r13_payments_go_straight_to_the_connected_account(shop: Shop) -> None:
    token = await shop.publish(contact={"email": "ann@example.com"}, discounts=[{"amount": 100}])
    await shop.clicked_to_stripe(token)
    assert {call.account for call in shop.stripe.calls} == {ACCOUNT}
    assert {(call.method, call.path) for call in shop.stripe.calls} == {
        ("POST", "/v1/coupons"),
        ("GET", "/v1/customers"),
        ("POST", SESSIONS),
    }
    fields = {name for call in shop.stripe.calls_of("POST") for name in call.params}
    assert not {name for name in fields if "transfer" in name or "application_fee" in name or "on_behalf" in name}


async def test_r1_the_keys_own_account_is_called_as_itself(shop: Shop) -> None:
    token = await shop.publish(account="self")
    await shop.clicked_to_stripe(token)
    assert {call.account for call in shop.stripe.calls} == {"self"}


async def test_r3_the_money_is_the_quotes_own_once_the_webhook_is_here(shop: Shop) -> None:
    """The session, and what comes of it, carry all that the quotes worker goes by."""
    token = await shop.publish(line(), line(billing_frequency="monthly"), discounts=[{"amount": 100}])
    await shop.deliver()
    session_id = await shop.clicked_to_stripe(token)
    await shop.deliver()
    await shop.stripe.pay(session_id, email="ann@example.com")
    await shop.deliver()
    assert await shop.status() == "paid"
    data = json.loads(await shop.database.fetchval("SELECT data FROM quotes"))
    assert data["anomalies"] == []
    assert data["amount_captured"] == data["amount_due"] == 19_900


async def test_r15_a_discount_is_one_coupon_of_the_revision(shop: Shop) -> None:
    token = await shop.publish(line(), discounts=[{"name": "Spring", "percent": "10"}], taxes=[{"percent": "25"}])
    session_id = await shop.clicked_to_stripe(token)
    (coupon,) = shop.stripe.coupons.at(MINE).values()
    assert (coupon["amount_off"], coupon["currency"], coupon["duration"]) == (1_000, "usd", "once")
    assert (coupon["metadata"]["quote_id"], coupon["metadata"]["quote_revision"]) == ("Q-1", "1")
    assert shop.stripe.payment(session_id).session["amount_total"] == 11_250
    await shop.stripe.expire(session_id)
    await shop.some_time_passes()
    again = await shop.clicked_to_stripe(token)
    assert again != session_id
    assert len(shop.stripe.coupons.at(MINE)) == 1, "the second attempt has the same coupon"
    row = await shop.database.fetchrow("SELECT revision, coupon_id, state FROM quote_coupons")
    assert row is not None and tuple(row) == (1, coupon["id"], "live")


async def test_r16_the_coupon_is_never_edited(shop: Shop) -> None:
    token = await shop.publish(discounts=[{"amount": 100}])
    session_id = await shop.clicked_to_stripe(token)
    before = dict(next(iter(shop.stripe.coupons.at(MINE).values())))
    await shop.stripe.expire(session_id)
    await shop.deliver()
    await shop.clicked_to_stripe(token)
    await shop.recall()
    await shop.deliver()
    await shop.perform()
    assert {call.path for call in shop.stripe.calls_of("POST", "/v1/coupons")} == {"/v1/coupons"}, "never updated"
    assert "coupon.updated" not in [event["type"] for event in shop.stripe.events]
    deleted = [event["data"]["object"] for event in shop.stripe.events if event["type"] == "coupon.deleted"]
    assert [one["id"] for one in deleted] == [before["id"]], "archived once the quote was recalled"
    await shop.deliver()
    assert "coupon_changed" not in await shop.database.fetchval("SELECT anomalies FROM quotes")


async def test_r16_a_coupon_that_was_deleted_by_hand_is_made_again_since_the_price_stands(shop: Shop) -> None:
    token = await shop.publish(discounts=[{"amount": 100}])
    await shop.stripe.expire(await shop.clicked_to_stripe(token))
    shop.stripe.coupons.at(MINE).clear()
    await shop.some_time_passes()
    session_id = await shop.clicked_to_stripe(token)
    assert shop.stripe.payment(session_id).session["amount_total"] == 9_900


async def test_r16_a_coupon_of_that_id_with_another_discount_sells_nothing(shop: Shop) -> None:
    token = await shop.publish(discounts=[{"amount": 100}])
    await shop.stripe.expire(await shop.clicked_to_stripe(token))
    next(iter(shop.stripe.coupons.at(MINE).values()))["amount_off"] = 9_000
    await shop.some_time_passes()
    with capture_logs() as logs:
        clicked = await shop.click(token)
    assert clicked.status == 502
    assert [entry["error"] for entry in logs if entry["event"] == "checkout.refused"] == ["CouponDiffers"]
    assert shop.payable() == []


async def test_r17_another_revision_has_another_coupon(shop: Shop) -> None:
    await shop.clicked_to_stripe(await shop.publish(discounts=[{"amount": 100}]))
    await shop.recall()
    token = await shop.publish(discounts=[{"amount": 300}])
    session_id = await shop.clicked_to_stripe(token)
    assert shop.stripe.payment(session_id).session["amount_total"] == 9_700
    assert sorted(one["amount_off"] for one in shop.stripe.coupons.at(MINE).values()) == [100, 300]
    assert shop.payable() == [session_id], "the first revision's session was ended before"


async def test_r18_our_own_record_of_the_customer_decides(shop: Shop) -> None:
    known = shop.stripe.add("ann@example.com", account=ACCOUNT)
    await shop.database.execute(
        "INSERT INTO customers (account, livemode, email_normalised, email, email_created, email_event_id,"
        " stripe_customer_id) VALUES ($1, false, 'ann@example.com', 'Ann@example.com', 1, 'evt', $2)",
        ACCOUNT,
        known["id"],
    )
    token = await shop.publish(contact={"email": " Ann@Example.com"})
    session = shop.stripe.payment(await shop.clicked_to_stripe(token)).session
    assert session["customer"] == known["id"]
    assert shop.stripe.calls_of("GET", "/v1/customers") == []


async def test_r18_else_the_oldest_customer_of_that_address_at_stripe(shop: Shop) -> None:
    shop.stripe.add("ann@example.com", account=ACCOUNT, created=2_000)
    oldest = shop.stripe.add("ann@example.com", account=ACCOUNT, created=1_000)
    shop.stripe.add("ann@example.com", account="acct_2", created=1)
    token = await shop.publish(contact={"email": "Ann@Example.com"})
    session = shop.stripe.payment(await shop.clicked_to_stripe(token)).session
    assert session["customer"] == oldest["id"]


async def test_r18_nobody_becomes_a_customer_by_a_click(shop: Shop) -> None:
    token = await shop.publish(contact={"email": "ann@example.com"})
    session = shop.stripe.payment(await shop.clicked_to_stripe(token)).session
    assert (session["customer"], session["customer_details"]["email"]) == (None, "ann@example.com")
    assert shop.stripe.made(ACCOUNT) == 0


async def test_r18_a_customer_who_was_deleted_there_is_left_out(shop: Shop) -> None:
    gone = shop.stripe.add("ann@example.com", account=ACCOUNT)
    await shop.database.execute(
        "INSERT INTO customers (account, livemode, email_normalised, email, email_created, email_event_id,"
        " stripe_customer_id) VALUES ($1, false, 'ann@example.com', 'ann@example.com', 1, 'evt', $2)",
        ACCOUNT,
        gone["id"],
    )
    shop.stripe.delete(gone["id"], ACCOUNT)
    token = await shop.publish(contact={"email": "ann@example.com"})
    session = shop.stripe.payment(await shop.clicked_to_stripe(token)).session
    assert (session["customer"], session["customer_details"]["email"]) == (None, "ann@example.com")
    assert await shop.states() == ["closed", "open"]


async def test_r27_no_trial_and_no_anchor_and_r29_no_end_is_ever_sent(shop: Shop) -> None:
    token = await shop.publish(line(billing_frequency="monthly"))
    session_id = await shop.clicked_to_stripe(token)
    (call,) = shop.stripe.calls_of("POST", SESSIONS)
    forbidden = ("trial", "anchor", "cancel_at", "end", "schedule", "iterations", "payment_method_types")
    assert not [name for name in call.params for word in forbidden if word in name.replace("expires_at", "")]
    await shop.stripe.pay(session_id)
    subscription = shop.stripe.payment(session_id).subscription
    assert subscription is not None
    assert (subscription["trial_end"], subscription["cancel_at"]) == (None, None)


async def test_r30_no_record_is_kept_of_a_subscription(shop: Shop) -> None:
    tables = await shop.database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert tables
    assert not [row["tablename"] for row in tables if "subscription" in row["tablename"]]


# When nothing is sold -----------------------------------------------------------------------------------------------


async def back_to_the_quote(shop: Shop, token: str) -> None:
    """The click leads back to the quote's page, and nothing new can be paid."""
    before, made = shop.payable(), len(shop.stripe.sessions_of())
    clicked = await shop.click(token)
    assert (clicked.status, clicked.location) == (303, f"/q/{token}"), clicked
    assert (shop.payable(), len(shop.stripe.sessions_of())) == (before, made)


async def test_r4_an_account_that_takes_no_charges_sells_nothing(shop: Shop) -> None:
    token = await shop.publish()
    await know_account(shop, charges_enabled=False)
    await back_to_the_quote(shop, token)
    assert shop.stripe.calls == []
    await know_account(shop, charges_enabled=True)
    await shop.clicked_to_stripe(token)


async def test_r4_an_account_of_which_we_have_not_heard_it_is_refused_by_stripe(shop: Shop) -> None:
    token = await shop.publish()
    shop.stripe.change_account(ACCOUNT, charges_enabled=False)
    assert (await shop.click(token)).status == 502
    assert await shop.states() == ["closed"]
    shop.stripe.change_account(ACCOUNT, charges_enabled=True)
    await shop.clicked_to_stripe(token)


async def test_r6_a_revoked_account_sells_nothing(shop: Shop) -> None:
    token = await shop.publish()
    shop.stripe.revoke(ACCOUNT)
    assert (await shop.click(token)).status == 502
    await shop.deliver()
    await back_to_the_quote(shop, token)


async def test_r7_payment_that_is_switched_off_is_not_taken(shop: Shop) -> None:
    await back_to_the_quote(shop, await shop.publish(payment_enabled=False))


async def test_s1_a_key_of_the_other_mode_sells_nothing(shop: Shop) -> None:
    token = await shop.publish(live=True)
    await back_to_the_quote(shop, token)
    assert shop.stripe.calls == []


async def test_without_a_key_nothing_is_sold(database: Pool) -> None:
    async with open_shop(database, processes=1, key="") as shop:
        await back_to_the_quote(shop, await shop.publish())
        assert shop.stripe.calls == []


async def test_a_key_that_stripe_refuses_is_no_dead_end_for_the_quote(database: Pool) -> None:
    async with open_shop(database, processes=1, key="sk_test_revoked") as shop:
        token = await shop.publish()
        with capture_logs() as logs:
            assert (await shop.click(token)).status == 502
        assert "checkout.account_refused" in [entry["event"] for entry in logs]
        assert await shop.states() == ["creating"], "taken up as soon as there is a good key"
        shop.stripe.api_keys.add("sk_test_revoked")
        await shop.clicked_to_stripe(token)


async def test_r28_after_the_expiry_nobody_checks_out_noted_or_not(shop: Shop) -> None:
    token = await shop.publish(expires_on="2100-01-01")
    await shop.pass_expiry()
    await back_to_the_quote(shop, token)
    assert await shop.tick() == 1
    await back_to_the_quote(shop, token)


async def test_r28_an_open_session_does_not_outlive_its_quote(shop: Shop) -> None:
    token = await shop.publish(expires_on="2100-01-01")
    await shop.deliver()
    session_id = await shop.clicked_to_stripe(token)
    assert shop.payable() == [session_id]
    await shop.pass_expiry()
    await shop.tick()
    assert await shop.states() == ["closing"]
    await shop.deliver()
    await shop.perform()
    assert shop.payable() == []
    assert await shop.states() == ["closed"]


async def test_r28_a_quote_that_ends_soon_can_be_paid_until_then(shop: Shop) -> None:
    """Stripe's least is 30 minutes; the session is made for as long, and ended with the quote."""
    token = await shop.publish(expires_on="2100-01-01")
    await shop.leave(60)
    session_id = await shop.clicked_to_stripe(token)
    session = shop.stripe.payment(session_id).session
    assert 1_800 <= session["expires_at"] - session["created"] < 2_000
    await shop.some_time_passes()
    assert await shop.clicked_to_stripe(token) == session_id, "it lasts longer than the quote: no other could be better"
    await shop.pass_expiry()
    await shop.tick()
    await shop.perform()
    assert shop.payable() == []


async def test_r28_a_session_ends_with_a_quote_that_ends_within_the_day(shop: Shop) -> None:
    token = await shop.publish(expires_on="2100-01-01")
    await shop.leave(3_600)
    session = shop.stripe.payment(await shop.clicked_to_stripe(token)).session
    assert 3_590 <= session["expires_at"] - session["created"] <= 3_600


async def test_r17_a_recalled_quote_is_not_sold_and_its_session_is_ended(shop: Shop) -> None:
    token = await shop.publish()
    await shop.clicked_to_stripe(token)
    await shop.recall()
    await back_to_the_quote(shop, token)
    await shop.perform()
    assert shop.payable() == []
    assert await shop.states() == ["closed"]


@pytest.mark.parametrize("how", ["card", "debit"])
async def test_a_paid_or_processing_quote_is_not_sold_again(shop: Shop, how: Any) -> None:
    token = await shop.publish()
    await shop.deliver()
    session_id = await shop.clicked_to_stripe(token)
    await shop.stripe.pay(session_id, how)
    await shop.deliver()
    assert await shop.status() == ("paid" if how == "card" else "processing")
    await back_to_the_quote(shop, token)
    await shop.recall()
    await back_to_the_quote(shop, await shop.publish(line(unit_amount=5_000)))


async def test_a_debit_that_fails_opens_the_quote_again(shop: Shop) -> None:
    token = await shop.publish()
    await shop.deliver()
    session_id = await shop.clicked_to_stripe(token)
    await shop.stripe.pay(session_id, "debit")
    await shop.deliver()
    await shop.stripe.settle(session_id, paid=False)
    await shop.deliver()
    assert await shop.status() == "payment_failed"
    assert await shop.clicked_to_stripe(token) != session_id


async def test_a_debit_that_fails_opens_the_quote_again_whichever_worker_hears_of_it_first(shop: Shop) -> None:
    """The attempt is still `complete` where the checkouts worker lags behind the quotes worker, who knows more."""
    token = await shop.publish()
    await shop.deliver()
    session_id = await shop.clicked_to_stripe(token)
    await shop.stripe.pay(session_id, "debit")
    await shop.deliver()
    await shop.stripe.settle(session_id, paid=False)
    await shop.deliver()
    await shop.database.execute("UPDATE checkout_sessions SET state = 'complete'")
    assert await shop.clicked_to_stripe(token) != session_id


async def test_a_failed_debit_of_an_older_revision_does_not_shut_the_newer_one(shop: Shop) -> None:
    """Its attempt stays `complete` where Stripe tells of the charge alone (RULES S2: a debit can fail after it succeeded)."""
    token = await shop.publish()
    await shop.deliver()
    session_id = await shop.clicked_to_stripe(token)
    await shop.stripe.pay(session_id, "debit")
    await shop.deliver()
    await shop.stripe.settle(session_id, paid=False)
    await shop.deliver()
    await shop.database.execute("UPDATE checkout_sessions SET state = 'complete'")
    await shop.recall()
    newer = await shop.publish(line(unit_amount=5_000))
    await shop.deliver()
    assert await shop.clicked_to_stripe(newer) != session_id


async def test_r29_a_subscription_that_lives_on_after_a_failed_payment_is_not_sold_a_second_time(shop: Shop) -> None:
    """INVARIANT: nobody is charged every month for two subscriptions of one quote."""
    token = await shop.publish(line(billing_frequency="monthly"))
    await shop.deliver()
    session_id = await shop.clicked_to_stripe(token)
    await shop.stripe.pay(session_id, "debit")
    await shop.deliver()
    await shop.stripe.settle(session_id, paid=False)
    await shop.deliver()
    assert await shop.status() == "payment_failed"
    await back_to_the_quote(shop, token)
    payment = shop.stripe.payment(session_id)
    assert payment.subscription is not None
    payment.story.goes_on()
    payment.story.change("customer.subscription.deleted", payment.subscription, status="canceled")
    await shop.deliver()
    assert await shop.clicked_to_stripe(token) != session_id, "the seller has ended it: the quote can be paid again"


async def test_a_declined_card_may_try_again_in_the_same_session(shop: Shop) -> None:
    token = await shop.publish()
    session_id = await shop.clicked_to_stripe(token)
    await shop.stripe.pay(session_id, "declined")
    await shop.deliver()
    assert await shop.clicked_to_stripe(token) == session_id


async def test_a_session_that_is_complete_is_not_sold_again_before_its_webhook_comes(shop: Shop) -> None:
    token = await shop.publish()
    session_id = await shop.clicked_to_stripe(token)
    await shop.stripe.pay(session_id)
    assert await shop.clicked_to_stripe(token) == session_id, "Stripe's own page says so to whoever clicks at once"
    await shop.some_time_passes()
    await back_to_the_quote(shop, token)
    assert await shop.states() == ["complete"]
    await shop.recall()
    await back_to_the_quote(shop, await shop.publish(line(unit_amount=5_000)))


async def test_what_was_paid_on_an_older_revision_is_found_out_before_the_newer_is_sold(shop: Shop) -> None:
    first = await shop.publish()
    session_id = await shop.clicked_to_stripe(first)
    await shop.stripe.pay(session_id)
    await shop.recall()
    await back_to_the_quote(shop, await shop.publish(line(unit_amount=5_000)))
    assert await shop.states() == ["complete"]


# One session ---------------------------------------------------------------------------------------------------------


async def test_two_clicks_two_tabs_and_two_buyers_share_one_session(shop: Shop) -> None:
    token = await shop.publish()
    first = await shop.clicked_to_stripe(token, at=0)
    assert await shop.clicked_to_stripe(token, at=1) == first
    await shop.some_time_passes()
    assert await shop.clicked_to_stripe(token, at=0) == first
    assert shop.payable() == [first]


async def test_a_session_with_little_time_left_makes_way_for_a_new_one(shop: Shop) -> None:
    token = await shop.publish()
    first = await shop.clicked_to_stripe(token)
    await shop.database.execute("UPDATE checkout_sessions SET expires_at = now() + interval '4 minutes'")
    second = await shop.clicked_to_stripe(token)
    assert first != second
    assert shop.payable() == [second]
    assert await shop.states() == ["closed", "open"]


async def test_a_session_that_was_ended_by_hand_makes_way_for_a_new_one(shop: Shop) -> None:
    token = await shop.publish()
    first = await shop.clicked_to_stripe(token)
    await shop.stripe.expire(first)
    await shop.some_time_passes()
    second = await shop.clicked_to_stripe(token)
    assert shop.payable() == [second]


async def test_a_session_that_cannot_be_looked_up_is_gone_to_all_the_same(shop: Shop) -> None:
    token = await shop.publish()
    first = await shop.clicked_to_stripe(token)
    await shop.some_time_passes()
    shop.stripe.faults.append(Fault("GET", status=500))
    assert await shop.clicked_to_stripe(token) == first


# Who clicks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 303),  # what no-referrer makes of our own form
        ({"Sec-Fetch-Site": "none"}, 303),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": PUBLIC_URL}, 403),
        ({"Origin": PUBLIC_URL}, 303),
        ({"Origin": "https://evil.example.com"}, 403),
        ({"Origin": "http://quotes.example.com"}, 403),
        ({"Origin": "https://quotes.example.com.evil.example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://[evil"}, 403),
        ({}, 303),  # no browser
    ],
)
async def test_a_form_on_another_site_starts_no_checkout(shop: Shop, headers: dict[str, str], status: int) -> None:
    token = await shop.publish()
    async with shop.http.post(f"{shop.bases[0]}/q/{token}/checkout", headers=headers, allow_redirects=False) as answer:
        assert answer.status == status
    assert len(shop.payable()) == (status == 303)


async def test_the_form_of_the_host_that_was_asked_is_ours(shop: Shop) -> None:
    token = await shop.publish()
    async with shop.http.post(
        f"{shop.bases[0]}/q/{token}/checkout", headers={"Origin": shop.bases[0]}, allow_redirects=False
    ) as answer:
        assert answer.status == 303


@pytest.mark.parametrize("token", ["x" * 32, "x", "%00" * 8, "..%2f..%2fv1%2fquotes", "%ff" * 30, "x" * 400, "a b"])
async def test_whatever_is_no_page_is_the_same_404(shop: Shop, token: str) -> None:
    await shop.publish()
    clicked = await shop.click(token)
    other = await shop.click("y" * 32)
    assert clicked.status == other.status == 404
    assert clicked.text == other.text
    assert shop.stripe.calls == []


@pytest.mark.parametrize("limiter", ["_addresses", "_pages"])
async def test_who_clicks_too_often_is_told_to_wait(
    database: Pool, limiter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_impatient(monkeypatch)
    monkeypatch.setattr(
        "web.checkout.CLICKS_AT_ONCE" if limiter == "_addresses" else "web.checkout.PAGE_CLICKS_AT_ONCE", 3
    )
    async with open_shop(database, processes=1) as shop:
        token = await shop.publish()
        answers = [await shop.click(token) for _ in range(5)]
        assert [answer.status for answer in answers] == [303, 303, 303, 429, 429]
        assert int(answers[-1].headers["Retry-After"]) >= 1
        other = await shop.publish(quote_id="Q-2")
        assert (await shop.click(other)).status == (429 if limiter == "_addresses" else 303)


async def test_no_log_line_holds_a_secret_or_anybodys_address(shop: Shop) -> None:
    """Stripe's messages may repeat what was sent; the page's token is a secret; the session's address as well."""
    token = await shop.publish(contact={"email": "ann@example.com"}, discounts=[{"amount": 100}])
    with every_log_line() as logs:
        shop.stripe.faults.append(Fault("POST", status=400, path=SESSIONS))
        assert (await shop.click(token)).status == 502
        shop.stripe.faults.append(Fault("POST", status=429, path=SESSIONS))
        assert (await shop.click(token)).status == 503
        session_id = await shop.clicked_to_stripe(token)
        await shop.some_time_passes()
        await shop.stripe.expire(session_id)
        await shop.clicked_to_stripe(token)
    written = json.dumps(logs, default=str)
    assert "checkout.opened" in written
    for secret in (token, "@", "/pay/", KEY, LIVE_KEY, "checkout_key"):
        assert secret not in written, secret


def test_the_settings_say_why_stripe_is_not_called() -> None:
    assert StripeSettings("").silent(False) == "STRIPE_API_KEY is not set"
    assert StripeSettings(LIVE_KEY).silent(False) == "STRIPE_API_KEY is of the other mode"
    assert StripeSettings(LIVE_KEY).silent(True) is None
