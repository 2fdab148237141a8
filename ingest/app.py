"""The HTTP side. Each answer, and when it is given:

| answer | when |
|---|---|
| 200 | the broker confirmed the event |
| 400 | the signature or the body is not what Stripe sends |
| 405, 408, 413, 415 | another method; a body that takes over 5 s, is over 1 MiB, or is compressed |
| 503 and Retry-After | not confirmed in time, the broker blocked or away, too much in flight: Stripe sends it again |

Whatever a client sends, the answer is none of the 500s.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Final, Literal

import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ingest import publisher, signature
from ingest.metrics import ACCEPTED
from ingest.publisher import NotDurable, Publisher
from ingest.refusals import Refusals
from ingest.settings import Secrets
from ingest.signature import BadSignature
from quittance.event import Event, decode_envelope, event_of

PATH: Final = "/webhooks/stripe"
MAX_BODY: Final = 1 << 20  # bytes
READ_BUDGET: Final = 5.0  # seconds for a body to arrive
RETRY_AFTER: Final = "5"  # seconds
MAX_NAME: Final = 255  # bytes: what an AMQP routing key, and a type, can hold
_RECEIVED: Final = b'{"received": true}'
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

Reason = (
    signature.Reason
    | publisher.Reason
    | Literal["wrong_method", "compressed_body", "body_too_large", "body_timeout", "broken_body", "not_an_event"]
)

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Refused(Exception):
    """The request is answered with `status` and `reason`."""

    def __init__(self, status: int, reason: Reason, event_id: str | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason: Reason = reason
        self.event_id = event_id


class Ingest:
    """The application: `app()` is what aiohttp serves."""

    def __init__(self, secrets: Secrets, publisher: Publisher) -> None:
        self._secrets = secrets
        self._publisher = publisher
        self._refusals = Refusals()
        self._log = log.bind()  # the lazy logger builds itself anew at every call
        self.draining = False

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", PATH, self.webhook)
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/readyz", self.readyz)
        app.router.add_get("/metrics", self.metrics)
        return app

    async def webhook(self, request: web.Request) -> web.Response:
        """`POST /webhooks/stripe`."""
        try:
            event = await self._verified(request)
            await self._publish(event)
        except Refused as refused:
            response = self._refuse(request, refused)
        else:
            ACCEPTED.inc()
            self._log.debug("webhook.accepted", event_id=event.id, type=event.type)
            response = web.Response(body=_RECEIVED, content_type="application/json")
        if self.draining:
            response.force_close()  # so that the client knows before it sends the next one
        return response

    async def healthz(self, _: web.Request) -> web.Response:
        """Alive: the event loop turns."""
        return web.json_response({"alive": True})

    async def readyz(self, _: web.Request) -> web.Response:
        """Whether a webhook sent now would be published."""
        reason = "draining" if self.draining else self._publisher.hindrance
        if reason is None:
            return web.json_response({"ready": True})
        return web.json_response(
            {"ready": False, "reason": reason}, status=503, headers={hdrs.RETRY_AFTER: RETRY_AFTER}
        )

    async def metrics(self, _: web.Request) -> web.Response:
        """For Prometheus."""
        return web.Response(body=generate_latest(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})

    async def _verified(self, request: web.Request) -> Event:
        """The event in `request`, which Stripe has signed. Raises Refused."""
        received_at = time.time()
        check_framing(request)
        try:
            header = signature.check_header(request.headers.getall("Stripe-Signature", ()), received_at)
            body = await read_body(request)
            signature.verify(body, header, self._secrets.current)
        except BadSignature as bad:
            raise Refused(400, bad.reason) from None
        return parsed(body, received_at, traceparent_of(request))

    async def _publish(self, event: Event) -> None:
        try:
            await self._publisher.publish(event)
        except NotDurable as error:
            raise Refused(503, error.reason, event.id) from None

    def _refuse(self, request: web.Request, refused: Refused) -> web.Response:
        self._refusals.record(refused.reason, refused.status, event_id=refused.event_id, remote=request.remote)
        headers: dict[str, str] = {}
        if refused.status == 503:
            headers[hdrs.RETRY_AFTER] = RETRY_AFTER
        elif refused.status == 405:
            headers[hdrs.ALLOW] = hdrs.METH_POST
        return web.json_response({"error": refused.reason}, status=refused.status, headers=headers)


def check_framing(request: web.Request) -> None:
    """Refuse what can be refused by the method and the headers' names alone."""
    if request.method != hdrs.METH_POST:
        raise Refused(405, "wrong_method")
    if _names_another(request.headers.getall(hdrs.CONTENT_ENCODING, ()), "identity"):
        raise Refused(415, "compressed_body")
    if _names_another(request.headers.getall(hdrs.TRANSFER_ENCODING, ()), "chunked"):
        raise Refused(415, "compressed_body")
    if (request.content_length or 0) > MAX_BODY:
        raise Refused(413, "body_too_large")


def _names_another(values: Sequence[str], allowed: str) -> bool:
    return any(value.strip().lower() != allowed for value in values)


async def read_body(request: web.Request) -> bytes:
    """The bytes as they came. Raises Refused when they are too many, too slow, or end before their end."""
    try:
        async with asyncio.timeout(READ_BUDGET):
            return await request.read()
    except TimeoutError:
        raise Refused(408, "body_timeout") from None
    except web.HTTPRequestEntityTooLarge:
        raise Refused(413, "body_too_large") from None
    except (web.RequestPayloadError, HttpProcessingError, OSError):
        raise Refused(400, "broken_body") from None


def parsed(body: bytes, received_at: float, traceparent: str | None) -> Event:
    """The event that `body` holds. Raises Refused when it is none that a queue or a table could carry."""
    try:
        event = event_of(decode_envelope(body), body, received_at, traceparent)
    except (ValueError, RecursionError):
        raise Refused(400, "not_an_event") from None
    if not (is_name(event.id) and is_name(event.type) and is_name(event.account)):
        raise Refused(400, "not_an_event")
    return event


def is_name(text: str) -> bool:
    """Not empty, and of a size that AMQP can carry."""
    return 0 < len(text) <= MAX_NAME and (text.isascii() or len(text.encode()) <= MAX_NAME)


def traceparent_of(request: web.Request) -> str | None:
    """The trace that a proxy before us has begun (W3C Trace Context), if it is well formed."""
    value = request.headers.get("traceparent")
    return value if value is not None and _TRACEPARENT.fullmatch(value) else None
