"""What a command asks for, read from its body; and why it may not, in the words of the quotes API."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
from asyncpg import Record

from quittance.answers import (
    COMPRESSED,
    NO_TOKEN,
    NOT_FOUND,
    NOT_JSON_TYPE,
    TOO_LARGE,
    Refusal,
    no_permission,
    not_json,
    quote_refused,
    recall_refused,
    revision_in,
)
from quittance.broker import CRM_COMMANDS
from quittance.domain.payload import storable
from quittance.domain.publishing.content import read_content
from quittance.domain.publishing.faults import Fault, Faults
from quittance.event import Event
from workers.command_intake import About

PUBLISH: Final = "quote.published"
RECALL: Final = "quote.recalled"

UNKNOWN_COMMAND: Final = Refusal(400, "unknown_command", f"Send it to {CRM_COMMANDS} as {PUBLISH} or {RECALL}.")
TROUBLES: Final[Mapping[str, Refusal]] = {
    "message_id_missing": Refusal(400, "message_id_missing", "Each message needs a message_id of its own."),
    "properties_unreadable": Refusal(
        400, "properties_unreadable", "Headers, message_id or correlation_id cannot be read."
    ),
    "compressed_body": COMPRESSED,
    "body_too_large": TOO_LARGE,
    "not_json_type": NOT_JSON_TYPE,
}


class Publication(NamedTuple):
    """What a `quote.published` asks for; `content` as it came."""

    quote_id: str
    content: Any


class Withdrawal(NamedTuple):
    """What a `quote.recalled` asks for."""

    quote_id: str
    revision: int | None


Wish = Publication | Withdrawal


def read(event: Event, about: About, tokens: Mapping[int, Record]) -> Wish | Refusal:
    """What the message asks for, or the first reason why it may not: as over HTTP, who asks comes before what is asked."""
    token = tokens.get(about.token_id or 0)
    if token is None or (token["account"], token["livemode"]) != (event.account, event.livemode):
        # A token that lacks the permission is filed under no account (workers/command_intake.py).
        return no_permission("publish") if token is not None and "publish" not in token["permissions"] else NO_TOKEN
    if "publish" not in token["permissions"]:
        return no_permission("publish")
    if about.trouble:
        return TROUBLES[about.trouble]
    try:
        body = msgspec.json.decode(event.body)
    except (ValueError, RecursionError) as error:
        return not_json(error)
    if event.type == PUBLISH:
        return _publication(body)
    return _withdrawal(body) if event.type == RECALL else UNKNOWN_COMMAND


def _publication(body: Any) -> Publication | Refusal:
    faults = _faults_of(body, ("quote_id", "quote"))
    if not faults:
        return Publication(body["quote_id"], body.get("quote"))
    gathered = Faults(faults)
    if isinstance(body, dict):
        read_content(body.get("quote"), gathered)
    return quote_refused(gathered.found)


def _withdrawal(body: Any) -> Withdrawal | Refusal:
    if faults := _faults_of(body, ("quote_id", "revision")):
        return recall_refused(faults[0])
    revision = revision_in({name: value for name, value in body.items() if name != "quote_id"})
    if isinstance(revision, Refusal):
        return revision
    return Withdrawal(body["quote_id"], revision) if storable(body["quote_id"]) else NOT_FOUND


def _faults_of(body: Any, fields: tuple[str, ...]) -> list[Fault]:
    """What is wrong with a command around the quote in it; a misspelt field that is passed over would be another wish."""
    if not isinstance(body, dict):
        return [Fault("format", "not_an_object", "The command must be a JSON object.")]
    faults = [
        Fault("format", "unknown_field", f"{name} is no field of this command.", given=name, allowed=list(fields))
        for name in sorted(set(body) - set(fields))
    ]
    if not isinstance(body.get("quote_id"), str):
        given = json.dumps(body.get("quote_id"))[:200]
        faults.append(Fault("format", "quote_id_malformed", "quote_id must be text.", given=given))
    return faults


def quote_id_of(event: Event, wish: Wish | Refusal) -> str | None:
    """As far as it can be told, for whoever is answered."""
    if not isinstance(wish, Refusal):
        return wish.quote_id
    try:
        body = msgspec.json.decode(event.body)
    except (ValueError, RecursionError):
        return None
    quote_id = body.get("quote_id") if isinstance(body, dict) else None
    return quote_id if isinstance(quote_id, str) and storable(quote_id) else None
