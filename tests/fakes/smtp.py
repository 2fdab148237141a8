"""A mail server that behaves, or misbehaves, as told; in the test's own event loop, on a port of its own."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final, Literal

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

Mode = Literal[
    "ok",
    "slow",  # waits `delay` seconds before it takes the mail
    "rcpt_451",  # not now, to this recipient
    "rcpt_550",  # never, to this recipient
    "mail_451",  # not now, from this sender
    "data_451",  # not now, having seen the mail
    "data_554",  # never, having seen the mail
    "busy_421",  # closes: too many mails
    "drop",  # takes the mail, and closes without a word
]

USER: Final = "quotes@example.com"
PASSWORD: Final = "p@ss:wörd/%"


@dataclass
class Received:
    """A mail that the server has taken (or, when it dropped the connection, has read to its end)."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    connection: int
    encrypted: bool
    user: str | None

    def part(self, subtype: str) -> str:
        """The text of `plain` or `html`."""
        body = self.message.get_body((subtype,))
        assert body is not None
        return str(body.get_content()).replace("\r\n", "\n")


@dataclass
class FakeSmtp:
    """`mode` holds until changed; `script` first, one mode a mail."""

    port: int = 0
    mode: Mode = "ok"
    script: list[Mode] = field(default_factory=list)
    delay: float = 0.2
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    at_once: int = 0
    most_at_once: int = 0
    tried: int = 0
    current: Mode = "ok"

    def url(self, *, tls: bool = False, login: str = "") -> str:
        """For SMTP_URL; `login` as it stands in an address, with its @."""
        return f"{'smtps' if tls else 'smtp'}://{login}127.0.0.1:{self.port}"

    def to(self, address: str) -> list[Received]:
        """What the recipient got."""
        return [mail for mail in self.received if address in mail.recipients]


class Handler:
    """aiosmtpd's hooks; one handler a connection."""

    def __init__(self, fake: FakeSmtp, *, encrypted: bool, pipelining: bool) -> None:
        fake.connections += 1
        self.encrypted, self.pipelining = encrypted, pipelining
        self.fake, self.connection, self.mode = fake, fake.connections, fake.mode

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """What is offered."""
        session.host_name = hostname
        return [*responses[:-1], *(["250-PIPELINING"] if self.pipelining else []), responses[-1]]

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """A mail begins: which mode it meets."""
        self.fake.tried += 1
        self.mode = self.fake.script.pop(0) if self.fake.script else self.fake.mode
        if self.mode == "mail_451":
            return "451 4.3.2 not now"
        if self.mode == "busy_421":
            transport_of(server).write(b"421 4.7.0 too many mails\r\n")
            transport_of(server).close()
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Whether the recipient is taken."""
        if self.mode == "rcpt_451":
            return "451 4.7.1 greylisted, try again later"
        if self.mode == "rcpt_550":
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """The mail has been read to its end."""
        if self.mode == "data_451":
            return "451 4.3.0 not now"
        if self.mode == "data_554":
            return "554 5.7.1 not this"
        self.fake.at_once += 1
        self.fake.most_at_once = max(self.fake.most_at_once, self.fake.at_once)
        if self.mode == "slow":
            await asyncio.sleep(self.fake.delay)
        self.fake.at_once -= 1
        self._take(session, envelope)
        if self.mode == "drop":
            transport_of(server).abort()
        return "250 OK"

    def _take(self, session: Session, envelope: Envelope) -> None:
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.SMTPUTF8)
        given: Any = session.auth_data
        user = given.login.decode() if session.authenticated else None
        received = Received(
            sender=envelope.mail_from or "",
            recipients=list(envelope.rcpt_tos),
            message=message,
            connection=self.connection,
            encrypted=self.encrypted or session.ssl is not None,
            user=user,
        )
        self.fake.received.append(received)


def transport_of(server: SMTP) -> asyncio.Transport:
    """The connection underneath."""
    assert isinstance(server.transport, asyncio.Transport)
    return server.transport


def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
    """The one user."""
    known = isinstance(given, LoginPassword) and (given.login, given.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=known, handled=False, auth_data=given)


@asynccontextmanager
async def fake_smtp(
    *,
    certificate: Path | None = None,
    implicit_tls: bool = False,
    login: bool = False,
    pipelining: bool = True,
    port: int = 0,
) -> AsyncIterator[FakeSmtp]:
    """A server on 127.0.0.1. With `certificate` (see `make_certificate`) it offers STARTTLS, or speaks TLS at once."""
    fake, loop = FakeSmtp(), asyncio.get_running_loop()
    transports: list[asyncio.BaseTransport] = []
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)

    class Connection(SMTP):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transports.append(transport)
            super().connection_made(transport)

    def protocol() -> SMTP:
        return Connection(
            Handler(fake, encrypted=implicit_tls, pipelining=pipelining),
            enable_SMTPUTF8=True,
            hostname="mail.test",
            tls_context=None if implicit_tls else context,
            auth_require_tls=False,  # what goes without is for the test to see, in `encrypted`
            authenticator=authenticate if login else None,
            loop=loop,
        )

    server = await loop.create_server(protocol, "127.0.0.1", port, ssl=context if implicit_tls else None)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        for transport in transports:
            transport.close()
        await asyncio.sleep(0.01)  # for both ends to notice


def make_certificate(folder: Path) -> Path:
    """A self-made certificate for 127.0.0.1 and localhost, with its key, in one file."""
    path = folder / "mail.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", path, "-out", folder / "certificate.pem"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + (folder / "certificate.pem").read_bytes())
    return path
