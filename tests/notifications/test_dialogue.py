"""Mails over one connection, line by line: what is sent in one piece, and a server that says what none should say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.polling import eventually
from workers.mail import dialogue
from workers.mail.dialogue import Answer, Dialogue, Lost, Refusal

OFFER = b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n"
MAIL = b"Subject: s\r\n\r\ntext\r\n"


class Server(asyncio.Protocol):
    """Notes each piece that comes, and answers it with the next of `answers`; None: closes."""

    def __init__(self, answers: list[bytes | None]) -> None:
        self.answers = answers
        self.heard: list[bytes] = []
        self.transport: asyncio.Transport | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)
        self.say(self.answers.pop(0) if self.answers else b"")

    def say(self, answer: bytes | None) -> None:
        assert self.transport is not None
        if answer is None:
            self.transport.close()
        else:
            self.transport.write(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()


@asynccontextmanager
async def talking(*answers: bytes | None, pipelining: bool = True) -> AsyncIterator[tuple[Dialogue, Server]]:
    """A connection to a server that gives these answers."""
    loop, server = asyncio.get_running_loop(), Server(list(answers))
    listening = await loop.create_server(lambda: server, "127.0.0.1", 0)
    async with listening:
        transport, _ = await loop.create_connection(asyncio.Protocol, *listening.sockets[0].getsockname())
        one = Dialogue(transport, pipelining=pipelining, utf8=True)
        try:
            yield one, server
        finally:
            one.close("the test is over")
            await server.closed.wait()


async def offer(one: Dialogue) -> Refusal | None:
    return await one.offer("a@x", "b@y")


async def test_a_mail_takes_two_round_trips_where_the_server_offers_pipelining() -> None:
    async with talking(b"250 1\r\n250 2\r\n354 3\r\n", b"250 taken\r\n") as (one, server):
        assert await offer(one) is None
        assert await one.hand_over(MAIL) is None
        assert server.heard == [OFFER, MAIL + b".\r\n"]


async def test_and_otherwise_says_one_thing_at_a_time_and_stops_at_a_refusal() -> None:
    async with talking(b"250 1\r\n", b"550 no\r\n", b"250 reset\r\n", pipelining=False) as (one, server):
        assert await offer(one) == Refusal("RCPT", Answer(550, "no"))
        assert server.heard == [b"MAIL FROM:<a@x>\r\n", b"RCPT TO:<b@y>\r\n", b"RSET\r\n"]
        assert not one.lost


async def test_answers_may_come_in_pieces_and_have_several_lines() -> None:
    async with talking(b"250-one\r\n250 tw") as (one, server):
        asked = asyncio.ensure_future(offer(one))
        await eventually(lambda: server.heard == [OFFER])
        for piece in (b"o\r", b"\n250 ok\r\n55", b"4-no\r\n554 more\r\n"):
            server.say(piece)
            await asyncio.sleep(0)
        await eventually(lambda: server.heard == [OFFER, b"RSET\r\n"])
        server.say(b"250 reset\r\n")
        assert await asked == Refusal("DATA", Answer(554, "no more"))


async def test_a_server_that_waits_for_a_mail_without_recipient_gets_its_end_and_then_the_next_mail() -> None:
    """RFC 2920: DATA was sent before RCPT was refused."""
    refused = b"250 1\r\n550 no such user\r\n354 go on\r\n"
    async with talking(refused, b"554 no recipients\r\n250 reset\r\n", b"250 1\r\n250 2\r\n354 3\r\n") as (one, server):
        assert await offer(one) == Refusal("RCPT", Answer(550, "no such user"))
        assert server.heard == [OFFER, b".\r\nRSET\r\n"]
        assert await offer(one) is None


async def test_what_a_server_says_is_one_line_that_postgres_can_store() -> None:
    async with talking(b"550-5.7.1 \x00no\xff\r\n550 " + b"x" * 999 + b"\r\n", b"250 reset\r\n", pipelining=False) as (
        one,
        _,
    ):
        refusal = await offer(one)
        assert refusal is not None
        said = str(refusal.answer)
        assert said.startswith("550 5.7.1 no� xxx")
        assert len(said) == 300


async def test_no_empty_mail_goes_to_a_recipient_whose_sender_was_refused() -> None:
    async with talking(b"451 1\r\n250 2\r\n354 3\r\n") as (one, server):
        assert await offer(one) == Refusal("MAIL", Answer(451, "1"))
        await server.closed.wait()
        assert server.heard == [OFFER]
        assert one.lost


async def test_no_line_of_a_mail_ends_it_and_none_loses_its_dot() -> None:
    async with talking(b"250 1\r\n250 2\r\n354 3\r\n", b"250 taken\r\n") as (one, server):
        await offer(one)
        await one.hand_over(b"Subject: s\r\n\r\n.\r\n..\r\nMAIL FROM:<evil@x>\r\n")
        assert server.heard[1] == b"Subject: s\r\n\r\n..\r\n...\r\nMAIL FROM:<evil@x>\r\n.\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"250 1\r\n",
        b"hello\r\n",
        b"250 1\r\n\xff\xfe\r\n",
        b"250-" + b"x" * dialogue.LONGEST_ANSWER,
        b"250-two\r\n" * dialogue.LONGEST_ANSWER,
        b"250 1\r\n250 2\r\n354 3\r\n250 4\r\n",
    ],
    ids=[
        "closes",
        "one answer only",
        "no SMTP",
        "half SMTP",
        "a line without end",
        "lines without end",
        "one too many",
    ],
)
async def test_what_is_no_answer_ends_the_connection(answer: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogue.Dialogue._exchange, "__defaults__", (0.2,))
    async with talking(answer) as (one, server):
        for _ in range(2):
            with pytest.raises(Lost):
                await offer(one)
        await server.closed.wait()


async def test_what_a_server_says_unasked_is_not_taken_for_the_answer_to_the_next_mail() -> None:
    async with talking() as (one, server):
        await eventually(lambda: server.transport is not None)
        server.say(b"250 1\r\n250 2\r\n354 3\r\n")
        await server.closed.wait()
        with pytest.raises(Lost, match="unasked"):
            await offer(one)
        assert server.heard == []


async def test_a_mail_that_was_taken_is_taken_whatever_else_is_said() -> None:
    async with talking(b"250 1\r\n250 2\r\n354 3\r\n", b"250 taken\r\n250 twice\r\n") as (one, _):
        await offer(one)
        assert await one.hand_over(MAIL) is None
        assert one.lost


async def test_closing_ends_the_connection_and_is_told() -> None:
    async with talking(b"421 too many\r\n") as (one, _):
        assert await offer(one) == Refusal("MAIL", Answer(421, "too many"))
        assert one.lost == "421 too many"


async def test_who_is_cancelled_in_the_middle_leaves_no_connection_for_the_next() -> None:
    async with talking(b"250 1\r\n250 2\r\n354 3\r\n") as (one, server):
        await offer(one)
        sending = asyncio.ensure_future(one.hand_over(MAIL))
        await eventually(lambda: len(server.heard) == 2)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert one.lost
        await server.closed.wait()


async def test_a_server_that_asks_for_a_mail_before_its_turn_gets_none() -> None:
    """Found by fuzzing: it was an IndexError, and so a fault of ours, tried again for hours."""
    async with talking(b"354 go on\r\n", pipelining=False) as (one, server):
        assert await offer(one) == Refusal("MAIL", Answer(354, "go on"))
        await server.closed.wait()
        assert server.heard == [b"MAIL FROM:<a@x>\r\n"]
