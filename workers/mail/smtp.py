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
from contextlib import asynccontextmanager, suppress
from email.headerregistry import Address
from typing import Final

import aiosmtplib

from workers.mail.dialogue import CLOSING, COMMAND_TIMEOUT, Answer, Dialogue, Lost, Refusal
from workers.mail.messages import needs_utf8
from workers.mail.settings import SmtpServer

# Enough to hide the server's latency; mail servers limit connections per client.
CONNECTIONS: Final = 8
# Servers close after minutes of silence; the next mail then opens anew.
LONGEST_IDLE: Final = 60.0
# Below the 20 s that the runtime gives an attempt, so that it is we who say how far it got.
WHOLE_TIMEOUT: Final = 18.0

# Answers that are about us, not about the mail: 421 closing, 454 TLS, 53x login.
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
        self._idle: list[tuple[Dialogue, float]] = []

    async def send(self, sender: Address, recipient: Address, mail: bytes) -> None:
        """Hand one mail (see workers/mail/messages.py) to the server. Raises ServerAway, NotNow or NotEver."""
        handed_over = False
        try:
            async with asyncio.timeout(WHOLE_TIMEOUT), self._slots:
                dialogue, refusal = await self._offered(sender, recipient)
                if refusal is None:
                    handed_over = True
                    refusal = await dialogue.hand_over(mail)
                if not dialogue.lost:
                    self._idle.append((dialogue, time.monotonic()))
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
            detail = f"{type(error).__name__}: {error}"
            raise NotNow(f"perhaps taken: {detail}") if handed_over else ServerAway(detail) from error
        if refusal is not None:
            raise meaning(refusal)

    async def close(self) -> None:
        """Take leave of the server, within seconds."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(dialogue.quit() for dialogue, _ in idle))

    async def _offered(self, sender: Address, recipient: Address) -> tuple[Dialogue, Refusal | None]:
        """A connection to which the mail was offered, and its refusal if it did: an idle one, else a new one.

        An idle one ended its last mail well, so the next may follow at once: that also tells whether the server is still there.
        """
        while self._idle:
            dialogue, since = self._idle.pop()
            if time.monotonic() - since >= LONGEST_IDLE:
                dialogue.close("idle for too long")
                continue
            with suppress(Lost):
                refusal = await _offer(dialogue, sender, recipient)
                if not dialogue.lost:
                    return dialogue, refusal
            # Closed meanwhile, or tired of us: that says nothing about the server.
        dialogue = await _opened(self.server)
        return dialogue, await _offer(dialogue, sender, recipient)


async def _opened(server: SmtpServer) -> Dialogue:
    smtp = await connect(server)
    if smtp.transport is None:
        raise Lost("closed as soon as it was open")
    return Dialogue(
        smtp.transport,
        pipelining=smtp.supports_extension("pipelining"),
        utf8=smtp.supports_extension("smtputf8"),
    )


async def _offer(dialogue: Dialogue, sender: Address, recipient: Address) -> Refusal | None:
    parameters = ""
    if needs_utf8(sender, recipient):
        if not dialogue.utf8:
            return Refusal("MAIL", Answer(553, "it does not take addresses beyond ASCII (SMTPUTF8)"))
        parameters = " SMTPUTF8 BODY=8BITMIME"
    return await dialogue.offer(sender.addr_spec, recipient.addr_spec, parameters)


def meaning(refusal: Refusal) -> Exception:
    """What a refusal says: about us, about this mail now, or about it for good."""
    code = refusal.answer.code
    if code in ABOUT_US or (refusal.command == "MAIL" and code < 500):
        return ServerAway(str(refusal.answer))
    return NotEver(str(refusal.answer)) if code >= 500 else NotNow(str(refusal.answer))


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
