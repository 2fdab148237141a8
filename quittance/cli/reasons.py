"""What each reason of a dead letter means, and what helps: in the words that an SRE needs at night."""

from collections.abc import Mapping
from typing import Final, get_args

from quittance.errors import Reason

ADVICE: Final[Mapping[str, str]] = {
    "unreadable_payload": (
        "The event holds something that the worker cannot read (an id, an amount or an object of another type). Nothing "
        "changes by itself: either the worker learns to read it, and it is replayed, or it is discarded."
    ),
    "handler_failed": (
        "The worker raised an error at every attempt; the traceback says where. Mend that, deploy, and replay: "
        "--fingerprint takes all failures of the same cause."
    ),
    "crashed_worker": (
        "The worker's process died on it again and again, and once more when it was alone (out of memory, a fault in "
        "native code). Look at the process's end in its logs before replaying: it will die again unless that was mended."
    ),
    "account_refused": (
        "Stripe refuses us for this account for good (401, 403): it disconnected, or STRIPE_API_KEY is wrong or may not "
        "do this. Reconnect the account or mend the key, and replay."
    ),
    "stripe_refused": (
        "Stripe says that the request can never succeed; the error is Stripe's own. Replay only after what it complains "
        "of is different."
    ),
    "mail_refused": (
        "The mail server refused this mail for good. See its answer in the error: an unknown recipient is the seller's "
        "to mend; a refused sender is MAIL_FROM. Then replay."
    ),
    "mail_address_invalid": (
        "The owner's address is no single e-mail address. Mend it in the CRM and publish again; or set MAIL_TO and replay."
    ),
    "command_refused": (
        "A message to publish or recall a quote was refused, and named no queue (`reply_to`) to which that could be told: "
        "the error has what the answer would have been. The CRM mends its message and sends it again; then discard this "
        "one. A replay asks for the same once more."
    ),
}
UNKNOWN: Final = "This version does not know that reason; the error and the traceback say what happened."


def advice(reason: str, state: str, id_: int) -> str:
    """What the state and the reason of a failed delivery mean, and the command to go on with."""
    if state == "retrying":
        return "It is tried again by itself at the time of `next at`; a replay does it now."
    if state == "replaying":
        return "It is being replayed. If that does not end, no relay or no worker is running: see `quittance doctor`."
    if state == "resolved":
        return "It has been handled since. Nothing to do."
    meaning = ADVICE.get(reason, UNKNOWN)
    return f"{meaning}\nTo see what a replay would do:  quittance dead-letters replay {id_} --dry-run"


def known() -> frozenset[str]:
    """Every reason that there is."""
    return frozenset(get_args(Reason))
