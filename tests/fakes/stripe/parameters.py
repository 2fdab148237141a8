"""Parameters as they come in, checked against the typed params that Stripe publishes with its SDK.

    typed(form, SessionCreateParams) == {"line_items": [{"quantity": 1, "price_data": {"currency": "eur", …}}], …}

A name that is not published, a missing one, or a value of the wrong kind is refused in Stripe's words, with the name as
it was sent: `line_items[0][price_data][currency]`. Whatever a release of Stripe's removes is so refused from the day on
which the SDK is brought up to it.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from functools import cache
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from stripe import RequestOptions
from stripe._stripe_object import UntypedStripeObject
from typing_extensions import is_typeddict

from tests.fakes.stripe.errors import Invalid

# What a form says, nested by the brackets in its names; lists still are {"0": …, "1": …}.
Form = dict[str, "str | Form"]

_NAME: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_BRACKET: Final = re.compile(r"\[([^\[\]]*)\]")
# What the SDK takes from a call for itself, and never sends as a parameter.
_OF_THE_SDK: Final = frozenset(RequestOptions.__annotations__)
METADATA_KEYS: Final = 50


def typed(pairs: Iterable[tuple[str, str]], published: type | None) -> dict[str, Any]:
    """The parameters as Stripe understands them. None: a call that takes no parameters."""
    form = nested(pairs)
    if published is None:
        for name in form:
            raise _unknown(name)
        return {}
    return _fields(form, published, "")


def nested(pairs: Iterable[tuple[str, str]]) -> Form:
    """`a[b][0]=c` as {"a": {"b": {"0": "c"}}}."""
    form: Form = {}
    for name, value in pairs:
        match = _NAME.fullmatch(name)
        if match is None:
            raise _unknown(name)
        *path, last = [match[1], *_BRACKET.findall(match[2])]
        inside = form
        for part in path:
            below = inside.setdefault(part, {})
            if isinstance(below, str):
                raise Invalid(f"Invalid {part}: it is both a value and an object", param=part)
            inside = below
        inside[last or str(len(inside))] = value
    return form


@cache
def _published(of: type) -> dict[str, tuple[Any, bool]]:
    """Name -> (type, whether it must be there)."""
    required: frozenset[str] = of.__required_keys__  # type: ignore[attr-defined]
    # Names that only the SDK's own options use, which are left out anyway.
    hints = get_type_hints(of, localns={"StripeContext": str, "Mapping": Mapping})
    return {name: (hint, name in required) for name, hint in hints.items() if name not in _OF_THE_SDK}


def _fields(form: Form, published: type, where: str) -> dict[str, Any]:
    known = _published(published)
    for name in form:
        if name not in known:
            raise _unknown(_inside(where, name))
    for name, (_, required) in known.items():
        if required and name not in form:
            missing = _inside(where, name)
            raise Invalid(f"Missing required param: {missing}.", code="parameter_missing", param=missing)
    return {name: _value(given, known[name][0], _inside(where, name)) for name, given in form.items()}


def _value(given: "str | Form", wanted: Any, where: str) -> Any:
    wanted, choices, emptyable = _alternatives(wanted)
    if given == "" and emptyable:
        return ""
    if isinstance(given, str):
        return _scalar(given, wanted, choices, where)
    for kind in wanted:
        if is_typeddict(kind):
            return _fields(given, kind, where)
        if get_origin(kind) is list:
            return _list(given, get_args(kind)[0], where)
        if get_origin(kind) is dict:
            return _map(given, get_args(kind)[1], where)
    raise Invalid(f"Invalid string: {given}", code="parameter_invalid_string", param=where)


def _alternatives(wanted: Any) -> tuple[list[Any], list[str], bool]:
    """The kinds that a value may be of, the words it may be (an enum's), and whether it may be emptied."""
    kinds: list[Any] = []
    words: list[str] = []
    for kind in _flat(wanted):
        if get_origin(kind) is Literal:
            words.extend(get_args(kind))
        elif (get_origin(kind) or kind) is not UntypedStripeObject:
            kinds.append(kind)
    emptyable = "" in words
    words = [word for word in words if word]
    if words:  # the SDK adds `str` for words that are yet to come; Stripe itself refuses what it does not know
        kinds = [kind for kind in kinds if kind is not str]
    return kinds, words, emptyable


def _flat(wanted: Any) -> list[Any]:
    if get_origin(wanted) in (Union, UnionType):
        return [kind for each in get_args(wanted) for kind in _flat(each)]
    return [wanted]


def _scalar(given: str, kinds: list[Any], words: list[str], where: str) -> Any:
    if given in words:
        return given
    if given == "":
        raise Invalid(
            f"You passed an empty string for '{where}'. We assume empty values are an attempt to unset a parameter; "
            f"however '{where}' cannot be unset. You should remove '{where}' from your request or supply a non-empty "
            "value.",
            code="parameter_invalid_empty",
            param=where,
        )
    if bool in kinds and given in ("true", "false"):
        return given == "true"
    if int in kinds and re.fullmatch(r"-?[0-9]{1,18}", given):
        return int(given)
    if (Decimal in kinds or float in kinds) and (number := _decimal(given)) is not None:
        return number
    if str in kinds:
        return given
    if words:
        listed = ", ".join(words[:-1]) + f", or {words[-1]}" if len(words) > 1 else words[0]
        raise Invalid(f"Invalid {where}: must be one of {listed}", param=where)
    for kind, name, code in (
        (bool, "boolean", ""),
        (int, "integer", "parameter_invalid_integer"),
        (Decimal, "decimal", ""),
        (float, "decimal", ""),
    ):
        if kind in kinds:
            raise Invalid(f"Invalid {name}: {given}", code=code, param=where)
    what = "array" if any(get_origin(kind) is list for kind in kinds) else "object"
    raise Invalid(f"Invalid {what}", param=where)


def _decimal(given: str) -> Decimal | None:
    try:
        number = Decimal(given)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _list(given: Form, of: Any, where: str) -> list[Any]:
    if set(given) != {str(number) for number in range(len(given))}:
        raise Invalid("Invalid array", param=where)
    return [_value(given[str(number)], of, _inside(where, str(number))) for number in range(len(given))]


def _map(given: Form, of: Any, where: str) -> dict[str, Any]:
    if where.rpartition("[")[2].rstrip("]") == "metadata":
        _check_metadata(given, where)
    # A key of metadata that is set to nothing is one that is not there.
    return {key: _value(each, of, _inside(where, key)) for key, each in given.items() if each != ""}


def _check_metadata(given: Mapping[str, object], where: str) -> None:
    if len(given) > METADATA_KEYS:
        raise Invalid(f"Metadata can have up to {METADATA_KEYS} keys", param=where)
    for key, each in given.items():
        if len(key) > 40:
            raise Invalid(f"Metadata keys can have up to 40 characters, but you passed in {len(key)}", param=where)
        if isinstance(each, str) and len(each) > 500:
            raise Invalid(
                f"Metadata values can have up to 500 characters, but you passed in a value that is {len(each)} "
                f"characters. Invalid value: {each}",
                param=_inside(where, key),
            )


def _inside(where: str, name: str) -> str:
    return f"{where}[{name}]" if where else name


def _unknown(name: str) -> Invalid:
    return Invalid(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
