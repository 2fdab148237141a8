"""The good answers about accounts are those of web/openapi.yaml (tests/web/test_contract.py tries all the others)."""

from tests.web.conftest import Caller
from tests.web.connect.browser import Browser
from tests.web.test_contract import DOCUMENT, validator
from web.connect import MOST_ACCOUNTS

SELLER = "acct_1SellerOne00000000"


async def test_good_answers_are_what_it_says(caller: Caller, browser: Browser) -> None:
    seller, platform = await caller(SELLER), await caller("self")
    begun = await seller.ask("POST", "/v1/connect", json={})
    assert begun.status == 201
    validator("Connecting").validate(begun.json)
    for api in (seller, platform):
        validator("Account").validate((await api.ask("GET", "/v1/account")).json)
    await browser.connect(seller, SELLER)
    answers = [
        (await seller.ask("GET", "/v1/account")).json,
        *(await platform.ask("GET", "/v1/accounts")).json["accounts"],
        (await platform.ask("POST", "/v1/disconnect", json={"account": SELLER})).json,
    ]
    for account in answers:
        validator("Account").validate(account)
    validator("Faults").validate((await platform.ask("POST", "/v1/disconnect")).json)


def test_its_limit_is_that_of_the_code() -> None:
    assert DOCUMENT["paths"]["/v1/accounts"]["get"]["parameters"][-1]["schema"]["maximum"] == MOST_ACCOUNTS
