"""amqps: the certificate is checked against what the URL names, unless it says otherwise."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from quittance import wire
from quittance.broker import BrokerAway


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for `localhost`, signed by itself, and its key in the same file."""
    path = tmp_path / "localhost.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run(
        [*command.split(), "-keyout", tmp_path / "key", "-out", tmp_path / "cert"], check=True, capture_output=True
    )
    path.write_text((tmp_path / "key").read_text() + (tmp_path / "cert").read_text())
    return path


@pytest.fixture
async def tls_url(amqp_url: str, certificate: Path) -> AsyncIterator[str]:
    """The broker behind something that speaks TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    broker = urlsplit(amqp_url)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(broker.hostname, broker.port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    async with await asyncio.start_server(serve, "localhost", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"amqps://{broker.username}:{broker.password}@localhost:{port}{broker.path}"


async def test_over_tls_it_publishes_and_closes(tls_url: str, certificate: Path) -> None:
    async with wire.connected(f"{tls_url}?cafile={certificate}", "test", confirms=True) as channel:
        await asyncio.gather(*(channel.publish("", "quotes", b"x" * 300_000, {}, "t", 10) for _ in range(20)))
        assert not channel.lost.done()


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls_url: str) -> None:
    with pytest.raises(BrokerAway, match="CERTIFICATE_VERIFY_FAILED"):
        await wire.connect(tls_url, "test", confirms=True)
    async with wire.connected(f"{tls_url}?no_verify_ssl=1", "test", confirms=True) as channel:
        await channel.publish("", "quotes", b"", {}, "t", 10)
