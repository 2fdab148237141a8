"""What goes wrong between us and Stripe, on demand.

    Fault("POST", status=500)                  # fails, and the key keeps the 500
    Fault("POST", status=500, executes=True)   # fails after it had its effect
    Fault("POST", executes=True, after=9)      # the answer comes when the client has given up
    Fault("POST", executes=True, drops=True)   # the connection breaks instead of an answer
    Fault(status=429, headers={"Retry-After": "2"}, times=3, path="/v1/checkout/sessions")

What Stripe itself turns away (429, 401, 409, …) is kept by no idempotency key; a failure of its own (500) is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.fakes.stripe.errors import Refused


@dataclass
class Fault:
    """What goes wrong with the next `times` calls of a method ("GET", "POST"; None for any) to a path."""

    method: str | None = None
    status: int | None = None  # the answer; None for the true one
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    executes: bool = False  # whether the call has its effect all the same
    before: float = 0.0  # seconds until anything happens
    after: float = 0.0  # seconds between effect and answer
    times: int = 1
    body: str | None = None  # answered instead of JSON
    path: str = ""  # how the path begins; "" for any
    drops: bool = False  # the connection ends without an answer

    @property
    def fails(self) -> bool:
        """Whether Stripe itself fails: such an answer is kept by an idempotency key."""
        return self.status is not None and self.status >= 500

    def turns_away(self) -> None:
        """Raise Refused where the call is not executed at all (4xx): no key keeps that."""
        if self.status is None or self.executes or self.fails:
            return
        kind = {"card_declined": "card_error", "idempotency_key_in_use": "idempotency_error"}.get(self.code)
        message = f"Not now, said to somebody@example.com: {self.code or self.status}"
        raise Refused(self.status, message, code=self.code, kind=kind or "invalid_request_error")


def next_fault(faults: list[Fault], method: str, path: str) -> Fault:
    """The fault that this call meets; a harmless one where there is none."""
    for fault in faults:
        if fault.method in (None, method) and path.startswith(fault.path):
            fault.times -= 1
            if fault.times <= 0:
                faults.remove(fault)
            return fault
    return Fault()
