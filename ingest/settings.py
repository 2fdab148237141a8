"""What the ingress reads from its environment, and the webhook secrets, which may change while it runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from quittance.settings import LogSettings, Reader

MAX_SECRETS_FILE: Final = 65_536  # bytes


@dataclass(frozen=True, kw_only=True)
class Settings:
    amqp_url: str
    host: str
    port: int  # 0 takes any free port, and logs it
    secrets: "Secrets"
    log: LogSettings

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Every variable of the ingress; what is wrong is gathered in `reader`."""
        return cls(
            amqp_url=reader.amqp_url(),
            # All addresses: Stripe comes from outside, and in a container loopback would be reached by nobody.
            host=reader.text("INGEST_HOST", "0.0.0.0"),  # noqa: S104
            port=reader.number("INGEST_PORT", 8080, 0, 65_535),
            secrets=Secrets.read(reader),
            log=LogSettings.read(reader),
        )


class SecretsError(Exception):
    """A list of secrets that cannot be used. The message names no secret."""


class Secrets:
    """The secrets of all our webhook endpoints, old and new while one is rolled; each is tried.

    Those of STRIPE_WEBHOOK_SECRETS stay; those of STRIPE_WEBHOOK_SECRETS_FILE are read again by `reload`.
    """

    def __init__(self, fixed: Sequence[str], file: Path | None = None) -> None:
        self._fixed = tuple(fixed)
        self._file = file
        self.current = self._load()

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """From the environment; at least one of the two variables is needed."""
        text = reader.text("STRIPE_WEBHOOK_SECRETS")
        path = reader.text("STRIPE_WEBHOOK_SECRETS_FILE")
        if not text and not path:
            reader.faults.append(
                "STRIPE_WEBHOOK_SECRETS is not set (comma-separated), nor STRIPE_WEBHOOK_SECRETS_FILE (one a line)"
            )
        fixed: Sequence[str] = ()
        if text:
            try:
                fixed = checked(text.split(","), "STRIPE_WEBHOOK_SECRETS")
            except SecretsError as error:
                reader.faults.append(str(error))
        try:
            return cls(fixed, Path(path) if path else None)
        except SecretsError as error:
            reader.faults.append(f"STRIPE_WEBHOOK_SECRETS_FILE: {error}")
            return cls(fixed)

    def reload(self) -> int:
        """Read the file again; the number of secrets now. Raises SecretsError, and then keeps those it had."""
        self.current = self._load()
        return len(self.current)

    def _load(self) -> tuple[str, ...]:
        from_file = checked(_lines(self._file), str(self._file)) if self._file else ()
        return tuple(dict.fromkeys((*self._fixed, *from_file)))


def checked(values: Sequence[str], where: str) -> tuple[str, ...]:
    """`values` without surrounding blanks. Raises SecretsError where there is none, or one that can be no secret."""
    secrets = tuple(value.strip() for value in values)
    if not secrets:
        raise SecretsError(f"{where} holds no secret")
    for number, secret in enumerate(secrets, 1):
        if not secret:
            raise SecretsError(f"{where}: secret {number} is empty")
        if not secret.isascii() or not secret.isprintable() or " " in secret:
            raise SecretsError(f"{where}: secret {number} holds something other than printable ASCII")
    return secrets


def _lines(file: Path) -> list[str]:
    try:
        if not file.is_file():
            raise SecretsError(f"{file} is no file")
        with file.open("rb") as opened:
            content = opened.read(MAX_SECRETS_FILE + 1)
    except OSError as error:
        raise SecretsError(f"{file} cannot be read: {error.strerror}") from error
    if len(content) > MAX_SECRETS_FILE:
        raise SecretsError(f"{file} is larger than {MAX_SECRETS_FILE} bytes")
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError:
        raise SecretsError(f"{file} is not UTF-8") from None
