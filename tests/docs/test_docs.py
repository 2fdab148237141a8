"""The README is true: its example runs, and what it names is there."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from asyncpg import Pool
from jsonschema import Draft202012Validator
from prometheus_client import Counter, Gauge, Histogram
from ruamel.yaml import YAML
from typer.main import get_command

from dev.lives import LIVES, life
from dev.stripe_events import SHAPES
from ingest import metrics as ingest_metrics
from quittance.cli import app
from tests.support.handling import pump
from tests.support.messages import Broker
from tests.support.polling import eventually
from tests.support.random_lives import as_event
from web import metrics as web_metrics
from workers import WORKERS
from workers.runtime import metrics as worker_metrics

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
PAGES = {page.name: page.read_text() for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))}
SCHEMA = json.loads((ROOT / "docs/crm-event.schema.json").read_text())


async def told_of_many_lives(database: Pool) -> list[dict[str, object]]:
    """What the CRM is told of every sample life, by all workers."""
    told = []
    for name in LIVES:
        for shape in SHAPES:
            events = [as_event(sent) for sent in life(name, f"docs/{name}/{shape}", shape=shape).events]
            told += await pump(list(WORKERS.values()), events, database)
    return [json.loads(event.body) for event in told]


async def test_every_published_event_keeps_the_contract(database: Pool) -> None:
    """INVARIANT: what is published is what docs/crm-event.schema.json says, or a consumer built from it breaks."""
    Draft202012Validator.check_schema(SCHEMA)
    validator = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
    told = await told_of_many_lives(database)
    assert len(told) > 100
    for event in told:
        validator.validate(event)
        assert set(event["data"]) == set(SCHEMA["properties"]["data"]["properties"])  # type: ignore[call-overload]


def test_the_asyncapi_document_names_the_same_contract() -> None:
    document = YAML(typ="safe").load(ROOT / "docs/crm-events.asyncapi.yaml")
    assert document["asyncapi"] == "3.0.0"
    channel = document["channels"]["quotePaymentStatus"]
    assert channel["bindings"]["amqp"]["exchange"]["name"] == "crm.events"
    assert channel["parameters"]["status"]["enum"] == SCHEMA["$defs"]["status"]["enum"]
    message = document["components"]["messages"]["quotePaymentStatusChanged"]
    assert (ROOT / "docs" / message["payload"]["schema"]["$ref"]).is_file()
    assert message["contentType"] == "application/cloudevents+json"


async def test_the_consumer_in_the_readme_runs(database: Pool, amqp: Broker) -> None:
    (example,) = re.findall(r"<!-- example:.*?-->\n```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 16
    # Two sellers who number their quotes alike: the consumer must tell them apart.
    lives = [life("refunded", account, account=account, quote_id="Q-1") for account in ("acct_1", "acct_2")]
    events = [as_event(sent) for one in lives for sent in one.events]
    for event in await pump(list(WORKERS.values()), events, database):
        await amqp.send("crm", event)

    async def drained() -> bool:
        return await amqp.depth("crm") == 0

    consumer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", example, env={"AMQP_URL": amqp.url}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert consumer.stdout is not None
    try:
        async with asyncio.timeout(20):
            waiting = {b"/accounts/acct_1/test/quotes/Q-1 refunded", b"/accounts/acct_2/test/quotes/Q-1 refunded"}
            while waiting:
                line = await consumer.stdout.readline()
                waiting -= {end for end in waiting if line.startswith(end)}
        await eventually(drained, timeout=10)
    finally:
        consumer.kill()
        await consumer.wait()


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page: str) -> None:
    folder = ROOT if (ROOT / page).exists() else ROOT / "docs"
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", PAGES[page]):
        assert (folder / target).exists(), target


def test_every_variable_that_is_read_is_explained() -> None:
    sources = [
        path.read_text() for part in ("ingest", "workers", "web", "quittance") for path in (ROOT / part).rglob("*.py")
    ]
    read = {name for text in sources for name in re.findall(r"(?:reader|Reader\(\))\.\w+\(\s*\"([A-Z][A-Z_]+)\"", text)}
    explained = set(re.findall(r"`([A-Z][A-Z_]{3,})`", README))
    assert len(read) > 15
    assert read - explained == set()


def test_every_metric_is_explained() -> None:
    names = {
        str(metric._name)
        for module in (ingest_metrics, web_metrics, worker_metrics)
        for metric in vars(module).values()
        if isinstance(metric, Counter | Gauge | Histogram)
    }
    missing = {name for name in names if name not in OPERATIONS}
    assert missing == set()


def test_the_table_of_queues_is_that_of_the_workers() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", ARCHITECTURE, re.MULTILINE))
    assert set(WORKERS) <= set(rows)


def test_every_command_that_is_shown_exists() -> None:
    root = get_command(app)
    for page in (README, OPERATIONS, PAGES["publishing.md"]):
        for line in re.findall(r"quittance ((?:[a-z-]+ ?){1,2})", page):
            words = line.split()
            if words[0] in root.commands:  # type: ignore[attr-defined]
                command = root.commands[words[0]]  # type: ignore[attr-defined]
                if hasattr(command, "commands") and len(words) > 1:
                    assert words[1] in command.commands, line


def test_every_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z]+)", README, re.MULTILINE)) <= targets
