"""Every rule of the article, R1 to R32, has a test that carries its number."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def names_of_tests() -> Iterator[str]:
    """The names of all test functions."""
    for file in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield node.name


def rules_named_by(name: str) -> set[int]:
    """`test_r18_r19_…` names rules 18 and 19."""
    numbers = re.match(r"test((?:_r\d+)+)_", name)
    return {int(number) for number in re.findall(r"\d+", numbers[1])} if numbers else set()


@pytest.fixture(scope="module")
def named() -> set[int]:
    return {rule for name in names_of_tests() for rule in rules_named_by(name)}


@pytest.mark.parametrize("rule", range(1, 33))
def test_a_test_carries_the_rules_number(rule: int, named: set[int]) -> None:
    assert rule in named
