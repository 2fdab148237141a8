"""Stripe's refusals: status, type, code, param and message as its API words them."""

from tests.fakes.stripe.shapes import JsonObject


class Refused(Exception):
    """An answer that is no success. `headers` go out with it."""

    def __init__(
        self, status: int, message: str, *, code: str = "", param: str = "", kind: str = "invalid_request_error"
    ) -> None:
        super().__init__(message)
        self.status = status
        about = {"code": code, "message": message, "param": param, "type": kind}
        self.body: JsonObject = {"error": {name: value for name, value in about.items() if value}}


class Invalid(Refused):
    """A parameter that fails validation: nothing is executed, so no idempotency key keeps this answer."""

    def __init__(self, message: str, *, code: str = "", param: str = "") -> None:
        super().__init__(400, message, code=code, param=param)


def no_such(kind: str, object_id: str, *, param: str = "id") -> Refused:
    """An object that is not there, or is another account's or mode's: 404 where the address names it, else 400."""
    status = 404 if param == "id" else 400
    return Refused(status, f"No such {kind}: '{object_id}'", code="resource_missing", param=param)


def api_error() -> JsonObject:
    """The body of a failure of Stripe's own."""
    message = "An unknown error occurred while looking at somebody@example.com"
    return {"error": {"message": message, "type": "api_error"}}
