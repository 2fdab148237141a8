"""Which process runs which SQL: every SQL constant of the product, with the roles of the processes that run it.

A module of one process is named by its package. What several share is named constant by constant, and what nobody named
makes test_roles.py fail: a new statement needs a decision here, and perhaps a grant in schema.sql.
"""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Final

import quittance
import web
import workers

WORKERS: Final = "quittance_workers"
RELAY: Final = "quittance_relay"
WEB: Final = "quittance_web"
OPERATORS: Final = "quittance_operators"
ROLES: Final = (WORKERS, RELAY, WEB, OPERATORS)

BEGINNINGS: Final = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")

# The longest name that fits decides: a constant before its module, a module before its package.
RUN_BY: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(roles)
    for name, roles in {
        "workers": (WORKERS,),
        "workers.command_intake": (WORKERS, RELAY),  # the relay prepares what the broker gave up as its worker would
        "workers.runtime.dead_letters": (RELAY,),
        "workers.runtime.failures.REMEMBER": (WORKERS, RELAY),
        "workers.runtime.housekeeping": (RELAY,),
        "workers.runtime.listener": (WORKERS, RELAY),
        "workers.runtime.redelivery": (RELAY,),
        "workers.runtime.relay": (RELAY,),
        "web": (WEB,),
        "quittance.cli": (OPERATORS,),
        "quittance.accounts": (WORKERS, WEB),
        "quittance.answers": (WORKERS, WEB),
        "quittance.checkout_book": (WEB,),
        "quittance.checkout_book.ARCHIVE_COUPONS": (WORKERS, WEB),
        "quittance.checkout_book.CLOSE_SESSIONS": (WORKERS, WEB),
        "quittance.checkout_book.WAKE": (WORKERS, WEB),
        "quittance.checkouts": (WEB,),
        "quittance.database.SCHEMA_LOCK": (),  # the owner: `quittance init`
        "quittance.locks": (WORKERS, WEB),
        "quittance.outbox": (WORKERS, WEB),
        "quittance.partitions": (RELAY,),
        "quittance.partitions.EXISTING": (RELAY, OPERATORS),
        "quittance.statistics": (RELAY,),
        "quittance.publishing": (WORKERS, WEB),
        "quittance.publishing.EXPIRE": (WEB,),
        # A preview runs as quittance_workers, and asks before and after as itself.
        "quittance.cli.preview": (WORKERS, OPERATORS),
        "quittance.cli.schema_check": (),  # the owner: needs CREATE on the database
        "quittance.cli.init": (),
        "quittance.cli.database_users": (),
    }.items()
}


@dataclass(frozen=True)
class Statement:
    """One SQL constant; `name` is `module.NAME`."""

    name: str
    text: str

    @property
    def parameters(self) -> int:
        """How many `$n` it has."""
        return max(map(int, re.findall(r"\$(\d+)", self.text)), default=0)

    @property
    def roles(self) -> frozenset[str] | None:
        """Who runs it; None where nobody said."""
        parts = self.name.split(".")
        names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next((RUN_BY[name] for name in names if name in RUN_BY), None)


def statements() -> list[Statement]:
    """Every SQL constant that is assigned in the product's modules, dictionaries of them included."""
    found = [each for package in (quittance, web, workers) for each in _of_package(package)]
    return sorted(found, key=lambda each: each.name)


def run_by(role: str) -> list[Statement]:
    """What the processes of a role run."""
    return [each for each in statements() if role in (each.roles or ())]


def _of_package(package: ModuleType) -> Iterator[Statement]:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if found.name.endswith("__main__"):
            continue
        module = importlib.import_module(found.name)
        for name in _assigned(module):
            value = getattr(module, name)
            for text in value.values() if isinstance(value, dict) else (value,):
                if isinstance(text, str) and BEGINNINGS.match(text):
                    yield Statement(f"{found.name}.{name}", text)


def _assigned(module: ModuleType) -> Iterator[str]:
    """The module's own constants, without those that it imports."""
    for node in ast.parse(inspect.getsource(module) or "").body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from (target.id for target in targets if isinstance(target, ast.Name) and target.id.isupper())
