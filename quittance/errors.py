"""The errors that carry a decision. Everything else is an accident, and is retried (see workers/runtime/consumer.py)."""

from typing import Literal

# A closed set: SREs and dashboards key on these strings, so changing one is a breaking change.
Reason = Literal[
    "unreadable_payload",  # not what the handler can read: no object, an id or amount of another type
    "handler_failed",  # the last of the attempts raised
    "crashed_worker",  # the process died on it until the broker's delivery limit was reached, twice
    "account_refused",  # Stripe refuses this account for good (401, 403): deauthorised, or a wrong key
    "stripe_refused",  # Stripe says that the request can never succeed (400, 402, 404)
    "mail_refused",  # the mail server refused for good (5xx)
    "mail_address_invalid",  # the owner's address is no single address
    "command_refused",  # a message to publish or recall a quote was refused, and named no queue to tell that to
]


class Rejected(Exception):
    """The event can never succeed here: it becomes a dead letter at once, with `reason`."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason: Reason = reason
        self.detail = detail


class SettingsError(Exception):
    """The environment is missing something or holds something wrong; `faults` names all of it at once."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
