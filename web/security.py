"""What every answer carries, and what no request may be."""

import asyncio
import ipaddress
import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from quittance import answers
from quittance.answers import COMPRESSED, NOT_JSON_TYPE, TOO_LARGE, not_json
from web.problems import Problem, problem_of

MAX_BODY: Final = answers.MAX_BODY
READ_BUDGET: Final = 5.0  # seconds for a body to arrive

HEADERS: Final = {
    hdrs.CACHE_CONTROL: "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}
STRIPE_CHECKOUT: Final = "https://checkout.stripe.com"
STRIPE_API: Final = "https://api.stripe.com"
HSTS: Final = "max-age=31536000"

# How many proxies of our own stand before us; each appends the address that it was called from to X-Forwarded-For.
FORWARDED_HOPS: Final = web.AppKey("forwarded_hops", int)

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")


async def harden(_: web.Request, response: web.StreamResponse) -> None:
    """A signal handler of aiohttp's, on_response_prepare; an answer may have set a header of its own."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers[hdrs.SERVER] = "quittance"


def page_headers(checkout_origins: Sequence[str]) -> dict[str, str]:
    """What a page for people carries: its own style and script, none inline, and forms to us alone.

    `checkout_origins` are where Check out leads: browsers hold `form-action` also against where a form's POST is
    redirected to.
    """
    policy = {
        "default-src": "'none'",
        "style-src": "'self'",
        "script-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self'",
        "form-action": " ".join(["'self'", *checkout_origins]),
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        # The address is a secret: it goes to ourselves alone. Not even that (`no-referrer`) would make browsers send
        # `Origin: null` with our own form, which says nothing about where a click came from.
        "Referrer-Policy": "same-origin",
    }


def checkout_origins(stripe_api_base: str) -> tuple[str, ...]:
    """Where Stripe's pages are; with another base for its API (a test's), they are there."""
    parts = urlsplit(stripe_api_base)
    origin = f"{parts.scheme}://{parts.netloc}"
    return (STRIPE_CHECKOUT,) if origin == STRIPE_API else (STRIPE_CHECKOUT, origin)


def client_address(request: web.Request) -> str:
    """Whom a limit is counted against: the address that our outermost proxy was called from; without proxies of ours
    (FORWARDED_HOPS 0), the address that we are called from. Of IPv6 its /64, of which everybody has a whole.

    What stands further left in X-Forwarded-For anybody may have written there.
    """
    hops = request.app.get(FORWARDED_HOPS, 0)
    given = request.remote or ""
    if hops:
        forwarded = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, [])).split(",")
        if len(forwarded) >= hops and _address(forwarded[-hops]):
            given = forwarded[-hops]
    return _address(given) or "unknown"


def _address(text: str) -> str | None:
    """An address without its port, in one spelling; None where it is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


def request_id_of(request: web.Request) -> str:
    """The caller's, where it is well formed, so that both sides' logs can be laid side by side; else a new one."""
    given = request.headers.get("X-Request-Id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


async def read_json(request: web.Request, *, optional: bool = False) -> Any:
    """The request's JSON; None for an empty body where it is `optional`. Raises Problem: 400, 408, 413, 415."""
    if any(value.strip().lower() != "identity" for value in request.headers.getall(hdrs.CONTENT_ENCODING, [])):
        raise problem_of(COMPRESSED)
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
        raise problem_of(NOT_JSON_TYPE)
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise problem_of(not_json(error)) from None


def _too_large() -> Problem:
    return problem_of(TOO_LARGE)
