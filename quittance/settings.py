"""The environment, read once at start: every fault in one message, before anything is opened.

Each process reads only its own variables (README, "Configuration"); a fault is exit 2.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import NoReturn, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from quittance.addresses import split
from quittance.errors import SettingsError
from quittance.logs import LogFormat

T = TypeVar("T")


class Reader:
    """Reads variables and gathers what is wrong with them, to say it all at once."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.environment = os.environ if environment is None else environment
        self.faults: list[str] = []

    def text(self, name: str, default: str | None = None, *, required: bool = False) -> str:
        """The variable's text, stripped; a fault where it is required and empty."""
        value = self.environment.get(name, "").strip() or default or ""
        if required and not value:
            self.faults.append(f"{name} is not set")
        return value

    def url(self, name: str, schemes: tuple[str, ...], default: str | None = None, *, required: bool = False) -> str:
        """An address whose scheme is one of `schemes` and that names a host (or, for Postgres, a socket)."""
        value = self.text(name, default, required=required)
        if value:
            self._check_url(name, value, schemes)
        return value

    def _check_url(self, name: str, value: str, schemes: tuple[str, ...]) -> None:
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:  # whose text may hold a piece of the password
            self.faults.append(f"{name} is no address")
            return
        if parts.scheme not in schemes:
            self.faults.append(f"{name} must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        elif not parts.hostname and "host=" not in parts.query:
            self.faults.append(f"{name} names no host")

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number from `least` to `most`."""
        value = self.text(name)
        if not value:
            return default
        if not re.fullmatch(r"-?[0-9]{1,18}", value) or not least <= int(value) <= most:
            self.faults.append(f"{name} must be a whole number from {least} to {most}, not {value!r}")
            return default
        return int(value)

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """One of `allowed`, in any case."""
        value = self.text(name, default).lower()
        if value not in allowed:
            self.faults.append(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
            return default
        return value

    def amqp_url(self) -> str:
        """AMQP_URL, which every process needs: one address, or those of a cluster's nodes, comma-separated."""
        value = self.text("AMQP_URL", required=True)
        several = split(value)
        for number, address in enumerate(several if value else (), 1):
            name = "AMQP_URL" if len(several) == 1 else f"AMQP_URL (address {number})"
            self._check_url(name, address, ("amqp", "amqps"))
        return value

    def database_url(self) -> str:
        """DATABASE_URL, which all but the ingress need; of a primary and its standbys, every host, comma-separated."""
        value = self.text("DATABASE_URL", required=True)
        for number, host in enumerate(_hosts(value) if value else (), 1):
            name = "DATABASE_URL" if "," not in urlsplit(value).netloc else f"DATABASE_URL (host {number})"
            self._check_url(name, host, ("postgresql", "postgres"))
        return value

    def check(self) -> None:
        """Raise SettingsError with every fault found so far."""
        if self.faults:
            raise SettingsError(self.faults)


def _hosts(url: str) -> list[str]:
    """The addresses that are written as one, `//user@host:port,host:port/name`, which urlsplit takes for a port that is
    none.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return [url]
    user, at, places = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{user}{at}{place}")) for place in places.split(",")]


class LogSettings:
    """LOG_LEVEL and LOG_FORMAT, which every process reads."""

    def __init__(self, level: str, log_format: LogFormat) -> None:
        self.level = level
        self.format = log_format

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """LOG_LEVEL (debug, info, warning, error; info) and LOG_FORMAT (json, console; json)."""
        level = reader.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error"))
        log_format = reader.choice("LOG_FORMAT", "json", ("json", "console"))
        return cls(level, "console" if log_format == "console" else "json")


def read_or_exit(read: Callable[[Reader], T], program: str) -> T:
    """The settings that `read` takes; on any fault one message naming all of them, and exit 2."""
    reader = Reader()
    settings = read(reader)
    try:
        reader.check()
    except SettingsError as error:
        exit_with_faults(error, program)
    return settings


def exit_with_faults(error: SettingsError, program: str) -> NoReturn:
    """Say what is wrong with the environment, and exit 2."""
    lines = "\n".join(f"  - {fault}" for fault in error.faults)
    print(f"{program}: the environment is not complete:\n{lines}", file=sys.stderr)
    raise SystemExit(2)


class Adoption:
    """Which quotes that were not published here count as ours (RULES S1)."""

    def __init__(self, enabled: bool, pattern: re.Pattern[str]) -> None:
        self.enabled = enabled
        self.pattern = pattern

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """ADOPT_UNPUBLISHED (on, off; on) and QUOTE_ID_PATTERN (^Q-)."""
        enabled = reader.choice("ADOPT_UNPUBLISHED", "on", ("on", "off")) == "on"
        text = reader.text("QUOTE_ID_PATTERN", "^Q-")
        try:
            pattern = re.compile(text)
        except re.error as error:
            reader.faults.append(f"QUOTE_ID_PATTERN is no regular expression: {error}")
            pattern = re.compile("^Q-")
        return cls(enabled, pattern)


@cache
def adoption() -> Adoption:
    """The adoption rule of this process's environment. Raises SettingsError where it is wrong."""
    reader = Reader()
    rule = Adoption.read(reader)
    reader.check()
    return rule
