"""`quittance send`: signed as Stripe signs, sent again when asked to, and honest about what became of each event."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import stripe
from aiohttp import web

from dev.places import free_ports
from tests.support.cli import quittance

SECRET = "whsec_send"


@dataclass
class Door:
    """Stands where ingest would: checks the signature with Stripe's own library, answers as it is told."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    answers: list[web.Response] = field(default_factory=list)  # the next ones; 200 when there is none left

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            stripe.WebhookSignature.verify_header(body, request.headers["Stripe-Signature"], SECRET, tolerance=300)
        except stripe.SignatureVerificationError:
            return web.Response(status=400, text="signature")
        self.bodies.append(body)
        return self.answers.pop(0) if self.answers else web.json_response({"received": True})


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    it = Door()
    application = web.Application()
    application.router.add_post("/webhooks/stripe", it.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_ports(1)[0]
    await web.TCPSite(runner, "127.0.0.1", port).start()
    it.url = f"http://127.0.0.1:{port}"
    yield it
    await runner.cleanup()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three events, one a line."""
    path = tmp_path / "events.ndjson"
    lines = [json.dumps({"id": f"evt_{n}", "object": "event", "type": "charge.succeeded", "n": n}) for n in range(3)]
    path.write_text("\n".join(lines))
    return path


async def test_events_arrive_signed_and_byte_for_byte(door: Door, file: Path) -> None:
    answer = (await quittance("send", file, "--url", door.url, "--secret", SECRET)).ok()
    assert sorted(door.bodies) == file.read_bytes().splitlines()
    assert "3 events, sent 3 times: 3 x 200" in answer.out
    assert "evt_1" in answer.out


async def test_the_secret_is_the_first_that_ingest_would_try(door: Door, file: Path, tmp_path: Path) -> None:
    (await quittance("send", file, "--url", door.url, STRIPE_WEBHOOK_SECRETS=f" {SECRET} ,whsec_old")).ok()
    secrets = tmp_path / "secrets"
    secrets.write_text(f"{SECRET}\nwhsec_old\n")
    (await quittance("send", file, "--url", door.url, STRIPE_WEBHOOK_SECRETS_FILE=str(secrets))).ok()
    assert len(door.bodies) == 6


async def test_json_has_one_object_for_each_event(door: Door, file: Path) -> None:
    answer = (await quittance("send", file, "--url", door.url, "--secret", SECRET, "--times", 2, "--json")).ok()
    assert [(row["event_id"], row["number"], row["sent"], row["accepted"]) for row in answer.json] == [
        ("evt_0", 1, 2, 2),
        ("evt_1", 2, 2, 2),
        ("evt_2", 3, 2, 2),
    ]
    assert {row["status"] for row in answer.json} == {200}


async def test_the_same_seed_gives_the_same_order(door: Door, file: Path) -> None:
    order = ["--times", 4, "--shuffle", "--seed", 7, "--concurrency", 1]
    for _ in range(2):
        (await quittance("send", file, "--url", door.url, "--secret", SECRET, *order)).ok()
    assert door.bodies[:12] == door.bodies[12:]
    assert door.bodies[:12] != file.read_bytes().splitlines() * 4


async def test_fresh_ids_are_shared_by_the_copies_of_an_event(door: Door, file: Path) -> None:
    (await quittance("send", file, "--url", door.url, "--secret", SECRET, "--fresh-ids", "--times", 2)).ok()
    ids = [json.loads(body)["id"] for body in door.bodies]
    assert len(ids) == 6
    assert len(set(ids)) == 3
    assert not {"evt_0", "evt_1", "evt_2"} & set(ids)


async def test_503_is_tried_again_as_retry_after_says(door: Door, file: Path) -> None:
    door.answers = [web.Response(status=503, headers={"Retry-After": "0"}) for _ in range(2)]
    answer = (await quittance("send", file, "--url", door.url, "--secret", SECRET, "--json")).ok()
    assert sum(row["requests"] for row in answer.json) == 5


async def test_a_door_that_stays_shut_is_tried_a_bounded_number_of_times(door: Door, file: Path) -> None:
    door.answers = [web.Response(status=503, headers={"Retry-After": "0"}, text="busy") for _ in range(100)]
    answer = await quittance("send", file, "--url", door.url, "--secret", SECRET, "--retries", 2, "--json")
    assert answer.code == 1
    assert len(door.bodies) == 9
    assert [(row["status"], row["accepted"], row["error"]) for row in answer.json] == [(503, 0, "busy")] * 3


async def test_another_answer_is_final_and_exit_1(door: Door, file: Path) -> None:
    answer = await quittance("send", file, "--url", door.url, "--secret", "whsec_wrong")
    assert answer.code == 1
    assert door.bodies == []
    assert "3 x 400" in answer.out


async def test_quiet_lists_only_what_was_not_accepted(door: Door, file: Path) -> None:
    door.answers = [web.Response(status=413)]
    answer = await quittance("send", file, "--url", door.url, "--secret", SECRET, "--quiet", "--concurrency", 1)
    assert "evt_0" in answer.out
    assert "evt_1" not in answer.out


async def test_files_that_are_no_events_are_named(door: Door, file: Path, tmp_path: Path) -> None:
    other = tmp_path / "charge.json"
    other.write_text('{"id": "ch_1", "object": "charge"}')
    named = await quittance("send", file, other, "--url", door.url, "--secret", SECRET)
    assert named.code == 1
    assert "charge.json is no event" in named.err
    folder = (await quittance("send", tmp_path, "--url", door.url, "--secret", SECRET)).ok()
    assert "charge.json is no event" in folder.err
    nothing = await quittance("send", other, "--url", door.url, "--secret", SECRET, "--json")
    assert (nothing.code, nothing.json) == (1, [])


async def test_nobody_at_the_address_is_said_once(file: Path) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    answer = await quittance("send", file, "--url", url, "--secret", SECRET, "--retries", 0)
    assert answer.code == 1
    assert f"nothing answers at {url}/webhooks/stripe" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["/no/such/file"],
        ["{file}"],  # no secret anywhere
        ["{file}", "--secret", SECRET, "--url", "ftp://somewhere"],
        ["{file}", "--secret", SECRET, "--times", "0"],
        ["{file}", "--secret", SECRET, "--seed", "1"],
    ],
)
async def test_wrong_use_is_exit_2(file: Path, arguments: list[str]) -> None:
    answer = await quittance("send", *(part.replace("{file}", str(file)) for part in arguments))
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert answer.out == "" or not arguments
