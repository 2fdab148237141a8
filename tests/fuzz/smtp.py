"""A mail server that says whatever the fuzzer likes, to the dialogue that sends mails."""

import asyncio
from contextlib import suppress
from typing import Final, cast

from workers.mail.dialogue import COMMAND_TIMEOUT, Dialogue, Lost

PAUSE: Final = b"\x00\x00"  # between two pieces that arrive one after the other
MAIL: Final = b"Subject: hello\r\n\r\n.\r\n..two\r\n"
SENT: Final = b"Subject: hello\r\n\r\n..\r\n...two\r\n.\r\n"
BEGINNING: Final = [b"MAIL FROM:<seller@example.com>\r\n", b"RCPT TO:<buyer@example.com>\r\n", b"DATA\r\n"]


class Wire(asyncio.Transport):
    """What the server says comes piece by piece, from the first command on; then it hangs up."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__()
        self.heard: list[bytes] = []
        self._pieces = pieces
        self._protocol: asyncio.Protocol | None = None
        self._open = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.heard.append(bytes(data))
        asyncio.get_running_loop().call_soon(self._say)

    def abort(self) -> None:
        self._open = False

    def _say(self) -> None:
        """The next piece; and more of them, as long as nothing is said in return."""
        if not self._open or self._protocol is None:
            return
        if not self._pieces:
            self._protocol.connection_lost(None)
            return
        said = len(self.heard)
        self._protocol.data_received(self._pieces.pop(0))
        asyncio.get_running_loop().call_later(0, self._say_on, said)

    def _say_on(self, said: int) -> None:
        if len(self.heard) == said:
            self._say()


async def converse(data: bytes) -> None:
    """Three mails: each is refused, or lost, or sent as it is; a mail is sent only where all three commands were taken."""
    flags, *pieces = data.split(PAUSE)
    wire = Wire(pieces)
    one = Dialogue(wire, pipelining=flags != b"0", utf8=True)
    async with asyncio.timeout(COMMAND_TIMEOUT / 2):  # the wire ends by itself: who waits longer waits for nothing
        with suppress(Lost):
            for _ in range(3):
                if await one.offer("seller@example.com", "buyer@example.com") is None:
                    refused = await one.hand_over(MAIL)
                    assert wire.heard[-1] == SENT or refused is not None
        await one.quit()
    assert one.lost
    for number, said in enumerate(wire.heard):
        if said == SENT:
            assert b"".join(wire.heard[:number]).endswith(b"".join(BEGINNING))


def fuzz_smtp(data: bytes) -> None:
    """Whatever a mail server says: a refusal, a lost connection or a mail that is sent, and no other error."""
    asyncio.run(converse(data))


SEEDS: Final = tuple(
    PAUSE.join(pieces)
    for pieces in (
        (b"1", b"250 a\r\n250 b\r\n354 go\r\n", b"250 sent\r\n", b"221 bye\r\n"),
        (b"0", b"250-a\r\n250 b\r\n", b"250 b\r\n", b"354 go\r\n", b"250 sent\r\n", b"421 too many\r\n"),
        (b"1", b"250 a\r\n55", b"0 no\r\n354 go\r\n", b"554 nobody\r\n250 reset\r\n", b"250 a\r\n"),
        (b"1", b"451 a\r\n503 b\r\n503 c\r\n", b"250 reset\r\n", b"250 a\r\n250 b\r\n354 go\r\n", b"452 full\r\n"),
    )
)
