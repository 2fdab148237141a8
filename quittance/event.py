"""One event: a fact from Stripe, or one of our own, as it travels through queues, handlers and the outbox."""

import json
import math
import time
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import msgspec

from quittance.errors import Rejected

# Stripe's own account on the key, where an event names none (RULES S1).
OWN_ACCOUNT: Final = "self"

# `created` is a partition key, so it must be the same however often an event comes: absent or absurd, it is 0, never "now".
EARLIEST_CREATED: Final = 1_262_304_000  # 2010-01-01, before Stripe's first API version
LATEST_CREATED: Final = 4_102_444_800  # 2100-01-01


class Cause(msgspec.Struct, frozen=True):
    """The event behind an event: Stripe's, or `quote.published`, `quote.recalled`, `quote.expired`."""

    id: str
    type: str


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event as handlers see it. `body` holds the bytes as they came; nothing is parsed until somebody asks."""

    id: str
    type: str
    account: str
    livemode: bool
    created: int  # Unix seconds, the event's own time; 0 where absent or absurd
    received_at: float  # Unix seconds, when the ingress accepted what began this; carried along to measure lag
    body: bytes
    cause: Cause
    replay_id: str | None = None  # set when an SRE replays: the handler runs again even on what was handled
    traceparent: str | None = None
    # Only of events that we emit: those of one stream are published in order (a quote's changes); the key to publish
    # under, where it is not the type; of a status change, whether a mail may come of it.
    stream: str = ""
    routing_key: str = ""
    mail_due: bool = False
    # Only of a command from the CRM and of its answer: JSON, who sent it and where the answer goes (workers/commands.py).
    about: str | None = None

    def headers(self) -> dict[str, Any]:
        """The AMQP headers that an event travels with; `from_message` is the inverse."""
        headers: dict[str, Any] = {
            "event-id": self.id,
            "account": self.account,
            "livemode": self.livemode,
            "created": self.created,
            # Text: a float becomes a single-precision one in an AMQP table (pamqp), which is a minute off.
            "received-at": f"{self.received_at:.6f}",
        }
        if self.cause.id != self.id:
            headers["cause-id"] = self.cause.id
            headers["cause-type"] = self.cause.type
        if self.replay_id is not None:
            headers["replay-id"] = self.replay_id
        if self.traceparent is not None:
            headers["traceparent"] = self.traceparent
        if self.about is not None:
            headers["about"] = self.about
        return headers


class Envelope(msgspec.Struct, frozen=True):
    """The fields of an event's JSON that the ingress reads. Only `id` and `type` can make it refuse."""

    id: str
    type: str
    account: Any = None
    livemode: Any = None
    created: Any = None


class _RawEnvelope(msgspec.Struct, frozen=True):
    """The same, the optional fields not looked into."""

    id: str
    type: str
    account: msgspec.Raw = msgspec.Raw(b"null")
    livemode: msgspec.Raw = msgspec.Raw(b"null")
    created: msgspec.Raw = msgspec.Raw(b"null")


_envelope = msgspec.json.Decoder(Envelope)
_raw_envelope = msgspec.json.Decoder(_RawEnvelope)


def decode_envelope(body: bytes) -> Envelope:
    """Read the envelope of Stripe's JSON.

    Raises ValueError (msgspec's errors are) or RecursionError where `body` is not a JSON object with string `id` and
    `type`.
    """
    try:
        return _envelope.decode(body)
    except msgspec.ValidationError:
        # `id` or `type` are wrong, which raises again; or a number is too great for any machine type (1e400).
        raw = _raw_envelope.decode(body)
        return Envelope(raw.id, raw.type, _decoded(raw.account), _decoded(raw.livemode), _decoded(raw.created))
    except msgspec.DecodeError:
        whole = _lenient(body)
        envelope = msgspec.convert({name: whole.get(name) for name in Envelope.__struct_fields__}, Envelope)
        (envelope.id + envelope.type).encode()  # an id that is cut in two names nothing
        return envelope


def _lenient(body: bytes) -> dict[str, Any]:
    """JSON that msgspec refuses and others write: half of a surrogate pair, where somebody cut an emoji in two.

    Raises ValueError where it is no JSON object even so.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    whole = json.loads(body.decode(), parse_constant=refuse)
    if not isinstance(whole, dict):
        raise ValueError("not a JSON object")
    return whole


def _decoded(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except ValueError:
        return None


def event_of(envelope: Envelope, body: bytes, received_at: float, traceparent: str | None = None) -> Event:
    """The event that an accepted webhook body is; account, mode and time made safe to key by."""
    account = envelope.account if isinstance(envelope.account, str) and envelope.account else OWN_ACCOUNT
    event_id, event_type = storable(envelope.id), storable(envelope.type)
    return Event(
        id=event_id,
        type=event_type,
        account=storable(account),
        livemode=envelope.livemode is True,
        created=sane_created(envelope.created),
        received_at=received_at,
        body=body,
        cause=Cause(event_id, event_type),
        traceparent=traceparent,
    )


def storable(text: str) -> str:
    """`text` without NUL and lone surrogates, which JSON allows in a string and Postgres refuses in text: an id must stay
    a key.
    """
    if text.isascii():
        return text.replace("\x00", "\\x00") if "\x00" in text else text
    return text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()


def sane_created(value: object) -> int:
    """An event's `created` in Unix seconds, or 0 where it is absent or absurd."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return int(value) if EARLIEST_CREATED <= value < LATEST_CREATED else 0


def from_message(headers: Mapping[str, Any], event_type: str | None, body: bytes) -> Event:
    """The event that a message on one of our queues carries. Raises Rejected where the headers are not ours."""
    try:
        event_id = _text(headers["event-id"])
        if not event_type:
            raise KeyError("type")
        cause = Cause(_text(headers.get("cause-id", event_id)), _text(headers.get("cause-type", event_type)))
        return Event(
            id=event_id,
            type=storable(event_type),
            account=_text(headers["account"]),
            livemode=bool(headers["livemode"]),
            created=int(headers["created"]),
            received_at=float(headers["received-at"]),
            body=body,
            cause=cause,
            replay_id=_optional_text(headers.get("replay-id")),
            traceparent=_optional_text(headers.get("traceparent")),
            about=_optional_text(headers.get("about")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Rejected("unreadable_payload", f"message header: {error}") from error


class _Data(msgspec.Struct, frozen=True):
    object: dict[str, Any]
    previous_attributes: Any = None


class _Body(msgspec.Struct, frozen=True):
    data: _Data


_body = msgspec.json.Decoder(_Body)


def data_of(event: Event) -> tuple[dict[str, Any], dict[str, Any]]:
    """`data.object` and `data.previous_attributes` of an event. Raises Rejected where there is no object."""
    return body_data(event.body)


def body_data(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """`data.object` and `data.previous_attributes` of an event's JSON. Raises Rejected where there is no object."""
    try:
        data = _decoded_body(body).data
    except (ValueError, RecursionError) as error:
        raise Rejected("unreadable_payload", _plain(error)) from error
    previous = data.previous_attributes
    return data.object, previous if isinstance(previous, dict) else {}


def _decoded_body(body: bytes) -> _Body:
    try:
        return _body.decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return msgspec.convert(_lenient(body), _Body)


def _plain(error: BaseException) -> str:
    return str(error).encode(errors="backslashreplace").decode()


def own_event(
    event_id: str,
    event_type: str,
    subject: Mapping[str, Any],
    *,
    because: Event,
    stream: str,
) -> Event:
    """One of our own events (`customer.changed`, `document.changed`, …) about `subject`, caused by `because`.

    `event_id` is derived from what it says (never random), so that the same change told twice is a duplicate.
    """
    created = because.created or int(time.time())
    body = msgspec.json.encode(
        {
            "id": event_id,
            "type": event_type,
            "account": because.account,
            "livemode": because.livemode,
            "created": created,
            "cause": because.cause,
            "data": {"object": subject},
        }
    )
    return Event(
        id=event_id,
        type=event_type,
        account=because.account,
        livemode=because.livemode,
        created=created,
        received_at=because.received_at,
        body=body,
        cause=because.cause,
        traceparent=because.traceparent,
        stream=stream,
        routing_key=event_type,
    )


def first_event(
    event_id: str, event_type: str, subject: Mapping[str, Any], *, account: str, livemode: bool, at: float, stream: str
) -> Event:
    """One of our own events that nothing from Stripe is behind (`quote.published`, `quote.recalled`, `quote.expired`): its
    own cause. `at` is the database's time, in Unix seconds.
    """
    itself = Event(
        id=event_id,
        type=event_type,
        account=account,
        livemode=livemode,
        created=int(at),
        received_at=at,
        body=b"",
        cause=Cause(event_id, event_type),
    )
    return own_event(event_id, event_type, subject, because=itself, stream=stream)


def _text(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        value = value.decode()
    if not isinstance(value, str):
        raise TypeError(f"text expected, got {type(value).__name__}")
    return storable(value)


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)
