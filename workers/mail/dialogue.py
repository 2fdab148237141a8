"""Mails over one SMTP connection that is open, greeted and logged in.

Where the server offers PIPELINING (RFC 2920), MAIL, RCPT and DATA go in one piece: two round trips a mail, not four.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple, cast

from workers.mail.addresses import one_line

COMMAND_TIMEOUT: Final = 10.0
# A server may look into a mail before it answers. Who sends it waits as long as he likes, up to this (RFC 5321, 4.5.3.2).
MAIL_TIMEOUT: Final = 600.0
# Of an answer that has not come to its end; servers say a few lines.
LONGEST_ANSWER: Final = 65_536

GOOD: Final = range(200, 300)
SEND_IT: Final = 354
CLOSING: Final = 421
# The answers with which a mail is begun.
BEGUN: Final = {"MAIL": GOOD, "RCPT": GOOD, "DATA": range(SEND_IT, SEND_IT + 1)}


class Lost(ConnectionError):
    """The connection is of no more use."""


class Answer(NamedTuple):
    """What the server said to one command."""

    code: int
    text: str

    def __str__(self) -> str:
        """One bounded line."""
        return one_line(f"{self.code} {self.text}", 300)


class Refusal(NamedTuple):
    """To what the server said no (MAIL, RCPT, DATA, or the mail itself), and how."""

    command: str
    answer: Answer


class Dialogue(asyncio.Protocol):
    """Takes an open transport over. One mail at a time: `offer`, and unless that is refused `hand_over`.

    Both raise Lost, and return the Refusal if there is one. `lost` says why there can be no other mail; what is cancelled in
    the middle is lost too.
    """

    def __init__(self, transport: asyncio.BaseTransport, *, pipelining: bool, utf8: bool) -> None:
        self.utf8 = utf8  # whether the server takes addresses beyond ASCII
        self.lost = ""
        self._pipelining = pipelining
        self._rest = b""  # of a line that has not come to its end
        self._lines: list[bytes] = []  # of an answer that has not
        self._answers: list[Answer] = []
        self._expected = 0
        self._woken: asyncio.Future[None] | None = None
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so
        self._transport.set_protocol(self)

    async def offer(self, sender: str, recipient: str, parameters: str = "") -> Refusal | None:
        """Begin a mail, with MAIL's `parameters`."""
        answers = await self._ask(
            f"MAIL FROM:<{sender}>{parameters}\r\n".encode(), f"RCPT TO:<{recipient}>\r\n".encode(), b"DATA\r\n"
        )
        for (command, begun), answer in zip(BEGUN.items(), answers, strict=False):
            if answer.code not in begun:
                with suppress(Lost):
                    await self._take_back(answers)
                return Refusal(command, answer)
        if self.lost:
            raise Lost(self.lost)
        return None

    async def hand_over(self, mail: bytes) -> Refusal | None:
        """Send the mail that was begun; its lines end in CRLF, the last one too."""
        stuffed = mail.replace(b"\r\n.", b"\r\n..")
        answer, *_ = await self._exchange(stuffed + b".\r\n", 1, MAIL_TIMEOUT)
        return None if answer.code in GOOD else Refusal("mail", answer)

    async def quit(self) -> None:
        """Take leave, and close."""
        with suppress(Lost):
            await self._exchange(b"QUIT\r\n", 1, patience=1.0)
        self.close("left")

    def close(self, why: str) -> None:
        """Close at once."""
        self.lost = self.lost or why
        self._transport.abort()
        self._wake()

    async def _ask(self, *commands: bytes) -> Sequence[Answer]:
        """The answers to all of them; without PIPELINING, up to the first that is a refusal."""
        if self._pipelining:
            return await self._exchange(b"".join(commands), len(commands))
        answers: list[Answer] = []
        for command in commands:
            answers += await self._exchange(command, 1)
            if answers[-1].code not in GOOD:
                break
        return answers

    async def _take_back(self, answers: Sequence[Answer]) -> None:
        """After a refusal, make ready for another mail."""
        if answers[-1].code != SEND_IT:
            await self._ask(b"RSET\r\n")
        elif len(answers) == len(BEGUN) and answers[1].code not in GOOD:
            # RFC 2920: it waits for the mail though it has nobody to give it to.
            await self._exchange(b".\r\nRSET\r\n", 2)
        else:
            # After MAIL or RCPT; or it has a recipient, without a sender, who would get an empty mail.
            self.close("it asks for a mail that it has not been offered")

    async def _exchange(self, said: bytes, count: int, patience: float = COMMAND_TIMEOUT) -> Sequence[Answer]:
        """Say something, and get `count` answers; fewer, one at least, where the connection is lost meanwhile."""
        if self.lost:
            raise Lost(self.lost)
        loop = asyncio.get_running_loop()
        self._woken, self._expected = loop.create_future(), count
        self._transport.write(said)
        timer = loop.call_later(patience, self.close, f"no answer within {patience:g} s")
        try:
            await self._woken
        except BaseException:
            self.close("left in the middle")
            raise
        finally:
            timer.cancel()
        answers, self._answers, self._expected = self._answers, [], 0
        if not answers:
            raise Lost(self.lost)
        return answers

    def data_received(self, data: bytes) -> None:
        """Answers; an answer that nobody waits for would be taken for that to the next command."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._hear(line)
        if len(self._rest) + sum(map(len, self._lines)) > LONGEST_ANSWER:
            self.close("its answer has no end")
        elif len(self._answers) > self._expected:
            self.close(f"unasked, it said {self._answers[-1]}")
        elif self._answers and len(self._answers) == self._expected:
            self._wake()

    def _hear(self, line: bytes) -> None:
        if self.lost:
            return
        if not line[:3].isdigit():
            self.close("its answer is no SMTP")
            return
        self._lines.append(line[4:].strip())
        if line[3:4] != b"-":
            answer = Answer(int(line[:3]), b" ".join(self._lines).decode(errors="replace"))
            self._answers.append(answer)
            self._lines = []
            if answer.code == CLOSING:
                self.close(str(answer))

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end has closed, or we have."""
        self.close(f"closed: {exc}" if exc else "closed")

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)
