"""The SMTP side: a few connections, used again and again, and what each of the server's answers means.

| the server                                              | outcome                                                |
|---------------------------------------------------------|--------------------------------------------------------|
| has taken it                                            | returns                                                |
| cannot be reached, closes, is slow before DATA; 421;    | ServerAway: nothing was taken, all mails wait          |
| does not let us in (TLS, login), or 4xx to our address  |                                                        |
| 4xx to the recipient or to the mail                     | NotNow: this mail alone waits                          |
| falls silent or closes after DATA                       | NotNow: it may have been taken, so it must not be sent |
|                                                         | again without end; the next has the same Message-ID    |
| 5xx to sender, recipient or mail                        | NotEver                                                |
"""

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from email.policy import SMTPUTF8 as WIRE_UTF8
from typing import Final

import aiosmtplib

from workers.mail.settings import SmtpServer

# Enough to hide the server's latency; mail servers limit connections per client.
CONNECTIONS: Final = 4
# Servers close after minutes of silence; the next mail then opens anew.
LONGEST_IDLE: Final = 60.0
COMMAND_TIMEOUT: Final = 10.0
# Below the 20 s that the runtime gives an attempt, so that it is we who say how far it got.
WHOLE_TIMEOUT: Final = 18.0

# Answers that are about us, not about the mail: 421 closing, 454 TLS, 53x login.
CLOSING: Final = 421
ABOUT_US: Final = frozenset({CLOSING, 454, 530, 534, 535, 538})


class ServerAway(Exception):
    """Nothing was taken, and no other mail would be now."""


class NotNow(Exception):
    """The mail was not taken, or perhaps was; later it may be."""


class NotEver(Exception):
    """The server refuses this mail for good."""


class Mailer:
    """Sends mails over at most `CONNECTIONS` connections to one server."""

    def __init__(self, server: SmtpServer) -> None:
        self.server = server
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._idle: list[tuple[aiosmtplib.SMTP, float]] = []

    async def send(self, sender: Address, recipient: Address, message: EmailMessage) -> None:
        """Hand one mail to the server. Raises ServerAway, NotNow or NotEver."""
        utf8 = not (recipient.username.isascii() and sender.username.isascii())
        wire = message.as_bytes(policy=WIRE_UTF8 if utf8 else WIRE)
        handing_over = False
        smtp: aiosmtplib.SMTP | None = None
        try:
            async with asyncio.timeout(WHOLE_TIMEOUT), self._slots:
                smtp = await self._begun(sender, utf8=utf8)
                await _recipient(smtp, recipient, utf8=utf8)
                handing_over = True
                await self._data(smtp, wire)
                self._idle.append((smtp, time.monotonic()))
                smtp = None
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
            detail = f"{type(error).__name__}: {error}"
            raise NotNow(f"perhaps taken: {detail}") if handing_over else ServerAway(detail) from error
        finally:
            if smtp is not None:
                smtp.close()

    async def close(self) -> None:
        """Take leave of the server, within seconds."""
        for smtp, _ in self._idle:
            try:
                await smtp.quit(timeout=1)
            except (aiosmtplib.SMTPException, OSError, TimeoutError):
                smtp.close()
        self._idle.clear()

    async def _begun(self, sender: Address, *, utf8: bool) -> aiosmtplib.SMTP:
        """A connection with a mail begun: an idle one, else a new one.

        An idle one ended its last mail well, so MAIL may follow at once: it also tells whether the server is still there.
        """
        while self._idle:
            smtp, since = self._idle.pop()
            if time.monotonic() - since >= LONGEST_IDLE:
                smtp.close()
                continue
            try:
                return await _begin(smtp, sender, utf8=utf8)
            except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
                if isinstance(error, aiosmtplib.SMTPResponseException) and error.code != CLOSING:
                    raise
                # Closed meanwhile, or tired of us: that says nothing about the server.
        return await _begin(await connect(self.server), sender, utf8=utf8)

    @staticmethod
    async def _data(smtp: aiosmtplib.SMTP, message: bytes) -> None:
        try:
            await smtp.data(message, timeout=WHOLE_TIMEOUT)  # a server may look into a mail before it answers
        except aiosmtplib.SMTPResponseException as error:
            raise _about_the_mail(error) from error


async def _begin(smtp: aiosmtplib.SMTP, sender: Address, *, utf8: bool) -> aiosmtplib.SMTP:
    """The connection, with a mail begun; closed where that fails."""
    try:
        await _sender(smtp, sender, utf8=utf8)
    except BaseException:
        smtp.close()
        raise
    return smtp


async def _sender(smtp: aiosmtplib.SMTP, sender: Address, *, utf8: bool) -> None:
    options = []
    if utf8:
        if not smtp.supports_extension("smtputf8"):
            raise NotEver("the mail server does not take addresses beyond ASCII (SMTPUTF8)")
        options = ["SMTPUTF8", "BODY=8BITMIME"]
    try:
        await smtp.mail(sender.addr_spec, options=options, encoding="utf-8" if utf8 else "ascii")
    except aiosmtplib.SMTPResponseException as error:
        if error.code < 500 or error.code in ABOUT_US:
            raise
        raise NotEver(answer(error)) from error


async def _recipient(smtp: aiosmtplib.SMTP, recipient: Address, *, utf8: bool) -> None:
    try:
        await smtp.rcpt(recipient.addr_spec, encoding="utf-8" if utf8 else "ascii")
    except aiosmtplib.SMTPResponseException as error:
        raise _about_the_mail(error) from error


def _about_the_mail(error: aiosmtplib.SMTPResponseException) -> Exception:
    if error.code in ABOUT_US:
        return ServerAway(answer(error))
    return NotEver(answer(error)) if error.code >= 500 else NotNow(answer(error))


def answer(error: aiosmtplib.SMTPResponseException) -> str:
    """The server's answer as one bounded line."""
    return " ".join(f"{error.code} {error.message}".split())[:300]


async def connect(server: SmtpServer) -> aiosmtplib.SMTP:
    """A connection, encrypted and logged in as configured. Raises aiosmtplib's errors, OSError, ssl.SSLError."""
    smtp = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        use_tls=server.tls,
        start_tls=False,  # below, so that we know whether it happened
        tls_context=ssl.create_default_context() if server.tls else None,
        timeout=COMMAND_TIMEOUT,
        local_hostname=_own_name(),
    )
    try:
        await smtp.connect()
        await smtp.ehlo()
        encrypted = server.tls or await _start_tls(smtp, server)
        if server.user:
            if not encrypted and not is_loopback(server.host):
                raise aiosmtplib.SMTPException("the server offers no STARTTLS: no password is sent in the clear")
            await smtp.login(server.user, server.password)
    except BaseException:
        smtp.close()
        raise
    return smtp


@asynccontextmanager
async def connected(server: SmtpServer) -> AsyncIterator[aiosmtplib.SMTP]:
    """A connection for a check by hand (`quittance doctor`). Raises as `connect` does."""
    smtp = await connect(server)
    try:
        yield smtp
    finally:
        smtp.close()


async def _start_tls(smtp: aiosmtplib.SMTP, server: SmtpServer) -> bool:
    if not smtp.supports_extension("starttls"):
        return False
    context = ssl.create_default_context()
    if is_loopback(server.host):
        # A mail server on this very machine has the certificate that its package made; nobody stands in between.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    await smtp.starttls(tls_context=context, server_hostname=server.host)
    await smtp.ehlo()
    return True


def is_loopback(host: str) -> bool:
    """Whether the host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _own_name() -> str:
    """What we say in EHLO: never a name that has to be looked up first, which can take seconds."""
    name = socket.gethostname()
    return name if name.isascii() and name.replace("-", "").replace(".", "").isalnum() else "localhost"
