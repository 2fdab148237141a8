"""Errors as problem+json (RFC 9457): `status`, `title`, a `code` for programs, `detail` for people, often `errors`."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from aiohttp import hdrs, web

from quittance.answers import NOT_FOUND, Refusal

PROBLEM_JSON: Final = "application/problem+json"


class Problem(Exception):
    """The request is answered with this."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers[hdrs.RETRY_AFTER] = str(max(1, round(retry_after + 0.5)))


def problem_response(problem: Problem, request_id: str) -> web.Response:
    """The answer; `request_id` finds the line in the logs."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "request_id": request_id,
    }
    if problem.errors is not None:
        body["errors"] = list(problem.errors)
    return json_response(body, problem.status, content_type=PROBLEM_JSON, headers=problem.headers)


def json_response(
    value: object,
    status: int = 200,
    *,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """`value` as JSON. The standard library's encoder: it knows whole numbers of any size, and lone surrogates."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return web.Response(body=body, status=status, content_type=content_type, headers=headers)


def problem_of(refusal: Refusal, headers: Mapping[str, str] | None = None) -> Problem:
    """A refusal, as HTTP tells it."""
    return Problem(refusal.status, refusal.code, refusal.detail, errors=refusal.errors, headers=headers)


def not_found() -> Problem:
    """The one answer for what is not there and for what is somebody else's."""
    return problem_of(NOT_FOUND)
