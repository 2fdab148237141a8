"""docs/publishing.md, "As a message", and docs/crm-events.asyncapi.yaml are true of what is really sent."""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
import yaml
from asyncpg.pool import Pool
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from dev.servers import Servers
from quittance.broker import CRM_COMMANDS
from quittance.publishing import QUOTE_ID
from tests.commands.conftest import PUBLISH, RECALL, Crm, Running, line, make_token, quote
from workers.command_wishes import TROUBLES, UNKNOWN_COMMAND
from workers.commands import QUEUE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/publishing.md").read_text()
ASYNCAPI: dict[str, Any] = yaml.safe_load((ROOT / "docs/crm-events.asyncapi.yaml").read_text())
MESSAGES = ASYNCAPI["components"]["messages"]
REGISTRY = Registry().with_resources(
    (
        f"https://quittance.invalid/{path}",
        DRAFT202012.create_resource(yaml.safe_load((ROOT / path).read_text())),
    )
    for path in ("docs/crm-events.asyncapi.yaml", "web/openapi.yaml")
)


def validator(message: str) -> Draft202012Validator:
    """Of one message's payload; paths in it are relative to docs/."""
    where = f"#/components/messages/{message}/payload/schema"
    schema = {"$ref": f"https://quittance.invalid/docs/crm-events.asyncapi.yaml{where}"}
    return Draft202012Validator(schema, registry=REGISTRY, format_checker=Draft202012Validator.FORMAT_CHECKER)


def test_the_document_has_the_commands_of_the_code() -> None:
    for message in MESSAGES.values():
        if "$ref" not in message["payload"]["schema"]:
            Draft202012Validator.check_schema(message["payload"]["schema"])
    channel = ASYNCAPI["channels"]["quoteCommands"]
    keys = {channel["address"].format(command=name) for name in channel["parameters"]["command"]["enum"]}
    assert {channel["bindings"]["amqp"]["exchange"]["name"]: tuple(sorted(keys))} == dict(QUEUE.bindings)
    assert {MESSAGES[name]["name"] for name in channel["messages"]} == keys == {PUBLISH, RECALL}
    refused = MESSAGES["quoteRefused"]["payload"]["schema"]["properties"]
    codes = refused["code"]["description"]
    for refusal in (*TROUBLES.values(), UNKNOWN_COMMAND):
        assert refusal.code in codes and refusal.status in refused["status"]["enum"]
    pattern = MESSAGES["publishQuote"]["payload"]["schema"]["properties"]["quote_id"]["pattern"]
    assert pattern == f"^{QUOTE_ID.pattern}$"


def test_what_is_pointed_at_is_there() -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    resolver = REGISTRY.resolver("https://quittance.invalid/docs/crm-events.asyncapi.yaml")
    for target in references(ASYNCAPI):
        if target.endswith(".json"):
            assert (ROOT / "docs" / target).is_file()
        else:
            resolver.lookup(target)


async def test_what_is_sent_and_answered_keeps_the_contract(crm: Crm, running: Running) -> None:
    content = quote(line(billing_frequency="monthly"), currency="EUR")
    commands = [
        (PUBLISH, {"quote_id": "Q-1", "quote": content}),
        (PUBLISH, {"quote_id": "Q-1", "quote": quote(title="Another")}),
        (RECALL, {"quote_id": "Q-1", "revision": 1}),
        (RECALL, {"quote_id": "Q-none"}),
    ]
    faulty = [(PUBLISH, {"quote_id": "Q-2", "quote": quote(line(unit_amount=0))}), (PUBLISH, b"{"), (RECALL, [])]
    async with running():
        for key, body in commands:
            validator("publishQuote" if key == PUBLISH else "recallQuote").validate(body)
        answers = [await crm.asked(key, body) for key, body in [*commands, *faulty]]
        crm.token = None
        answers.append(await crm.asked(*commands[0]))
    assert [answer.accepted for answer in answers] == [True, False, True, False, False, False, False, False]
    for answer in answers:
        validator("quoteAccepted" if answer.accepted else "quoteRefused").validate(answer.json)
        about = MESSAGES["quoteAccepted" if answer.accepted else "quoteRefused"]
        assert (answer.type, answer.about.content_type) == (about["name"], "application/json")


@pytest.fixture
def crm_user(servers: Servers, amqp_url: str) -> Iterator[str]:
    """The broker's address for a CRM that may what the page says that it may, and no more."""
    if not servers.managed:
        pytest.skip("AMQP_URL names a server on which no user can be made")
    (given,) = re.findall(r"rabbitmqctl set_permissions --vhost / crm '(.*?)' '(.*?)' '(.*?)'", PAGE)
    name, parts = f"crm-{uuid4().hex[:8]}", urlsplit(amqp_url)
    servers.rabbitmqctl("add_user", name, "secret")
    servers.rabbitmqctl("set_permissions", "--vhost", parts.path.removeprefix("/"), name, *given)
    yield urlunsplit(parts._replace(netloc=f"{name}:secret@{parts.hostname}:{parts.port}"))
    servers.rabbitmqctl("delete_user", name)


async def test_the_example_runs_with_the_permissions_that_the_page_gives(
    crm_user: str, running: Running, database: Pool
) -> None:
    (example,) = re.findall(r"<!-- example: run by tests/commands.*?-->\n```python\n(.*?)```", PAGE, re.DOTALL)
    (shown,) = re.findall(r"name the command: `message_id`.*?```json\n(.*?)```", PAGE, re.DOTALL)
    token = await make_token(database, "self", "publish")
    assert CRM_COMMANDS in example
    async with running():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error",
            "-c",
            example,
            env={"AMQP_URL": crm_user, "TOKEN": token},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(30):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, err.decode()
    fault = json.loads(shown)["errors"][0]
    assert out.decode().strip() == f"quote.refused deal-7 None {[fault]}"
