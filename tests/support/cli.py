"""The program `quittance`, run as people run it: a process of its own, its two outputs, its exit code."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

from tests.support.processes import KEPT, ROOT


@dataclass(frozen=True)
class Answer:
    """What a command said. `out` is stdout, `err` stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as the one JSON value that it must be."""
        return json.loads(self.out)

    def ok(self) -> "Answer":
        """Itself, where the exit code is 0."""
        assert self.code == 0, f"exit {self.code}\n{self.out}\n{self.err}"
        return self


# Longer than any command of a test takes on a machine that is busy with others.
PATIENCE = 90.0


async def quittance(*arguments: object, **environment: str) -> Answer:
    """Run `quittance arguments…` with only `environment` set, and wait for its end."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "quittance.cli",
        *map(str, arguments),
        cwd=ROOT,
        env={**kept, "PYTHONPATH": str(ROOT), "USER": "tester", **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Answer(process.returncode or 0, out.decode(), err.decode())
