"""The ids that the benchmarks' events have: as long as Stripe's, and in the order that Stripe's have."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from bench.bodies import DIGITS, KINDS, digits, numbered_lives, quote_id_of, scattered

BASE_62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FIRST_SECOND = 1_342_389_380  # an evening of July 2012
# "in_1SOMiqKXBGcbgpbZwAYueCS6": a digit, five letters that are the second, the account's end, random letters.
_timed_id = re.compile(r"[a-z_]+_[0-9]([A-Z][0-9A-Za-z]{4})[0-9A-Za-z]{12,18}")
_ordered_id = re.compile(rb'"((?:evt|pi|ch|in|inpay|sub|cus)_[0-9A-Za-z]{12,})"')
_session_id = re.compile(rb'"(cs_test_[0-9A-Za-z]+)"')


def test_ids_of_stripe_begin_with_the_second_in_which_they_were_made(payloads: Path) -> None:
    said = [
        (created - FIRST_SECOND, second(match[1]))
        for path in sorted(payloads.rglob("*.json"))
        for object_id, created in created_in(msgspec.json.decode(path.read_bytes()))
        if (match := _timed_id.fullmatch(object_id)) and created > 1_700_000_000
    ]
    assert len(said) > 30
    # What is made for another object (a charge of an intent) has that one's second.
    assert all(abs(made - named) < 60 for made, named in said)


def second(letters: str) -> int:
    """The number that letters are in base 62."""
    number = 0
    for letter in letters:
        number = number * 62 + BASE_62.index(letter)
    return number


def created_in(value: Any) -> Iterator[tuple[str, int]]:
    """Each object's id and time of creation, whatever it lies in."""
    if isinstance(value, dict):
        if isinstance(value.get("id"), str) and isinstance(value.get("created"), int):
            yield value["id"], value["created"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from created_in(each)


def test_numbers_are_scattered_and_none_comes_twice() -> None:
    marks = [scattered(digits(number)) for number in range(1_000)]
    assert len(set(marks)) == 1_000
    assert {len(mark) for mark in marks} == {DIGITS}
    assert marks != sorted(marks)


def test_ids_of_later_copies_are_greater_and_those_of_sessions_are_random() -> None:
    lives = [b"".join(body for _, body in life) for life in numbered_lives("ORDER", 0, 40)][::2]
    ids = [_ordered_id.findall(life) for life in lives]
    assert len(ids[0]) > 10
    assert all(one < other for each in itertools.pairwise(ids) for one, other in zip(*each, strict=True))
    sessions = [_session_id.findall(life)[0] for life in lives]
    assert sessions != sorted(sessions)


def test_the_id_that_is_told_is_the_one_in_the_body() -> None:
    for life in numbered_lives("NAME", 7, 2):
        assert [event_id for event_id, _ in life] == [msgspec.json.decode(body)["id"] for _, body in life]


def test_the_quote_that_is_told_is_the_one_in_the_body() -> None:
    for life, kind in zip(numbered_lives("NAME", 7, 2), KINDS, strict=True):
        number = life[0][0][-DIGITS:].encode()
        assert any(f'"{quote_id_of("NAME", kind, number)}"'.encode() in body for _, body in life)
