"""Reading Stripe's objects, of any API version and with any optional field absent.

Ids and texts of an unexpected type read as absent: they can only miss a tie. An amount or a time of an unexpected type
raises Rejected: a sum must never be guessed.
"""

from typing import Any, Final

import msgspec

from quittance.errors import Rejected

StripeObject = dict[str, Any]

# Postgres' bigint.
GREATEST_INTEGER: Final = (1 << 63) - 1
# Stripe's own greatest amount has 12 digits; thousands of these can still be summed in a bigint.
GREATEST_AMOUNT: Final = 10**15
# What is read of a list: Stripe's pages end at 100, and each id that is read is one to lock.
MOST_ITEMS: Final = 100


def at(obj: StripeObject, first: str, *path: str) -> Any:
    """The value at the path, or None where any step is absent."""
    value = obj.get(first)
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def text(obj: StripeObject, *path: str) -> str | None:
    """The text at `path`; None where it is absent, empty, of another type, or nothing that Postgres can store."""
    value = at(obj, *path)
    if not isinstance(value, str) or not value:
        return None
    return value if storable(value) else None


def storable(value: str) -> bool:
    """Whether Postgres takes `value` as text: it refuses NUL and lone surrogates."""
    if value.isascii():
        return "\x00" not in value
    return "\x00" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def reference(obj: StripeObject, *path: str) -> str | None:
    """The id at `path`, given as an id or as an expanded object."""
    value = at(obj, *path)
    if value is None:
        return None
    found = text({"id": value} if isinstance(value, str) else value, "id") if isinstance(value, str | dict) else None
    return found if found is not None and len(found) <= 255 else None


def late(value: Any) -> Any:
    """A value that was left undecoded until somebody asks (quittance/reading.py); any other as it is."""
    if not isinstance(value, msgspec.Raw):
        return value
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return None


def items(obj: StripeObject, *path: str) -> list[StripeObject]:
    """The first MOST_ITEMS objects of a list at `path`: Stripe's list object, or the bare array of old versions."""
    value = late(at(obj, *path))
    if isinstance(value, dict):
        value = value.get("data")
    return [item for item in value[:MOST_ITEMS] if isinstance(item, dict)] if isinstance(value, list) else []


def minor_units(obj: StripeObject, *path: str) -> int | None:
    """An amount in minor units; None where absent. Raises Rejected where it is no whole number, or an absurd one."""
    return _integer(obj, path, "amount in minor units", GREATEST_AMOUNT)


def seconds(obj: StripeObject, *path: str) -> int | None:
    """A time in Unix seconds; None where absent. Raises Rejected where it is no whole number of 64 bits."""
    return _integer(obj, path, "time in Unix seconds", GREATEST_INTEGER)


def _integer(obj: StripeObject, path: tuple[str, ...], meaning: str, greatest: int) -> int | None:
    value = at(obj, *path)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > greatest:
        raise Rejected("unreadable_payload", f"{'.'.join(path)} is no {meaning}")
    return value
