"""What every answer carries, and what no request may be."""

import asyncio
import re
from typing import Any, Final
from uuid import uuid4

import msgspec
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from web.problems import Problem

MAX_BODY: Final = 1 << 20  # bytes
READ_BUDGET: Final = 5.0  # seconds for a body to arrive

HEADERS: Final = {
    hdrs.CACHE_CONTROL: "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
HSTS: Final = "max-age=31536000"

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")


async def harden(_: web.Request, response: web.StreamResponse) -> None:
    """A signal handler of aiohttp's, on_response_prepare; an answer may have set a header of its own."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers[hdrs.SERVER] = "quittance"


def request_id_of(request: web.Request) -> str:
    """The caller's, where it is well formed, so that both sides' logs can be laid side by side; else a new one."""
    given = request.headers.get("X-Request-Id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


async def read_json(request: web.Request, *, optional: bool = False) -> Any:
    """The request's JSON; None for an empty body where it is `optional`. Raises Problem: 400, 408, 413, 415."""
    if any(value.strip().lower() != "identity" for value in request.headers.getall(hdrs.CONTENT_ENCODING, [])):
        raise Problem(415, "compressed_body", "Send the body uncompressed.")
    if (request.content_length or 0) > MAX_BODY:
        raise _too_large()
    try:
        async with asyncio.timeout(READ_BUDGET):
            body = await request.read()
    except TimeoutError:
        raise Problem(408, "body_timeout", f"The body took longer than {READ_BUDGET:g} s.") from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None
    except (web.RequestPayloadError, HttpProcessingError, OSError):
        raise Problem(400, "broken_body", "The body ended before its end.") from None
    if not body and optional:
        return None
    if request.content_type != "application/json":
        raise Problem(415, "not_json", "Content-Type must be application/json.")
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "not_json", f"The body is no JSON: {error}") from None


def _too_large() -> Problem:
    return Problem(413, "body_too_large", f"The body is larger than {MAX_BODY} bytes.")
