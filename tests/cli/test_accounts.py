"""`quittance accounts list`, and what `doctor` says of the platform's client id."""

from asyncpg.pool import Pool

from tests.accounts.account_events import authorised, deauthorised, updated
from tests.cli.conftest import Command
from tests.support.cli import quittance
from tests.support.handling import run_handler
from workers import accounts


async def test_accounts_are_listed_with_what_an_sre_asks_first(db_cli: Command, database: Pool) -> None:
    assert (await db_cli("accounts", "list")).ok().out.strip() == "nothing is known of any account"
    assert (await db_cli("accounts", "list", "--json")).ok().json == []
    told = [
        authorised(at=0, account="acct_1"),
        updated(True, at=1, account="acct_1", name="Åkes\x1b[31m Bygg", country="SE"),
        authorised(at=0, account="acct_2", live=True),
        deauthorised(at=9, account="acct_2", live=True),
        updated(False, at=1, account=None),
    ]
    await run_handler(accounts, told, database)
    table = (await db_cli("accounts", "list")).ok().out
    assert "Åkes" in table
    assert "\x1b" not in table
    rows = (await db_cli("accounts", "list", "--json")).ok().json
    assert [(row["account"], row["livemode"], row["charges_enabled"]) for row in rows] == [
        ("acct_1", False, True),
        ("acct_2", True, None),
        ("self", False, False),
    ]
    assert [row["deauthorised_at"] is None for row in rows] == [True, False, True]
    assert [row["account"] for row in (await db_cli("accounts", "list", "--mode", "live", "--json")).ok().json] == [
        "acct_2"
    ]
    assert (await db_cli("accounts", "list", "--account", "acct_3", "--json")).ok().json == []


async def test_doctor_says_whether_accounts_can_be_connected() -> None:
    async def environment(**given: str) -> dict[str, str]:
        said = (await quittance("doctor", "--json", **given)).json
        return {check["says"]: check["state"] for check in said if "CONNECT" in check["says"]}

    (text, state) = (await environment(STRIPE_CONNECT_CLIENT_ID="sk_test_1")).popitem()
    assert state == "fault"
    assert "sk_test_1" not in text
    good = {"STRIPE_CONNECT_CLIENT_ID": "ca_12345678", "STRIPE_API_KEY": "sk_live_x"}
    assert set((await environment(**good)).values()) == {"ok"}
    assert set((await environment(**good, PUBLIC_URL="http://quotes.example.com")).values()) == {"warning"}
    assert set((await environment(STRIPE_CONNECT_CLIENT_ID="ca_12345678")).values()) == {"warning"}
    assert set((await environment()).values()) == {"note"}
