"""What is accepted: byte for byte, with its headers, and before anybody is told."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from dev.stripe_events import sign
from ingest.app import PATH
from quittance.event import from_message
from tests.ingest.ingress import Ingress, event_body, signed
from tests.support.messages import Broker


async def test_an_event_arrives_byte_for_byte_with_its_headers(
    shared_ingress: Ingress, client: aiohttp.ClientSession, amqp: Broker
) -> None:
    body = (
        b'{\n "type": "charge.succeeded",  "id": "evt_1",\t"livemode": true, "account": "acct_1", "created": 1790000000,\n\
 "data": {"object": {"description": "caf\xc3\xa9 \\u0000 \\ud83d\\ude00", "amount": 1e400}}, "id": "evt_2" }\n'
    )
    before = time.time()

    async with client.post(shared_ingress.url + PATH, data=body, headers=signed(body)) as answer:
        assert answer.status == 200
        assert await answer.read() == b'{"received": true}'
        assert answer.content_type == "application/json"

    (message,) = await amqp.get("archive")
    assert message.body == body
    assert message.exchange == "stripe.events"
    assert message.routing_key == message.type == "charge.succeeded"
    assert message.content_type == "application/json"
    event = from_message(message.headers, message.type, message.body)
    assert (event.id, event.account, event.livemode, event.created) == ("evt_2", "acct_1", True, 1_790_000_000)
    assert before - 0.001 <= event.received_at <= time.time()
    assert event.traceparent is None
    assert set(message.headers) - {"x-delivery-count"} == {"event-id", "account", "livemode", "created", "received-at"}


async def test_the_message_is_persistent_and_its_id_is_of_this_attempt_alone(
    shared_ingress: Ingress, client: aiohttp.ClientSession, amqp: Broker
) -> None:
    """INVARIANT: two deliveries of one event are two messages, or a returned one would pass for confirmed."""
    body = event_body("evt_1")
    assert await asyncio.gather(*(shared_ingress.post(client, body) for _ in range(20))) == [200] * 20

    ids = set()
    for _ in range(20):
        about = (await amqp.channel.basic_get("archive", no_ack=True)).header.properties
        assert about.delivery_mode == 2
        assert re.fullmatch("[0-9a-f]{32}", about.message_id or "")
        ids.add(about.message_id)
    assert len(ids) == 20


async def test_every_worker_whose_queue_is_bound_gets_it(
    shared_ingress: Ingress, client: aiohttp.ClientSession, amqp: Broker
) -> None:
    assert await shared_ingress.post(client, event_body("evt_1", "checkout.session.completed")) == 200

    for queue in ("archive", "checkouts", "customers", "quotes"):
        assert [json.loads(message.body)["id"] for message in await amqp.get(queue)] == ["evt_1"], queue


@pytest.mark.parametrize(
    "body",
    [
        event_body("evt_1", "no.such.type.of.event"),
        event_body("e" * 255, "t" * 255),
        event_body("\u00e9" * 127, "\u00e9" * 127),
        b'{"id":"evt_1","type":"t"}',
        b'{"id":"evt_1","type":"v1.billing.meter.error","object":"v2.core.event"}',
        b'{"id":"evt_1","type":"t","account":7,"livemode":"yes","created":"yesterday"}',
        b'{"id":"evt_1","type":"t","created":1e400,"livemode":null}',
        b'{"id":"evt_1","type":"t","api_version":"2099-01-01.unknown","data":null}',
        b'{"id":"evt\\u0000_1","type":"t"}',
        b'{"id":"evt_1","type":"t","data":{"object":{"description":"cut in two: \\ud83d"}}}',
        event_body("evt_1") + b" " * ((1 << 20) - len(event_body("evt_1"))),
    ],
    ids=[
        "a type nobody knows",
        "names of 255 bytes",
        "names of 254 bytes in two-byte letters",
        "the least",
        "a thin event",
        "optional fields of other types",
        "a number beyond all measure",
        "an API version not known",
        "a NUL in the id",
        "half of an emoji in a text",
        "a mebibyte to the byte",
    ],
)
async def test_what_stripe_signed_is_taken_whatever_else_it_holds(
    body: bytes, shared_ingress: Ingress, client: aiohttp.ClientSession, amqp: Broker
) -> None:
    assert await shared_ingress.post(client, body) == 200

    (message,) = await amqp.get("archive")
    assert message.body == body
    from_message(message.headers, message.type, message.body)  # and the workers can read it


async def test_chunked_bodies_and_identity_are_taken(
    shared_ingress: Ingress, client: aiohttp.ClientSession, amqp: Broker
) -> None:
    body = event_body("evt_1")

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    for headers in ({}, {"Content-Encoding": "Identity"}):
        async with client.post(
            shared_ingress.url + PATH, data=pieces(), headers={**signed(body), **headers}, skip_auto_headers=[]
        ) as answer:
            assert answer.status == 200
    assert [message.body for message in await amqp.get("archive")] == [body, body]


@pytest.mark.parametrize("secret", ["whsec_first", "whsec_second"])
async def test_each_of_the_secrets_is_tried(
    secret: str, shared_ingress: Ingress, client: aiohttp.ClientSession, amqp: Broker
) -> None:
    body = event_body("evt_1")

    assert await shared_ingress.post(client, body, **signed(body, secret)) == 200


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", False),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        ("00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01", False),
        ("rubbish" * 100, False),
    ],
)
async def test_a_trace_is_passed_on_if_it_is_one(
    given: str, passed_on: bool, shared_ingress: Ingress, client: aiohttp.ClientSession, amqp: Broker
) -> None:
    assert await shared_ingress.post(client, event_body("evt_1"), traceparent=given) == 200

    (message,) = await amqp.get("archive")
    assert message.headers.get("traceparent") == (given if passed_on else None)


def recorded(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob("*.json"))]


async def test_the_recorded_payloads_are_all_accepted_and_kept(
    payloads: Path, shared_ingress: Ingress, client: aiohttp.ClientSession, amqp: Broker
) -> None:
    events = [body for body in recorded(payloads) if b'"object": "event"' in body and b'"type"' in body]
    assert len(events) > 100

    for body in events:
        answered = await shared_ingress.post(client, body)
        fields = json.loads(body)
        whole = isinstance(fields, dict) and isinstance(fields.get("id"), str) and isinstance(fields.get("type"), str)
        assert answered == (200 if whole else 400)
        if whole:
            assert [message.body for message in await amqp.get("archive")] == [body]


async def test_health_readiness_and_metrics(shared_ingress: Ingress, client: aiohttp.ClientSession) -> None:
    for path, expected in (("/healthz", {"alive": True}), ("/readyz", {"ready": True})):
        async with client.get(shared_ingress.url + path) as answer:
            assert (answer.status, await answer.json()) == (200, expected)
    async with client.get(f"{shared_ingress.url}/metrics") as answer:
        text = await answer.text()
        assert answer.content_type == "text/plain"
    assert "quittance_ingest_broker_up 1.0" in text
    assert "quittance_ingest_in_flight 0.0" in text
    for name in ("accepted_total", "refused_total", "confirm_seconds_bucket"):
        assert f"quittance_ingest_{name}" in text


def test_our_signer_is_stripes() -> None:
    """What the tests and the command line sign with is what Stripe's library would write."""
    import stripe

    body = event_body("evt_1")
    assert sign(body, "whsec_x", 1_790_000_000) == stripe.WebhookSignature.generate_signature_header(
        body.decode(), "whsec_x", 1_790_000_000
    )
