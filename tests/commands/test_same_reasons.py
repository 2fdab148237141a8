"""HTTP and messages are two ways to the same answers."""

import io
import json
from typing import Any

import pytest

from tests.commands.conftest import PUBLISH, RECALL, Connect, Crm, Running, line, quote
from tests.web.conftest import Api, base, caller, policy, session  # noqa: F401 - fixtures

# What each of the two is given; `PUT` and quote.published, or `POST …/recall` and quote.recalled.
CONTENTS: dict[str, Any] = {
    "R4 to R32, several at once": quote(
        line(unit_amount=0), line(unit_amount=1, billing_frequency="monthly", term=12), currency="HUF"
    ),
    "R10 too small": quote(line(unit_amount=20)),
    "R11": quote(line(unit_amount=0), line()),
    "R15": quote(discounts=[{"percent": "10", "duration": "forever"}]),
    "R24": quote(line(billing_frequency="monthly"), line(billing_frequency="annually")),
    "R25": quote(line(billing_frequency="monthly", term="12 months")),
    "R28": quote(expires_on="2001-01-01"),
    "R31": quote(currency="ISK"),
    "R32": quote(currency="BHD"),
    "fields of other types": quote(line(unit_amount=1.5, quantity="3", name=7), title=None, expires_on="soon"),
    "a field that is none": quote(colour="red"),
    "no object": [],
    "null": None,
}
QUOTE_IDS = ["", "-Q", "Q 1", "Q/1", "ä", "x" * 201]
REVISIONS: list[Any] = [0, -1, 1.5, "1", True, [], 1 << 31]


def told(answer: dict[str, Any]) -> tuple[Any, ...]:
    """What both have: a status, a code, words, and every fault with rule, line, code, message, given and allowed."""
    return (answer["status"], answer["code"], answer["detail"], answer.get("errors", []))


@pytest.fixture
async def both(connect: Connect, caller: Any) -> tuple[Crm, Api]:  # noqa: F811
    """The same account and mode, through either door."""
    return await connect("acct_1"), await caller("acct_1")


@pytest.mark.parametrize("name", CONTENTS)
async def test_a_quote_is_refused_for_the_same_reasons(both: tuple[Crm, Api], running: Running, name: str) -> None:
    crm, api = both
    data, of_json = json.dumps(CONTENTS[name]).encode(), {"Content-Type": "application/json"}
    over_http = await api.ask("PUT", "/v1/quotes/Q-1", data=data, headers=of_json)
    async with running():
        answer = await crm.published("Q-1", CONTENTS[name])
    assert over_http.status == 422
    assert answer.type == "quote.refused"
    assert told(answer.json) == told(over_http.json)
    assert answer.json["errors"]
    for fault in answer.json["errors"]:
        assert set(fault) == {"rule", "line", "code", "message", "given", "allowed"}


@pytest.mark.parametrize("quote_id", QUOTE_IDS)
async def test_an_id_is_refused_for_the_same_reasons(both: tuple[Crm, Api], running: Running, quote_id: str) -> None:
    crm, api = both
    async with running():
        answer = await crm.published(quote_id, quote())
    if quote_id and "/" not in quote_id:  # else it is another address
        over_http = await api.publish(quote_id.replace(" ", "%20"), quote())
        assert told(answer.json) == told(over_http.json)
    assert [error["code"] for error in answer.json["errors"]] == ["quote_id_malformed"]


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_recall_is_refused_for_the_same_reasons(both: tuple[Crm, Api], running: Running, revision: Any) -> None:
    crm, api = both
    over_http = await api.ask("POST", "/v1/quotes/Q-1/recall", json={"revision": revision})
    async with running():
        answer = await crm.asked(RECALL, {"quote_id": "Q-1", "revision": revision})
    assert over_http.status == 422
    assert told(answer.json) == told(over_http.json)


async def test_conflicts_and_what_is_not_there_are_told_alike(both: tuple[Crm, Api], running: Running) -> None:
    crm, api = both
    async with running():
        nothing = await crm.asked(RECALL, {"quote_id": "Q-1"})
        assert told(nothing.json) == told((await api.recall("Q-1")).json)
        assert (await crm.published("Q-1", quote())).accepted
        other = await crm.published("Q-1", quote(title="Another"))
        assert told(other.json) == told((await api.publish("Q-1", quote(title="Another"))).json)
        assert other.json["status"] == 409
        late = await crm.asked(RECALL, {"quote_id": "Q-1", "revision": 9})
        assert told(late.json) == told((await api.recall("Q-1", revision=9)).json)


async def test_who_may_not_is_told_alike(connect: Connect, caller: Any, running: Running) -> None:  # noqa: F811
    reader, http_reader = await connect("acct_1", "read"), await caller("acct_1", "read")
    nobody = Api(http_reader.session, http_reader.base, None)
    async with running():
        forbidden = await reader.published("Q-1", quote())
        assert told(forbidden.json) == told((await http_reader.publish("Q-1", quote())).json)
        assert forbidden.json["status"] == 403
        reader.token = None
        unknown = await reader.published("Q-1", quote())
        assert told(unknown.json) == told((await nobody.publish("Q-1", quote())).json)
        assert unknown.json["status"] == 401


@pytest.mark.parametrize(
    ("body", "properties", "headers"),
    [
        (b"{", {}, {}),
        (b"{}", {"content_type": "text/plain"}, {"Content-Type": "text/plain"}),
        (b"{}", {"content_encoding": "gzip"}, {"Content-Encoding": "gzip"}),
        (b" " * ((1 << 20) + 1), {}, {}),
    ],
    ids=["no JSON", "another type", "compressed", "too large"],
)
async def test_what_cannot_be_read_is_told_alike(
    both: tuple[Crm, Api], running: Running, body: bytes, properties: dict[str, Any], headers: dict[str, str]
) -> None:
    crm, api = both
    over_http = await api.ask(
        "PUT", "/v1/quotes/Q-1", data=io.BytesIO(body), headers={"Content-Type": "application/json", **headers}
    )
    async with running():
        answer = await crm.asked(PUBLISH, body, **properties)
    assert told(answer.json) == told(over_http.json)


async def test_what_is_accepted_is_shown_alike(both: tuple[Crm, Api], running: Running) -> None:
    crm, api = both
    content = quote(
        line(billing_frequency="monthly"), currency="EUR", expires_on="2099-12-31", taxes=[{"percent": "25"}]
    )
    async with running():
        first = (await crm.published("Q-1", content)).json
        again = (await crm.published("Q-1", content)).json
        over_http = await api.publish("Q-1", content)
        recalled = (await crm.asked(RECALL, {"quote_id": "Q-1", "revision": 1})).json
    of_messages = {"message_id", "command", "outcome"}
    assert over_http.status == 200
    for told_by_message in (first, again):
        assert {name: value for name, value in told_by_message.items() if name not in of_messages} == over_http.json
    assert (first["outcome"], again["outcome"], recalled["outcome"]) == ("published", "unchanged", "recalled")
    assert {name: value for name, value in recalled.items() if name not in of_messages} == (await api.read("Q-1")).json
