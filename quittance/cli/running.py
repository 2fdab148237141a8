"""How a command runs: its settings, its connections, and what its errors mean to the shell.

Exit 0: done. Exit 1: could not (`CouldNot`, a server away). Exit 2: used wrongly, the environment included.
"""

import asyncio
import os
import pwd
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import asyncpg
import typer
from aio_pika.exceptions import AMQPConnectionError

from quittance import logs
from quittance.cli.output import note
from quittance.errors import SettingsError
from quittance.settings import LogSettings, Reader, exit_with_faults

T = TypeVar("T")


class CouldNot(Exception):
    """What was asked cannot be done; the message says why and what would help."""


def usage(message: str) -> NoReturn:
    """End the command as one that was called wrongly."""
    raise typer.BadParameter(message)


def read_settings(read: Callable[[Reader], T]) -> T:
    """What `read` takes from the environment, and the logs set up; exit 2 with every fault where there is one."""
    reader = Reader()
    log_settings = LogSettings.read(reader)
    settings = read(reader)
    try:
        reader.check()
    except SettingsError as error:
        exit_with_faults(error, "quittance")
    # A person reads these lines beside the answer, so they are JSON only where that was asked for.
    log_format = log_settings.format if os.environ.get("LOG_FORMAT") else "console"
    level = log_settings.level if os.environ.get("LOG_LEVEL") else "warning"
    logs.configure(level, log_format)
    return settings


def run(command: Coroutine[Any, Any, T]) -> T:
    """Run a command to its end; errors that a person can do something about become one line and an exit code."""
    try:
        return asyncio.run(command)
    except CouldNot as error:
        fail(str(error))
    except SettingsError as error:
        exit_with_faults(error, "quittance")
    except asyncpg.UndefinedTableError as error:
        fail(f"the database has no such table ({error}): run `quittance init` first")
    except asyncpg.InsufficientPrivilegeError as error:
        fail(f"the role in DATABASE_URL may not do this: {error}")
    except asyncpg.PostgresError as error:
        fail(f"the database refused ({type(error).__name__}): {error}")
    except (asyncpg.InterfaceError, AMQPConnectionError, TimeoutError, OSError) as error:
        fail(f"a server is away ({type(error).__name__}): {error}; `quittance doctor` says which")


def fail(message: str) -> NoReturn:
    """Say on stderr why it could not be done, and exit 1."""
    note(f"quittance: {message}")
    raise typer.Exit(1)


def acting(actor: str | None) -> str:
    """Who does this, for the history: `--actor`, else $USER, else the name of the process's account."""
    if actor and actor.strip():
        return actor.strip()
    if name := os.environ.get("USER", "").strip():
        return name
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's uid without a name
        return f"uid {os.geteuid()}"


def confirmed(question: str, *, yes: bool) -> None:
    """Ask before something large, where there is somebody to ask; a script has asked for what it does."""
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    typer.confirm(question, abort=True, err=True)
