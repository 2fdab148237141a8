"""What `python -m web` reads from its environment."""

from dataclasses import dataclass
from typing import Self

from quittance.answers import public_url
from quittance.connect import connect_client_id
from quittance.domain.publishing.policies import Policy
from quittance.publishing import currency_policy
from quittance.settings import LogSettings, Reader
from quittance.stripe_client import StripeSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`public_url` has no slash at its end."""

    database_url: str
    amqp_url: str
    host: str
    port: int  # 0 takes any free port, and logs it
    public_url: str
    policy: Policy
    stripe: StripeSettings
    connect_client_id: str  # "" where nobody can connect an account
    forwarded_hops: int  # proxies of our own before us, whose X-Forwarded-For is believed
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
            public_url=public_url(reader, port),
            policy=currency_policy(reader),
            stripe=StripeSettings.read(reader),
            connect_client_id=connect_client_id(reader),
            forwarded_hops=reader.number("FORWARDED_HOPS", 0, 0, 9),
            log=LogSettings.read(reader),
        )
