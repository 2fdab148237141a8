"""The mail server of a system under fire: keeps what it is given, or refuses it, or takes it and says nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from aiosmtpd.smtp import SMTP

from dev.mailbox import Mailbox

Mood = Literal[
    "good",
    "rcpt-451",  # not now, to this recipient: greylisting
    "data-451",  # not now, having seen the mail
    "data-554",  # never, having seen the mail
    "busy-421",  # closes the connection instead of an answer to the mail
    "drops",  # takes the mail, and closes without a word
]
NOT_NOW = "451 4.3.0 not now"


@dataclass
class MailServer(Mailbox):
    """`mood` holds until it is changed."""

    mood: Mood = "good"
    met: int = 0  # mails that met another mood than a good one
    dropped: int = 0  # taken without a word: each may come again

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        """A mail has a recipient."""
        self.met += self.mood != "good"
        if self.mood == "rcpt-451":
            return NOT_NOW
        if self.mood == "busy-421":
            server.transport.write(b"421 4.7.0 too many mails\r\n")
            server.transport.close()
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """A mail is complete."""
        if self.mood == "data-451":
            return NOT_NOW
        if self.mood == "data-554":
            return "554 5.7.1 never"
        answer = await super().handle_DATA(server, session, envelope)
        if self.mood == "drops":
            self.dropped += 1
            server.transport.abort()
        return answer


@asynccontextmanager
async def mail_server() -> AsyncIterator[MailServer]:
    """On a free port of this machine until the block ends."""
    one = MailServer()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(one, enable_SMTPUTF8=True), "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        await server.wait_closed()
