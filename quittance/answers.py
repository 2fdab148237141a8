"""What publishing and recalling are answered, through whichever door they were asked: HTTP and messages say the same."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from quittance.domain.publishing.faults import Fault
from quittance.domain.publishing.record import fault_json
from quittance.locks import Connection
from quittance.publishing import Conflict, Quote, Refused
from quittance.settings import Reader

MAX_BODY: Final = 1 << 20  # bytes, of whoever publishes

PAYMENT: Final = "SELECT data FROM quotes WHERE account = $1 AND livemode = $2 AND quote_id = $3"


@dataclass(frozen=True)
class Refusal:
    """Why something was not done: HTTP's status, a code for programs, words for people, and every fault where it is the
    content that is refused (quittance.domain.publishing.record.fault_json).
    """

    status: int
    code: str
    detail: str
    errors: list[dict[str, Any]] | None = None


NO_TOKEN: Final = Refusal(401, "no_token", "A bearer token that is known and not revoked is needed.")
# The one answer for what is not there and for what is somebody else's.
NOT_FOUND: Final = Refusal(404, "not_found", "There is nothing here, or it is not yours to see.")
TOO_LARGE: Final = Refusal(413, "body_too_large", f"The body is larger than {MAX_BODY} bytes.")
COMPRESSED: Final = Refusal(415, "compressed_body", "Send the body uncompressed.")
NOT_JSON_TYPE: Final = Refusal(415, "not_json", "Content-Type must be application/json.")


def no_permission(permission: str) -> Refusal:
    """The token is good, and not for this."""
    return Refusal(403, "no_permission", f"This token lacks the permission {permission!r}.")


def not_json(error: Exception) -> Refusal:
    """The body says that it is JSON."""
    return Refusal(400, "not_json", f"The body is no JSON: {error}")


def refusal_of(outcome: Conflict | Refused | None) -> Refusal:
    """Why publishing or recalling came to nothing; None: there was nothing to recall."""
    if outcome is None:
        return NOT_FOUND
    if isinstance(outcome, Conflict):
        return Refusal(409, outcome.fault.code, outcome.fault.message, [fault_json(outcome.fault)])
    return quote_refused(outcome.faults)


def quote_refused(faults: Sequence[Fault]) -> Refusal:
    """Every rule that the quote breaks."""
    errors = [fault_json(fault) for fault in faults]
    return Refusal(422, "quote_refused", "The quote breaks rules: `errors` has all of them.", errors)


def recall_refused(fault: Fault) -> Refusal:
    """It cannot be read what is to be recalled."""
    return Refusal(422, "recall_refused", "The body is not what a recall takes.", [fault_json(fault)])


def revision_in(body: Any) -> int | Refusal | None:
    """The revision that a recall names; None where it names none."""
    if body is None:
        return None
    revision = body.get("revision") if isinstance(body, dict) and set(body) <= {"revision"} else False
    if revision is None or (type(revision) is int and 1 <= revision < 1 << 31):
        return revision
    message = "The body must be empty, or an object with `revision`, a whole number from 1."
    given = json.dumps(body)[:200]
    return recall_refused(Fault("format", "malformed_recall", message, given=given, allowed={"revision": 1}))


async def payment_of(db: Connection, account: str, livemode: bool, quote_id: str) -> dict[str, Any] | None:
    """The data of the quote's newest CRM event; None while there is none."""
    data = await db.fetchval(PAYMENT, account, livemode, quote_id)
    return None if data is None else json.loads(data)


def page_url(public_url: str, page_token: str) -> str:
    """The address of a revision's page."""
    return f"{public_url}/q/{page_token}"


def quote_json(
    quote: Quote, payment: dict[str, Any] | None, account: str, livemode: bool, public_url: str
) -> dict[str, Any]:
    """A published quote as its CRM sees it."""
    return {
        "quote_id": quote.quote_id,
        "account": account,
        "livemode": livemode,
        "revision": quote.revision,
        "state": quote.state,
        "url": page_url(public_url, quote.page_token),
        "published_at": time_text(quote.published_at),
        "expires_at": time_text(quote.expires_at),
        "recalled_at": time_text(quote.recalled_at),
        "expired_at": time_text(quote.expired_at),
        "totals": quote.totals,
        "warnings": quote.warnings,
        "content": quote.content,
        "payment": payment,
    }


def time_text(moment: datetime | None) -> str | None:
    """RFC 3339, UTC, milliseconds."""
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def public_url(reader: Reader, port: int) -> str:
    """PUBLIC_URL, where buyers and the CRM reach web; without a slash at its end. `port`: web's, for the default."""
    url = reader.url("PUBLIC_URL", ("http", "https"), f"http://localhost:{port}").rstrip("/")
    try:
        parts = urlsplit(url)
        clean = not (parts.query or parts.fragment or parts.username)
    except ValueError:
        return url  # already a fault
    if not clean:
        reader.faults.append("PUBLIC_URL must be an address without user, query or fragment")
    return url
