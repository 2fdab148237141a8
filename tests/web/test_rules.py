"""Each rule that a quote is refused for, or warned of, through the API's own door."""

from datetime import date
from typing import Any

import pytest
from asyncpg.pool import Pool

from quittance.domain.publishing.policies import STRIPE_2026, Policy
from quittance.expiry import end_of_day
from tests.web.conftest import Api, line, quote

R31 = "AFN ALL AMD COP CRC HUF IDR ISK LBP MMK MRO MUR PKR RSD SOS TZS UZS YER".split()
R32 = "BHD BYR CLF EEK ERN GHS IQD IRR JOD KWD LTL LVL LYD OMR SDG SYP TND VEF ZMK".split()

ACCOUNT = "INSERT INTO accounts (account, livemode, charges_enabled) VALUES ('acct_1', false, $1)"


async def test_r4_an_account_that_is_not_activated_publishes_no_payment(api: Api, database: Pool) -> None:
    await database.execute(ACCOUNT, False)
    refused = await api.publish("Q-1", quote())
    assert (refused.status, refused.faults) == (422, [("R4", "account_not_activated", None)])
    assert (await api.publish("Q-2", quote(payment_enabled=False))).status == 201
    await database.execute("UPDATE accounts SET charges_enabled = true")
    assert (await api.publish("Q-1", quote())).status == 201


async def test_r4_an_account_that_nothing_is_known_of_publishes(api: Api, database: Pool) -> None:
    await database.execute(ACCOUNT, None)
    assert (await api.publish("Q-1", quote())).status == 201


async def test_r4_an_account_that_was_disconnected_publishes_no_payment(api: Api, database: Pool) -> None:
    await database.execute(ACCOUNT, True)
    await database.execute("UPDATE accounts SET deauthorised_at = now()")
    assert (await api.publish("Q-1", quote())).rules == ["R4"]


async def test_r4_of_live_mode_says_nothing_of_test_mode(api: Api, database: Pool) -> None:
    await database.execute(ACCOUNT.replace("false", "true"), False)
    assert (await api.publish("Q-1", quote())).status == 201


async def test_r7_taking_payment_is_the_quotes_own_choice(api: Api) -> None:
    published = await api.publish("Q-1", quote(payment_enabled=False))
    assert (published.status, published.json["content"]["payment_enabled"]) == (201, False)
    assert (await api.publish("Q-2", quote())).json["content"]["payment_enabled"] is True


async def test_r8_renewals_under_psd2_are_a_warning_and_no_refusal(api: Api) -> None:
    published = await api.publish("Q-1", quote(line(billing_frequency="monthly"), currency="EUR"))
    assert (published.status, published.warned) == (201, ["R8"])


async def test_r10_the_least_and_greatest_charge_stand_in_the_answer(api: Api) -> None:
    (small,) = (await api.publish("Q-1", quote(line(unit_amount=49)))).json["errors"]
    assert (small["rule"], small["given"], small["allowed"]) == ("R10", 49, 50)
    assert "50" in small["message"]
    assert "USD" in small["message"]
    (large,) = (await api.publish("Q-1", quote(line(unit_amount=10**12)))).json["errors"]
    assert (large["code"], large["allowed"]) == ("amount_too_large", 999_999_999_999)


async def test_r11_no_lines_net_price_may_be_zero(api: Api) -> None:
    refused = await api.publish("Q-1", quote(line(), line(discount={"percent": "100"}), line(unit_amount=0)))
    assert refused.faults == [("R11", "net_price_zero", 2), ("R11", "net_price_zero", 3)]


async def test_r23_fixed_and_recurring_lines_may_be_mixed(api: Api) -> None:
    lines = (line(unit_amount=500), line(unit_amount=4_900, billing_frequency="monthly"))
    totals = (await api.publish("Q-1", quote(*lines))).json["totals"]
    assert (totals["due"], totals["recurring"], totals["billing_frequency"]) == (5_400, 4_900, "monthly")


async def test_r24_all_recurring_lines_have_one_frequency(api: Api) -> None:
    lines = (line(billing_frequency="monthly"), line(), line(billing_frequency="annually"))
    refused = await api.publish("Q-1", quote(*lines))
    assert refused.faults == [("R24", "frequencies_differ", None)]
    assert "line 1 monthly, line 3 annually" in refused.json["errors"][0]["message"]


async def test_r25_a_recurring_line_has_no_term(api: Api) -> None:
    refused = await api.publish("Q-1", quote(line(billing_frequency="monthly", term="P12M")))
    assert refused.faults == [("R25", "term_not_allowed", 1)]


async def test_r26_tax_on_what_recurs_is_a_warning(api: Api) -> None:
    body = quote(line(billing_frequency="monthly"), taxes=[{"name": "VAT", "percent": "25"}])
    published = await api.publish("Q-1", body)
    assert (published.status, published.warned) == (201, ["R26"])
    totals = published.json["totals"]
    assert (totals["due"], totals["recurring"]) == (12_500, 10_000)


async def test_r28_a_quote_that_has_expired_is_refused(api: Api) -> None:
    refused = await api.publish("Q-1", quote(expires_on="2020-01-31"))
    assert refused.faults == [("R28", "expires_in_the_past", None)]
    assert refused.json["errors"][0]["given"] == "2020-01-31"


EXPIRES_AT = {
    "Europe/Stockholm": "2100-06-30T22:00:00.000Z",
    "America/Los_Angeles": "2100-07-01T07:00:00.000Z",
    "Pacific/Kiritimati": "2100-06-30T10:00:00.000Z",
    None: "2100-07-01T00:00:00.000Z",
}


async def test_r28_a_quote_expires_at_the_end_of_its_day_in_its_time_zone(api: Api) -> None:
    for number, (time_zone, expires_at) in enumerate(EXPIRES_AT.items()):
        published = await api.publish(f"Q-{number}", quote(expires_on="2100-06-30", time_zone=time_zone))
        assert published.json["expires_at"] == expires_at, time_zone


@pytest.mark.parametrize(
    ("day", "time_zone", "end"),
    [
        ((2018, 2, 17), "America/Sao_Paulo", "2018-02-18T03:00:00+00:00"),  # at midnight it was 23:00 again
        ((2018, 11, 3), "America/Sao_Paulo", "2018-11-04T03:00:00+00:00"),  # after 23:59 came 01:00
        ((2026, 3, 29), "Europe/Stockholm", "2026-03-29T22:00:00+00:00"),
    ],
)
def test_r28_a_day_ends_once_also_where_clocks_are_turned(day: tuple[int, int, int], time_zone: str, end: str) -> None:
    assert end_of_day(date(*day), time_zone).isoformat() == end


async def test_r31_currencies_of_other_decimals_are_refused(api: Api) -> None:
    for currency in R31:
        refused = await api.publish("Q-1", quote(line(unit_amount=100_000), currency=currency))
        assert ("R31", "currency_decimals_differ", None) in refused.faults, currency


async def test_r32_currencies_that_stripe_lacks_are_refused(api: Api) -> None:
    for currency in R32:
        refused = await api.publish("Q-1", quote(line(unit_amount=100_000), currency=currency))
        assert ("R32", "currency_not_in_stripe", None) in refused.faults, currency


class TestAnotherPolicy:
    @pytest.fixture
    def policy(self) -> Policy:
        return STRIPE_2026

    async def test_r31_is_the_policy_of_one_day_and_another_can_be_chosen(self, api: Api) -> None:
        assert (await api.publish("Q-1", quote(line(unit_amount=20_000), currency="HUF"))).status == 201
        assert (await api.publish("Q-2", quote(line(unit_amount=5_120), currency="KWD"))).status == 201


async def test_every_broken_rule_is_named_at_once(api: Api) -> None:
    body = quote(
        line(unit_amount=0),
        line(unit_amount=1, billing_frequency="monthly", term="P1Y"),
        line(unit_amount=1, billing_frequency="weekly"),
        currency="ISK",
        expires_on="2020-01-01",
    )
    refused = await api.publish("Q-1", body)
    assert refused.status == 422
    assert sorted(set(refused.rules)) == ["R10", "R11", "R24", "R25", "R28", "R31"]
    assert refused.headers["Content-Type"] == "application/problem+json"


UNREADABLE: list[tuple[dict[str, Any], str]] = [
    ({"time_zone": "Europe/Atlantis"}, "unknown_time_zone"),
    ({"time_zone": "../../etc/passwd"}, "unknown_time_zone"),
    ({"locale": "xx-YY"}, "unknown_locale"),
    ({"expires_on": "9999-12-31"}, "date_too_late"),
    ({"expires_on": "2026-02-30"}, "no_date"),
    ({"titel": "misspelt"}, "unknown_field"),
    ({"title": "\x00"}, "no_text"),
    ({"currency": "dollars"}, "malformed"),
]


async def test_what_cannot_be_read_is_a_fault(api: Api) -> None:
    for given, code in UNREADABLE:
        refused = await api.publish("Q-1", quote(**given))
        assert (refused.status, refused.faults) == (422, [("format", code, None)]), given
