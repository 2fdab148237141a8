"""The table of answers: every way to be refused that we could think of, none of them a 500, nothing published."""

import asyncio
import contextlib
import gzip
import io
import json
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from tests.ingest.ingress import PATH, Ingress, event_body, signed
from tests.support.messages import Broker
from tests.support.polling import eventually

GOOD = event_body("evt_refused")
MIB = 1 << 20


def sealed(body: bytes, **headers: str) -> tuple[bytes, dict[str, str]]:
    """A body that is well signed, so that it is the body which is refused."""
    return body, {**signed(body), **headers}


def with_header(value: str) -> tuple[bytes, dict[str, str]]:
    return GOOD, {"Stripe-Signature": value}


def at(offset: float) -> tuple[bytes, dict[str, str]]:
    return GOOD, signed(GOOD, at=time.time() + offset)


def now() -> int:
    return int(time.time())


def digest(body: bytes = GOOD) -> str:
    return signed(body)["Stripe-Signature"].split("v1=")[1]


def envelope(**fields: Any) -> tuple[bytes, dict[str, str]]:
    return sealed(json.dumps({"object": "event", **fields}).encode())


Request = tuple[bytes, dict[str, str]]

POSTED: dict[str, tuple[int, str, Callable[[], Request]]] = {
    # The signature.
    "no signature": (400, "no_signature", lambda: (GOOD, {})),
    "an empty signature": (400, "malformed_signature", lambda: with_header("")),
    "a signature of blanks": (400, "malformed_signature", lambda: with_header("   ")),
    "rubbish": (400, "malformed_signature", lambda: with_header("rubbish")),
    "no time": (400, "malformed_signature", lambda: with_header(f"v1={digest()}")),
    "a time that is none": (400, "malformed_signature", lambda: with_header(f"t=soon,v1={digest()}")),
    "two times": (400, "malformed_signature", lambda: with_header(f"t={now()},t={now()},v1={digest()}")),
    "a time of 200 digits": (400, "malformed_signature", lambda: with_header(f"t={'9' * 200},v1={digest()}")),
    "a signature that is not ASCII": (400, "malformed_signature", lambda: with_header(f"t={now()},v1=\u00e9")),
    "a signature of 5,000 characters": (400, "malformed_signature", lambda: with_header(f"t={now()},v1={'a' * 5000}")),
    "six minutes old": (400, "stale_signature", lambda: at(-360)),
    "from 1970": (400, "stale_signature", lambda: with_header(f"t=0,v1={digest()}")),
    "six minutes ahead": (400, "future_signature", lambda: at(360)),
    "from the year 9999": (400, "future_signature", lambda: with_header(f"t=253402300799,v1={digest()}")),
    "another secret": (400, "wrong_signature", lambda: (GOOD, signed(GOOD, "whsec_of_nobody"))),
    "another body": (400, "wrong_signature", lambda: (GOOD + b" ", signed(GOOD))),
    "another time": (400, "wrong_signature", lambda: with_header(f"t={now() - 5},v1={digest()}")),
    "only v0": (400, "wrong_signature", lambda: with_header(f"t={now()},v0={digest()}")),
    "a signature cut short": (400, "wrong_signature", lambda: with_header(f"t={now()},v1={digest()[:-2]}")),
    "a forged signature of the right form": (400, "wrong_signature", lambda: with_header(f"t={now()},v1={'0' * 64}")),
    # The body, well signed.
    "no body": (400, "not_an_event", lambda: sealed(b"")),
    "bytes that are no text": (400, "body_not_utf8", lambda: sealed(b'{"id":"evt_1","type":"t","x":"\xff"}')),
    "UTF-16": (400, "body_not_utf8", lambda: sealed('{"id":"evt_1","type":"t"}'.encode("utf-16"))),
    "a byte order mark": (400, "not_an_event", lambda: sealed(b"\xef\xbb\xbf" + GOOD)),
    "no JSON": (400, "not_an_event", lambda: sealed(b"id=evt_1&type=t")),
    "JSON cut short": (400, "not_an_event", lambda: sealed(GOOD[:-1])),
    "JSON and more": (400, "not_an_event", lambda: sealed(GOOD + b"{}")),
    "NaN": (400, "not_an_event", lambda: sealed(b'{"id":"evt_1","type":"t","created":NaN}')),
    "half a surrogate pair": (400, "not_an_event", lambda: sealed(b'{"id":"\\ud800","type":"t"}')),
    "a list": (400, "not_an_event", lambda: sealed(b"[" + GOOD + b"]")),
    "a string": (400, "not_an_event", lambda: sealed(b'"evt_1"')),
    "null": (400, "not_an_event", lambda: sealed(b"null")),
    "brackets a hundred thousand deep": (400, "not_an_event", lambda: sealed(b"[" * 100_000)),
    "an object a hundred thousand deep": (
        400,
        "not_an_event",
        lambda: sealed(b'{"id":"evt_1","type":"t","data":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001),
    ),
    "no id": (400, "not_an_event", lambda: envelope(type="charge.succeeded")),
    "no type": (400, "not_an_event", lambda: envelope(id="evt_1")),
    "an id that is a number": (400, "not_an_event", lambda: envelope(id=1, type="charge.succeeded")),
    "an id that is null": (400, "not_an_event", lambda: envelope(id=None, type="charge.succeeded")),
    "a type that is an object": (400, "not_an_event", lambda: envelope(id="evt_1", type={})),
    "an empty id": (400, "not_an_event", lambda: envelope(id="", type="charge.succeeded")),
    "an empty type": (400, "not_an_event", lambda: envelope(id="evt_1", type="")),
    "an id of 256 bytes": (400, "not_an_event", lambda: envelope(id="e" * 256, type="charge.succeeded")),
    "a type of 256 bytes": (400, "not_an_event", lambda: envelope(id="evt_1", type="t" * 256)),
    "a type of 128 characters and 256 bytes": (400, "not_an_event", lambda: envelope(id="evt_1", type="\u00e9" * 128)),
    "an account of 200,000 bytes": (400, "not_an_event", lambda: envelope(id="evt_1", type="t", account="a" * 200_000)),
    # What is refused before the body is looked at.
    "gzip": (415, "compressed_body", lambda: sealed(gzip.compress(GOOD), **{"Content-Encoding": "gzip"})),
    "deflate": (415, "compressed_body", lambda: sealed(GOOD, **{"Content-Encoding": "deflate"})),
    "br": (415, "compressed_body", lambda: sealed(GOOD, **{"Content-Encoding": "br"})),
    "an encoding nobody knows": (415, "compressed_body", lambda: sealed(GOOD, **{"Content-Encoding": "rot13"})),
    "two encodings": (415, "compressed_body", lambda: sealed(GOOD, **{"Content-Encoding": "identity, gzip"})),
    "no encoding named": (415, "compressed_body", lambda: sealed(GOOD, **{"Content-Encoding": ""})),
    "a byte over a mebibyte": (413, "body_too_large", lambda: sealed(GOOD + b" " * (MIB + 1 - len(GOOD)))),
    "ten mebibytes": (413, "body_too_large", lambda: sealed(b" " * (10 * MIB))),
}


@pytest.mark.parametrize("name", POSTED)
async def test_a_malformed_request_has_its_answer_and_publishes_nothing(
    name: str, shared_ingress: Ingress, client: aiohttp.ClientSession, amqp: Broker
) -> None:
    status, reason, make = POSTED[name]
    body, headers = make()

    async with client.post(
        shared_ingress.url + PATH, data=io.BytesIO(body), headers=headers, skip_auto_headers=["Content-Encoding"]
    ) as answer:
        assert (answer.status, await answer.json()) == (status, {"error": reason})
        assert "Retry-After" not in answer.headers
    assert await amqp.depth("archive") == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_another_method_is_405(
    method: str, shared_ingress: Ingress, client: aiohttp.ClientSession, amqp: Broker
) -> None:
    async with client.request(method, shared_ingress.url + PATH, data=GOOD, headers=signed(GOOD)) as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "POST"
    assert await amqp.depth("archive") == 0


@pytest.mark.parametrize("path", ["/", "/webhooks", "/webhooks/stripe/", "/webhooks/stripe/x", "/WEBHOOKS/stripe"])
async def test_another_path_is_404_and_no_redirect(
    path: str, shared_ingress: Ingress, client: aiohttp.ClientSession
) -> None:
    """Stripe takes a redirect for a failure."""
    async with client.post(shared_ingress.url + path, data=GOOD, headers=signed(GOOD), allow_redirects=False) as answer:
        assert answer.status == 404


def wire(*headers: str, body: bytes = GOOD, sign: bool = True, line: str = f"POST {PATH} HTTP/1.1") -> bytes:
    """A request as it goes over the wire."""
    seal = [f"{name}: {value}" for name, value in signed(body).items()] if sign else []
    return "\r\n".join([line, "Host: x", *headers, *seal, "", ""]).encode("latin-1") + body


def sized(body: bytes = GOOD) -> str:
    return f"Content-Length: {len(body)}"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


# What no client library would send: the statuses that are right for it.
RAW: dict[str, tuple[set[int], Callable[[], tuple[bytes, ...]]]] = {
    "not HTTP": ({400}, lambda: (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n",)),
    "a length that is no number": ({400}, lambda: (wire("Content-Length: ten"),)),
    "a negative length": ({400}, lambda: (wire("Content-Length: -1"),)),
    "two lengths": ({400}, lambda: (wire(sized(), "Content-Length: 1"),)),
    "a length and chunks": ({400}, lambda: (wire(sized(), "Transfer-Encoding: chunked"),)),
    "a chunk size that is no number": (
        {400},
        lambda: (wire("Transfer-Encoding: chunked", body=b"") + b"xyz\r\n" + GOOD + b"\r\n0\r\n\r\n",),
    ),
    "chunks over a mebibyte": (
        {413},
        lambda: (
            wire("Transfer-Encoding: chunked", body=b""),
            *[chunk(b" " * 65_536)] * 17,
            b"0\r\n\r\n",
        ),
    ),
    "a transfer that is compressed": (
        {400, 415, 501},
        lambda: (wire("Transfer-Encoding: gzip, chunked", body=b"") + chunk(gzip.compress(GOOD)) + b"0\r\n\r\n",),
    ),
    "two signature headers": ({400}, lambda: (wire(sized(), f"Stripe-Signature: t={now()},v1={digest()}"),)),
    "a header of 10,000 bytes": ({400, 431}, lambda: (wire(sized(), f"X-Long: {'x' * 10_000}"),)),
    "500 headers": ({400, 431}, lambda: (wire(sized(), *[f"X-{n}: 1" for n in range(500)]),)),
    "a header with a NUL": ({400}, lambda: (wire(sized(), "X-Nul: a\x00b"),)),
    "a header without a colon": ({400}, lambda: (wire(sized(), "rubbish"),)),
    "a folded header": ({400}, lambda: (wire(sized(), "X-Folded: a", " b"),)),
    "bytes above ASCII in the signature": (
        {400},
        lambda: (wire(sized(), f"Stripe-Signature: t={now()},v1=\xff\xfe", sign=False),),
    ),
    "no host": ({400}, lambda: (wire(sized()).replace(b"Host: x\r\n", b""),)),
    "a method that is none": ({400, 405}, lambda: (wire(sized(), line=f"BREW {PATH} HTTP/1.1"),)),
    "HTTP/3.7": ({400, 505}, lambda: (wire(sized(), line=f"POST {PATH} HTTP/3.7"),)),
    "an expectation nobody can meet": ({417}, lambda: (wire(sized(), "Expect: miracles"),)),
}


@pytest.mark.parametrize(("statuses", "make"), RAW.values(), ids=RAW)
async def test_what_is_hardly_http_is_refused(
    statuses: set[int], make: Callable[[], tuple[bytes, ...]], shared_ingress: Ingress, amqp: Broker
) -> None:
    status, received = await asyncio.to_thread(shared_ingress.raw, *make())

    assert status in statuses, received
    assert await amqp.depth("archive") == 0


async def test_a_body_that_does_not_arrive_is_408(shared_ingress: Ingress, amqp: Broker) -> None:
    started = time.monotonic()
    status, _ = await asyncio.to_thread(shared_ingress.raw, wire(sized(), body=GOOD)[:-5])

    assert status == 408
    assert 4.5 < time.monotonic() - started < 7
    assert await amqp.depth("archive") == 0


async def test_a_body_that_breaks_off_into_rubbish_is_refused(shared_ingress: Ingress, amqp: Broker) -> None:
    """aiohttp does not tell who reads a body that its rest is no body: it looks like one that does not arrive."""
    reader, writer = await asyncio.open_connection("127.0.0.1", shared_ingress.port)
    writer.write(wire("Transfer-Encoding: chunked", body=b"") + chunk(GOOD[:9]))
    await writer.drain()
    await asyncio.sleep(0.1)  # the gap is the case: the handler reads already
    writer.write(b"zzz\r\nrubbish\r\n\r\n")
    first_line = await asyncio.wait_for(reader.readline(), 8)
    writer.close()

    assert first_line.split()[1] in {b"400", b"408"}
    assert await amqp.depth("archive") == 0


async def test_a_client_that_hangs_up_is_no_error_of_ours(shared_ingress: Ingress, amqp: Broker) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", shared_ingress.port)
    writer.write(wire(sized(), body=GOOD)[:-5])
    await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    del reader

    await eventually(lambda: "broken_body" in shared_ingress.text())
    assert await amqp.depth("archive") == 0
    assert "Traceback" not in shared_ingress.text()


async def test_refusals_are_counted_by_reason_and_logged_without_payload_or_secret(
    shared_ingress: Ingress, client: aiohttp.ClientSession
) -> None:
    async def counted() -> float:
        async with client.get(f"{shared_ingress.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        name = 'quittance_ingest_refused_total{reason="wrong_signature"} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = await counted()
    for _ in range(50):
        assert await shared_ingress.post(client, GOOD, **signed(GOOD, "whsec_of_nobody")) == 400

    assert await counted() == before + 50
    logged = [line for line in shared_ingress.lines("webhook.refused") if line["reason"] == "wrong_signature"]
    assert 1 <= len(logged) < 50, "one line a second and reason, not one a request"
    for secret in ("whsec_", "evt_refused", digest()):
        assert secret not in shared_ingress.text()
