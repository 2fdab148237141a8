"""The arrows of import (docs/architecture.md): they point at the kernel, and the domain at nothing."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE = 300  # 300 is the aim


def modules(*folders: str) -> list[Path]:
    """Every Python file below the folders, relative to the root."""
    found = [path.relative_to(ROOT) for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if "__pycache__" not in path.parts]


def imports(path: Path) -> Iterator[str]:
    """Each module that a file imports, dotted; `from a import b` gives `a.b`, as b may be a module."""
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


DOORS = ("ingest", "workers", "web")
KERNEL = [path for path in modules("quittance") if path.parts[1] != "cli"]


@pytest.mark.parametrize("door", DOORS)
def test_no_door_knows_another(door: str) -> None:
    others = [other for other in DOORS if other != door]
    for path in modules(door):
        for name in imports(path):
            assert not any(inside(name, other) for other in others), f"{path} imports {name}"
            assert not inside(name, "quittance.cli"), f"{path} imports the command line"


def test_the_kernel_knows_no_door() -> None:
    for path in KERNEL:
        for name in imports(path):
            assert not any(inside(name, door) for door in DOORS), f"{path} imports {name}"
            assert not inside(name, "quittance.cli"), f"{path} imports the command line"


def test_the_command_line_knows_the_workers_and_no_other_door() -> None:
    for path in modules("quittance/cli"):
        for name in imports(path):
            assert not inside(name, "ingest"), f"{path} imports {name}"
            assert not inside(name, "web"), f"{path} imports {name}"


def test_the_domain_is_pure() -> None:
    """Only the standard library, msgspec and quittance.errors; no await, no clock, no I/O, no logging."""
    forbidden = {"asyncio", "logging", "os", "pathlib", "random", "socket", "subprocess", "time", "uuid"}
    for path in modules("quittance/domain"):
        for name in imports(path):
            top = name.split(".")[0]
            ours = inside(name, "quittance.domain") or inside(name, "quittance.errors")
            assert ours or top == "msgspec" or top in sys.stdlib_module_names, f"{path} imports {name}"
            assert top not in forbidden, f"{path} imports {name}"
        source = (ROOT / path).read_text("utf-8")
        tree = ast.parse(source)
        assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(tree)), f"{path} awaits"
        assert ".now(" not in source, f"{path} reads the clock"
        assert "utcnow(" not in source, f"{path} reads the clock"


def test_production_code_needs_no_development_code() -> None:
    for path in modules("ingest", "workers", "web", "quittance"):
        for name in imports(path):
            assert not any(inside(name, folder) for folder in ("dev", "tests", "bench", "fire")), (
                f"{path} imports {name}"
            )


def test_the_runtime_knows_no_worker() -> None:
    """Queues and rows, not quotes: the workers are handed to it."""
    for path in modules("workers/runtime"):
        for name in imports(path):
            assert not inside(name, "workers") or inside(name, "workers.runtime"), f"{path} imports {name}"
            assert not inside(name, "quittance.domain"), f"{path} imports {name}"


@pytest.mark.parametrize(
    "name", ["accounts", "archive", "checkouts", "commands", "customers", "documents", "quotes", "notifications"]
)
def test_a_worker_reads_from_top_to_bottom(name: str) -> None:
    """Contract, QUEUE, SQL, handle, private helpers: always in this order."""
    source = (ROOT / "workers" / f"{name}.py").read_text("utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    for heading in ("Consumes", "Writes", "Emits"):
        assert heading in docstring, f"{name} does not say what it {heading.lower()}"
    assert source.index("\nQUEUE") < source.index("\nasync def handle(")


@pytest.mark.parametrize("path", modules("ingest", "workers", "web", "quittance", "dev"), ids=str)
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    assert len((ROOT / path).read_text("utf-8").splitlines()) <= LONGEST_FILE
