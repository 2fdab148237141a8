"""docs/publishing.md is true: every command is run, in order, and answers what stands below it."""

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from asyncpg.pool import Pool

from tests.support.handling import pump
from tests.web.conftest import base, make_token, policy  # noqa: F401 - fixtures
from workers import WORKERS

PAGE = (Path(__file__).parents[2] / "docs/publishing.md").read_text()
EXAMPLES = re.findall(r"```sh\n(.*?)```\n.*?```json\n(.*?)```", PAGE, re.DOTALL)


def assert_within(shown: Any, answered: Any, where: str = "$") -> None:
    """What is shown is in the answer; objects may have more fields, lists may not have more items."""
    if isinstance(shown, dict):
        assert isinstance(answered, dict), where
        for name, value in shown.items():
            assert name in answered, f"{where}.{name}"
            assert_within(value, answered[name], f"{where}.{name}")
    elif isinstance(shown, list):
        assert isinstance(answered, list) and len(answered) == len(shown), f"{where}: {answered}"
        for number, (one, other) in enumerate(zip(shown, answered, strict=True)):
            assert_within(one, other, f"{where}[{number}]")
    else:
        assert answered == shown, where


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands are curl's")
async def test_every_command_answers_what_stands_below_it(base: str, database: Pool) -> None:  # noqa: F811
    assert len(EXAMPLES) == 6
    token = await make_token(database, "self", "publish", "read")
    for command, shown in EXAMPLES:
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-euc",
            command,
            env={"API": base, "TOKEN": token, "PATH": "/usr/bin:/bin"},
            stdout=asyncio.subprocess.PIPE,
        )
        answer, _ = await process.communicate()
        assert process.returncode == 0, command
        assert_within(json.loads(shown), json.loads(answer))
        await pump([WORKERS["quotes"]], [], database)
