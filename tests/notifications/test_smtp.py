"""The SMTP side against a server that behaves and misbehaves: what each answer means, TLS, login, reuse."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from quittance.settings import Reader
from tests.fakes.smtp import PASSWORD, USER, Mode, fake_smtp, make_certificate
from workers.mail import smtp
from workers.mail.addresses import single_address
from workers.mail.letters import Letter
from workers.mail.messages import message_of
from workers.mail.settings import SmtpServer
from workers.mail.smtp import Mailer, NotEver, NotNow, ServerAway

SENDER = single_address("quotes@example.com", "Quotes")
LOGIN = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}@"


def server_at(url: str) -> SmtpServer:
    reader = Reader({"SMTP_URL": url})
    server = SmtpServer.read(reader)
    reader.check()
    return server


async def send(mailer: Mailer, to: str = "owner@example.com", number: int = 1) -> None:
    recipient = single_address(to, "Ann Öwner")
    letter = Letter(f"Quote {number}", "text\n", "<p>html</p>\n")
    at = datetime(2023, 1, 20, tzinfo=UTC)
    message = message_of(letter, sender=SENDER, recipient=recipient, message_id=f"<{number}@x>", at=at)
    await mailer.send(SENDER, recipient, message)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.mark.parametrize("pipelining", [True, False])
async def test_a_mail_arrives_as_it_was_sent(pipelining: bool) -> None:
    async with fake_smtp(pipelining=pipelining) as fake:
        mailer = Mailer(server_at(fake.url()))
        await send(mailer)
        await mailer.close()
        [mail] = fake.received
    assert (mail.sender, mail.recipients) == ("quotes@example.com", ["owner@example.com"])
    assert mail.message["To"] == "Ann Öwner <owner@example.com>"
    assert mail.message["Message-ID"] == "<1@x>"
    assert (mail.part("plain"), mail.part("html")) == ("text\n", "<p>html</p>\n")


async def test_many_mails_share_a_few_connections_and_are_sent_side_by_side() -> None:
    async with fake_smtp() as fake:
        fake.mode, fake.delay = "slow", 0.01
        mailer = Mailer(server_at(fake.url()))
        await asyncio.gather(*(send(mailer, number=number) for number in range(40)))
        await mailer.close()
    assert {mail.message["Message-ID"] for mail in fake.received} == {f"<{number}@x>" for number in range(40)}
    assert fake.connections == fake.most_at_once == smtp.CONNECTIONS


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    ("mode", "error", "taken"),
    [
        ("rcpt_451", NotNow, 0),
        ("rcpt_550", NotEver, 0),
        ("mail_451", ServerAway, 0),
        ("data_451", NotNow, 0),
        ("data_554", NotEver, 0),
        ("drop", NotNow, 1),
    ],
)
async def test_each_refusal_means_one_thing_and_the_next_mail_goes_through(
    mode: Mode, error: type[Exception], taken: int, pipelining: bool
) -> None:
    async with fake_smtp(pipelining=pipelining) as fake:
        mailer = Mailer(server_at(fake.url()))
        await send(mailer, number=1)
        fake.script = [mode]
        with pytest.raises(error):
            await send(mailer, number=2)
        await send(mailer, number=3)
        await mailer.close()
    assert [mail.message["Message-ID"] for mail in fake.received] == ["<1@x>", *["<2@x>"] * taken, "<3@x>"]
    # A refused mail costs no connection.
    assert fake.connections == 1 + (mode == "drop")


@pytest.mark.parametrize("pipelining", [True, False])
async def test_a_server_that_is_tired_of_a_connection_gets_the_mail_on_another(pipelining: bool) -> None:
    """Some close after so many mails: that is no reason to leave the server alone."""
    async with fake_smtp(pipelining=pipelining) as fake:
        mailer = Mailer(server_at(fake.url()))
        await send(mailer, number=1)
        fake.script = ["busy_421"]
        await send(mailer, number=2)
        assert (len(fake.received), fake.connections) == (2, 2)
        fake.script = ["busy_421", "busy_421"]
        with pytest.raises(ServerAway):
            await send(mailer, number=3)
        await send(mailer, number=4)
        await mailer.close()
    assert [mail.message["Message-ID"] for mail in fake.received] == ["<1@x>", "<2@x>", "<4@x>"]


async def test_a_server_that_is_not_there_is_away() -> None:
    async with fake_smtp() as fake:
        mailer = Mailer(server_at(fake.url()))
    with pytest.raises(ServerAway):
        await send(mailer)


async def test_a_server_that_closed_an_idle_connection_costs_nothing() -> None:
    async with fake_smtp() as fake:
        mailer = Mailer(server_at(fake.url()))
        await send(mailer, number=1)
        mailer._idle[0][0]._transport.abort()
        await asyncio.sleep(0)
        await send(mailer, number=2)
        await mailer.close()
    assert len(fake.received) == fake.connections == 2


async def test_a_slow_server_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "WHOLE_TIMEOUT", 0.2)
    async with fake_smtp() as fake:
        fake.mode, fake.delay = "slow", 5
        mailer = Mailer(server_at(fake.url()))
        with pytest.raises(NotNow, match="perhaps taken"):
            await send(mailer)


async def test_a_silent_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "WHOLE_TIMEOUT", 0.2)
    left = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with silent:
        mailer = Mailer(server_at(f"smtp://127.0.0.1:{silent.sockets[0].getsockname()[1]}"))
        with pytest.raises(ServerAway):
            await send(mailer)
        await left.wait()


async def test_starttls_is_used_where_it_is_offered(certificate: Path) -> None:
    async with fake_smtp(certificate=certificate, login=True) as fake:
        mailer = Mailer(server_at(fake.url(login=LOGIN)))
        await send(mailer)
        await mailer.close()
        [mail] = fake.received
    assert (mail.encrypted, mail.user) == (True, USER)


async def test_tls_at_once_checks_the_certificate(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_smtp(certificate=certificate, implicit_tls=True, login=True) as fake:
        mailer = Mailer(server_at(fake.url(tls=True, login=LOGIN)))
        with pytest.raises(ServerAway, match=r"(?i)certificate"):
            await send(mailer)
        # As an SRE does whose mail server has a certificate of the company's own.
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.parent / "certificate.pem"))
        await send(mailer)
        await mailer.close()
        [mail] = fake.received
    assert mail.user == USER


async def test_a_wrong_password_makes_mails_wait_and_not_die() -> None:
    async with fake_smtp(login=True) as fake:
        mailer = Mailer(server_at(fake.url(login="quotes%40example.com:wrong@")))
        with pytest.raises(ServerAway, match="535"):
            await send(mailer)
    assert not fake.received


async def test_no_password_is_sent_in_the_clear_over_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "is_loopback", lambda host: False)
    async with fake_smtp(login=True) as fake:
        mailer = Mailer(server_at(fake.url(login=LOGIN)))
        with pytest.raises(ServerAway, match="in the clear"):
            await send(mailer)


async def test_an_address_beyond_ascii_goes_to_a_server_that_takes_it() -> None:
    async with fake_smtp() as fake:
        mailer = Mailer(server_at(fake.url()))
        await send(mailer, to="jörg@bücher.example")
        await mailer.close()
        [mail] = fake.received
    assert mail.recipients == ["jörg@xn--bcher-kva.example"]


def test_the_address_of_the_server_is_read_in_parts() -> None:
    assert server_at("smtps://a%40b:c%2Fd@mail.example").port == 465
    assert server_at("smtps://a%40b:c%2Fd@mail.example").user == "a@b"
    assert server_at("smtps://a%40b:c%2Fd@mail.example").password == "c/d"
    assert server_at("smtp://mail.example").port == 25
    assert server_at("smtp://a:b@mail.example").port == 587
    assert server_at("smtp://mail.example:2525").port == 2525
