"""What an SRE sees of sessions and coupons that are left at Stripe: `doctor`, and the preview of a replay."""

from typing import Any

import pytest
from asyncpg.pool import Pool

from quittance.errors import Rejected
from tests.checkouts.attempts import COUPON, Quote, ended, published, recall
from tests.cli.conftest import Command
from tests.support.handling import pump
from workers import WORKERS, quotes
from workers.runtime import failures

ATTEMPT = """
INSERT INTO checkout_sessions (account, livemode, quote_id, revision, attempt, state, idempotency_key, params, session_id,
                               url, expires_at)
VALUES ($1, $2, $3, $4, 1, 'open', $3, '{}', 'cs_' || $3, 'https://checkout.stripe.com/x', now() + interval '1 day')
"""
SESSIONS, COUPONS = "sessions at Stripe", "coupons at Stripe"


@pytest.fixture
async def recalled(database: Pool) -> None:
    """Q-0 to Q-2, each with a session and a coupon, recalled a moment ago."""
    for number in range(3):
        quote = await published(database, f"Q-{number}")
        await database.execute(ATTEMPT, *quote[:4])
        await database.execute(COUPON, *quote[:4], f"coupon-{number}")
        await recall(database, quote)


async def said(cli: Command) -> dict[str, list[tuple[str, str]]]:
    """State and words of the two areas."""
    found: dict[str, list[tuple[str, str]]] = {SESSIONS: [], COUPONS: []}
    for check in (await cli("doctor", "--no-probe", "--json", STRIPE_API_KEY="sk_test_1")).json:
        if check["area"] in found:
            assert check["cure"] or check["state"] == "ok", check
            found[check["area"]].append((check["state"], check["says"]))
    return found


async def test_nothing_left_at_stripe_is_sound(cli: Command) -> None:
    assert await said(cli) == {SESSIONS: [("ok", "none to be expired")], COUPONS: [("ok", "none to be deleted")]}


async def test_r28_doctor_names_sessions_that_can_still_be_paid(recalled: None, cli: Command, database: Pool) -> None:
    assert (await said(cli))[SESSIONS] == [("ok", "3 to be expired")]
    await database.execute(
        "UPDATE checkout_sessions SET error = 'STRIPE_API_KEY is not set', due_at = now() + interval '9 minutes'"
    )
    assert (await said(cli))[SESSIONS] == [
        ("warning", "3 sessions of ended quotes wait to be expired: STRIPE_API_KEY is not set")
    ]
    await database.execute("UPDATE checkout_sessions SET due_at = now() - interval '2 hours' WHERE quote_id = 'Q-1'")
    await database.execute(
        "UPDATE checkout_sessions SET due_at = 'infinity', error = 'account_refused: status 403' WHERE quote_id = 'Q-2'"
    )
    found = (await said(cli))[SESSIONS]
    assert found[0] == (
        "fault",
        "1 session of ended quotes could not be expired at Stripe: account_refused: status 403",
    )
    assert found[1][0] == "fault"
    assert found[1][1].startswith("1 session of ended quotes should have been expired at Stripe, the first 2 h ")
    # Coupons wait for sessions, and that is told once.
    assert (await said(cli))[COUPONS] == [("ok", "none to be deleted")]


async def test_r16_doctor_names_what_coupons_wait_for(recalled: None, cli: Command, database: Pool) -> None:
    await database.execute("UPDATE checkout_sessions SET state = 'closed'")
    await database.execute("UPDATE quote_coupons SET due_at = now() - interval '2 hours'")
    assert (await said(cli))[COUPONS] == [
        ("warning", "3 coupons wait until the quotes worker knows of their quote's end")
    ]
    await pump([quotes], [], database)
    assert (await said(cli))[COUPONS] == [
        ("warning", "3 coupons of ended quotes should have been deleted at Stripe"),
    ]
    await database.execute("UPDATE quote_coupons SET error = 'status 503', due_at = now() + interval '9 seconds'")
    await database.execute("UPDATE quote_coupons SET due_at = 'infinity', error = 'no' WHERE quote_id = 'Q-1'")
    assert (await said(cli))[COUPONS] == [
        ("warning", "1 coupon could not be deleted at Stripe: no"),
        ("warning", "2 coupons of ended quotes wait to be deleted: status 503"),
    ]


async def test_quotes_show_lists_the_attempts_and_what_they_wait_for(
    recalled: None, cli: Command, database: Pool
) -> None:
    await pump(list(WORKERS.values()), [], database)
    await database.execute("UPDATE checkout_sessions SET due_at = 'infinity', error = 'account_refused: status 403'")
    shown = (await cli("quotes", "show", "Q-1", "--json")).ok().json
    [attempt], [coupon] = shown["attempts"], shown["coupons"]
    assert (attempt["attempt"], attempt["state"], attempt["session_id"]) == (1, "closing", "cs_Q-1")
    assert (attempt["due_at"], attempt["error"]) == (None, "account_refused: status 403")
    assert (coupon["coupon_id"], coupon["state"]) == ("coupon-1", "archiving")
    out = (await cli("quotes", "show", "Q-1")).ok().out
    assert "attempts to pay" in out
    assert "cs_Q-1" in out and "coupon-1" in out


async def test_r28_a_preview_shows_what_would_be_ended_at_stripe(recalled: None, cli: Command, database: Pool) -> None:
    """A refused session's dead letter: its replay would ask again for all that Stripe refused of that quote."""
    await pump(list(WORKERS.values()), [], database)
    await database.execute("UPDATE checkout_sessions SET due_at = 'infinity' WHERE quote_id <> 'Q-2'")
    quote = Quote("self", False, "Q-1", 1, "")
    event = ended(quote)
    async with database.acquire() as db:
        error = Rejected("account_refused", "status 403")
        letter = (await failures.record(db, "checkouts", event, event.headers(), error, (60.0,))).id
    before = await database.fetch("SELECT * FROM checkout_sessions ORDER BY id")
    shown = (await cli("dead-letters", "replay", str(letter), "--dry-run", "--json")).ok().json
    preview: dict[str, Any] = shown.get("preview", shown)
    assert preview["stripe_endings"] == [
        {
            "kind": "session",
            "account": "self",
            "livemode": False,
            "quote_id": quote.quote_id,
            "revision": 1,
            "stripe_id": f"cs_{quote.quote_id}",
            "state": "due",
        }
    ]
    told = (await cli("dead-letters", "replay", str(letter), "--dry-run")).ok().out
    assert "what would be ended at Stripe" in told
    assert "Checkout Session to expire" in told
    assert await database.fetch("SELECT * FROM checkout_sessions ORDER BY id") == before
