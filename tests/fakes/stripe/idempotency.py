"""Idempotency keys, after Stripe's documentation.

A key keeps the status and body of its first execution, also of one that failed, and gives them again with
`Idempotent-Replayed: true`. With other parameters it is refused (400), while the first call is under way as well (409).
A call that failed validation, or that was turned away before it was executed, leaves nothing behind.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tests.fakes.stripe.errors import Refused
from tests.fakes.stripe.shapes import JsonObject, Place


class Answer(NamedTuple):
    """Status and body; whether a key gave them again."""

    status: int
    body: JsonObject
    replayed: bool = False


class _Kept(NamedTuple):
    path: str
    params: dict[str, str]
    answer: Answer | None  # None while the first call is under way


class Keys:
    """The keys of every account and mode. Stripe forgets them after a day at the earliest: `forget` does so."""

    def __init__(self) -> None:
        """No key has been used."""
        self._kept: dict[tuple[Place, str], _Kept] = {}

    def forget(self) -> None:
        """A day or more has passed."""
        self._kept = {name: kept for name, kept in self._kept.items() if kept.answer is None}

    async def once(
        self, place: Place, key: str, path: str, params: dict[str, str], execute: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """Execute, or say again what this key was answered. `execute` raises Refused where nothing was executed."""
        name = (place, key)
        if name in self._kept:
            return _again(self._kept[name], key, path, params)
        self._kept[name] = _Kept(path, params, None)
        try:
            answer = await execute()
        except BaseException:
            del self._kept[name]
            raise
        self._kept[name] = _Kept(path, params, answer)
        return answer


def _again(kept: _Kept, key: str, path: str, params: dict[str, str]) -> Answer:
    if kept.answer is None:
        raise Refused(
            409,
            f"There is currently another in-progress request using this Stripe-Idempotency-Key: {key}. Please retry.",
            code="idempotency_key_in_use",
            kind="idempotency_error",
        )
    if (kept.path, kept.params) != (path, params):
        raise Refused(
            400,
            "Keys for idempotent requests can only be used with the same parameters they were first used with. Try "
            f"using a key other than '{key}' if you meant to execute a different request.",
            kind="idempotency_error",
        )
    return kept.answer._replace(replayed=True)
