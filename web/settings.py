"""What `python -m web` reads from its environment."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from quittance.domain.publishing.policies import Policy
from quittance.publishing import currency_policy
from quittance.settings import LogSettings, Reader


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`public_url` has no slash at its end."""

    database_url: str
    amqp_url: str
    host: str
    port: int  # 0 takes any free port, and logs it
    public_url: str
    policy: Policy
    log: LogSettings

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Every variable of web; what is wrong is gathered in `reader`.

        AMQP_URL is required here as of every process, so that one environment serves all; the API itself needs no broker
        (what it tells goes through the outbox) and does not connect to it.
        """
        port = reader.number("WEB_PORT", 8081, 0, 65_535)
        return cls(
            database_url=reader.database_url(),
            amqp_url=reader.amqp_url(),
            # All addresses: in a container loopback would be reached by nobody.
            host=reader.text("WEB_HOST", "0.0.0.0"),  # noqa: S104
            port=port,
            public_url=_public_url(reader, port),
            policy=currency_policy(reader),
            log=LogSettings.read(reader),
        )


def _public_url(reader: Reader, port: int) -> str:
    url = reader.url("PUBLIC_URL", ("http", "https"), f"http://localhost:{port}").rstrip("/")
    try:
        parts = urlsplit(url)
        clean = not (parts.query or parts.fragment or parts.username)
    except ValueError:
        return url  # already a fault
    if not clean:
        reader.faults.append("PUBLIC_URL must be an address without user, query or fragment")
    return url
