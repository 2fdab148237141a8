"""The environment: every fault at once, before anything is opened; and secrets that change while it runs."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ingest.settings import Secrets, SecretsError
from quittance.settings import Reader
from tests.ingest.ingress import SECRET, Ingress, event_body, running, signed
from tests.support.messages import Broker
from tests.support.polling import eventually


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m ingest` with this environment alone, which is expected to end by itself."""
    given = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(
        [sys.executable, "-m", "ingest", *arguments], env=given, capture_output=True, text=True, timeout=30, check=False
    )


def test_what_is_missing_is_named_all_at_once() -> None:
    ended = run()

    assert ended.returncode == 2
    assert "AMQP_URL" in ended.stderr
    assert "STRIPE_WEBHOOK_SECRETS" in ended.stderr
    assert "DATABASE_URL" not in ended.stderr, "there is no database in the ingress"
    assert "Traceback" not in ended.stderr


def test_what_is_wrong_is_named_all_at_once_and_no_secret_is_shown(tmp_path: Path) -> None:
    ended = run(
        AMQP_URL="http://user:hidden-password@localhost",
        STRIPE_WEBHOOK_SECRETS="whsec_hidden,,whsec_too",
        STRIPE_WEBHOOK_SECRETS_FILE=str(tmp_path / "missing"),
        INGEST_PORT="80801",
        LOG_LEVEL="loud",
        LOG_FORMAT="xml",
    )

    assert ended.returncode == 2
    assert ended.stderr.count("\n  - ") == 6, ended.stderr
    for name in ("AMQP_URL", "STRIPE_WEBHOOK_SECRETS:", "STRIPE_WEBHOOK_SECRETS_FILE", "INGEST_PORT", "LOG_LEVEL"):
        assert name in ended.stderr
    assert "secret 2 is empty" in ended.stderr
    assert "hidden" not in ended.stderr


@pytest.mark.parametrize(
    "url", ["amqp://user:hidden/word@host/", "amqp://user:pass@host:hidden/", "amqp://[hidden", "hidden", "amqp:///x"]
)
def test_an_address_that_is_none_is_a_fault_and_not_shown(url: str) -> None:
    ended = run(AMQP_URL=url, STRIPE_WEBHOOK_SECRETS=SECRET)

    assert ended.returncode == 2
    assert "AMQP_URL" in ended.stderr
    assert "hidden" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_names_every_variable() -> None:
    ended = run("--help")

    assert ended.returncode == 0
    for name in (
        "AMQP_URL",
        "STRIPE_WEBHOOK_SECRETS",
        "STRIPE_WEBHOOK_SECRETS_FILE",
        "INGEST_HOST",
        "INGEST_PORT",
        "LOG_LEVEL",
        "LOG_FORMAT",
    ):
        assert name in ended.stdout
    assert run("--no-such-option").returncode == 2


def test_a_port_that_somebody_else_has_is_said() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ended = run(
            AMQP_URL="amqp://127.0.0.1:1/",
            STRIPE_WEBHOOK_SECRETS=SECRET,
            INGEST_HOST="127.0.0.1",
            INGEST_PORT=str(other.getsockname()[1]),
        )

    assert ended.returncode == 1
    assert "ingest.cannot_listen" in ended.stderr
    assert "Traceback" not in ended.stderr


def secrets_of(**environment: str) -> tuple[tuple[str, ...], list[str]]:
    reader = Reader(environment)
    return Secrets.read(reader).current, reader.faults


def test_secrets_of_both_variables_are_tried_each_once(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text("whsec_c\nwhsec_a\r\n")

    assert secrets_of(STRIPE_WEBHOOK_SECRETS=" whsec_a, whsec_b ", STRIPE_WEBHOOK_SECRETS_FILE=str(file)) == (
        ("whsec_a", "whsec_b", "whsec_c"),
        [],
    )
    assert secrets_of(STRIPE_WEBHOOK_SECRETS_FILE=str(file)) == (("whsec_c", "whsec_a"), [])


@pytest.mark.parametrize("text", ["", " ", ",", "whsec_a,", ",whsec_a", "whsec_a, ,whsec_b", "whs ec", "whsec_\u00e9"])
def test_an_empty_or_impossible_secret_is_a_fault(text: str) -> None:
    _, faults = secrets_of(STRIPE_WEBHOOK_SECRETS=text)

    assert len(faults) == 1
    assert "whs" not in faults[0]


@pytest.mark.parametrize("content", [b"", b"\n", b"whsec_a\n\nwhsec_b\n", b"\xff\xfe", b"a" * 70_000, b"a\x00b"])
def test_a_file_that_is_no_list_of_secrets_keeps_the_old_ones(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_bytes(b"whsec_a\n")
    secrets = Secrets((), file)
    file.write_bytes(content)

    with pytest.raises(SecretsError):
        secrets.reload()
    assert secrets.current == ("whsec_a",)


@pytest.mark.parametrize("make", [Path.mkdir, Path.unlink], ids=["a folder", "gone"])
def test_a_file_that_is_no_file_keeps_the_old_ones(make: Any, tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_bytes(b"whsec_a\n")
    secrets = Secrets((), file)
    if make is Path.mkdir:
        file.unlink()
    make(file)

    with pytest.raises(SecretsError):
        secrets.reload()
    assert secrets.current == ("whsec_a",)


async def test_secrets_are_rotated_by_sighup_without_a_restart(
    amqp: Broker, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    file = tmp_path / "secrets"
    file.write_text("whsec_old\n")
    body = event_body("evt_1")

    async def status(ingress: Ingress, secret: str) -> int:
        return await ingress.post(client, body, **signed(body, secret))

    with running(
        tmp_path, amqp.url, STRIPE_WEBHOOK_SECRETS="whsec_fixed", STRIPE_WEBHOOK_SECRETS_FILE=str(file)
    ) as ingress:
        assert [await status(ingress, secret) for secret in ("whsec_old", "whsec_fixed", "whsec_new")] == [
            200,
            200,
            400,
        ]

        file.write_text("whsec_old\nwhsec_new\n")
        ingress.signal(signal.SIGHUP)
        await eventually(lambda: ingress.lines("secrets.reloaded"))
        assert [await status(ingress, secret) for secret in ("whsec_old", "whsec_fixed", "whsec_new")] == [200] * 3

        file.write_text("whsec_newest\n\n\n")
        ingress.signal(signal.SIGHUP)
        (said,) = await eventually(lambda: ingress.lines("secrets.kept"))
        assert "empty" in said["reason"]
        assert [await status(ingress, secret) for secret in ("whsec_old", "whsec_new", "whsec_newest")] == [
            200,
            200,
            400,
        ]

        file.write_text("whsec_new\n")
        ingress.signal(signal.SIGHUP)
        await eventually(lambda: len(ingress.lines("secrets.reloaded")) == 2)
        assert [await status(ingress, secret) for secret in ("whsec_old", "whsec_new")] == [400, 200]
        assert "whsec" not in ingress.text()


async def test_sighup_without_a_file_changes_nothing(
    amqp: Broker, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    with running(tmp_path, amqp.url) as ingress:
        ingress.signal(signal.SIGHUP)
        await eventually(lambda: ingress.lines("secrets.reloaded"))

        assert await ingress.post(client, event_body("evt_1")) == 200
