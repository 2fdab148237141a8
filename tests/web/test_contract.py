"""web/openapi.yaml says what the handlers do: checked by requests made from it, and by what they answer."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from quittance.domain.publishing.content import FREQUENCIES
from quittance.domain.status import Status
from tests.web.conftest import Api, line, quote
from web import tokens
from web.api import MOST_CHANGES, MOST_OF_A_PAGE
from web.reading import STATUSES

DOCUMENT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "web/openapi.yaml").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = [
    (path, method) for path, item in DOCUMENT["paths"].items() for method in item if method in ("get", "put", "post")
]


def validator(name: str) -> Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def test_the_document_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    for name in SCHEMAS:
        Draft202012Validator.check_schema(SCHEMAS[name])


async def test_it_is_served_to_everybody(api: Api) -> None:
    answer = await Api(api.session, api.base, None).ask("GET", "/openapi.json")
    assert answer.status == 200
    assert answer.json | {"servers": []} == DOCUMENT | {"servers": []}
    assert answer.json["servers"] == [{"url": "https://quotes.example.com"}]


def test_its_closed_lists_and_limits_are_those_of_the_code() -> None:
    assert tuple(SCHEMAS["Status"]["enum"]) == STATUSES
    assert set(SCHEMAS["BillingFrequency"]["enum"]) == set(FREQUENCIES)
    limits = {
        path: item["get"]["parameters"][-1]["schema"]["maximum"]
        for path, item in DOCUMENT["paths"].items()
        if path in ("/v1/quotes", "/v1/changes")
    }
    assert limits == {"/v1/quotes": MOST_OF_A_PAGE, "/v1/changes": MOST_CHANGES}
    assert Status is not None


async def test_good_answers_are_what_it_says(api: Api) -> None:
    body = quote(
        line(discount={"percent": "10"}, billing_frequency="monthly"),
        currency="EUR",
        taxes=[{"percent": "25"}],
        discounts=[{"amount": 100, "duration": "forever"}],
        expires_on="2100-01-01",
        contact={"email": "bo@example.com"},
    )
    for answer in (await api.publish("Q-1", body), await api.read("Q-1"), await api.recall("Q-1")):
        assert answer.status in (200, 201)
        validator("Quote").validate(answer.json)
    for each in (await api.list()).json["quotes"]:
        validator("QuoteSummary").validate(each)
    refused = await api.publish("Q-2", quote(line(unit_amount=0), titel="misspelt"))
    validator("Faults").validate(refused.json)
    validator("Problem").validate((await api.read("Q-3")).json)


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "BURST", 1_000_000)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
async def test_whatever_it_allows_or_forbids_is_answered_as_it_says(
    unlimited: None, api: Api, path: str, method: str
) -> None:
    """Requests made from the document, right and wrong ones; no answer may be one of the 500s, or other than it says."""
    await api.publish("Q-1", quote())
    document = DOCUMENT | {"servers": [{"url": api.base}]}
    schema = schemathesis.openapi.from_dict(document)
    operation = schema[path][method.upper()]
    checks: list[Any] = [check for check in CHECKS.get_all() if check.__name__ in WANTED]
    assert len(checks) == len(WANTED)

    right = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    answered: Counter[int] = Counter()

    @given(case=right | wrong)
    @settings(
        max_examples=60, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    def ask(case: schemathesis.Case[Any]) -> None:
        answer = case.call_and_validate(
            base_url=api.base, headers={"Authorization": f"Bearer {api.token}"}, checks=checks, timeout=20
        )
        answered[answer.status_code] += 1

    with ThreadPoolExecutor(1) as threads:
        await asyncio.get_running_loop().run_in_executor(threads, ask)
    assert len(answered) > 1, "or the requests were all of one kind"


WANTED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
