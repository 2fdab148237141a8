"""A mail server that delivers nothing: it keeps what it is given, for the demo to check and for people to read."""

import asyncio
import html
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as policy
from pathlib import Path
from typing import Any

from aiohttp import web
from aiosmtpd.smtp import SMTP


@dataclass(frozen=True)
class Mail:
    """One mail as it was handed in."""

    recipients: tuple[str, ...]
    subject: str
    message_id: str
    text: str
    received_at: float
    raw: bytes


@dataclass
class Mailbox:
    """Everything that was handed in since the start; kept as files too where there is a folder."""

    folder: Path | None = None
    mails: list[Mail] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """The SMTP_URL to send to."""
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep the mail; aiosmtpd calls this when one is complete."""
        raw = bytes(envelope.content)
        message = message_from_bytes(raw, EmailMessage, policy=policy)
        part = message.get_body(preferencelist=("plain",))
        mail = Mail(
            recipients=tuple(envelope.rcpt_tos),
            subject=str(message["Subject"] or ""),
            message_id=str(message["Message-ID"] or "").strip(),
            text="" if part is None else str(part.get_content()),
            received_at=time.time(),
            raw=raw,
        )
        if self.folder is not None:
            name = f"{time.strftime('%Y%m%d-%H%M%S')}-{len(self.mails):04}.eml"
            await asyncio.to_thread((self.folder / name).write_bytes, raw)
        self.mails.append(mail)
        return "250 OK"


@asynccontextmanager
async def mailbox(folder: Path | None = None) -> AsyncIterator[Mailbox]:
    """A mailbox that listens on a free port of this machine until the block ends."""
    box = Mailbox(folder)
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(box, enable_SMTPUTF8=True), "127.0.0.1", 0)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
        await server.wait_closed()


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>Mails</title>
<style>body{{font:15px/1.5 system-ui;margin:2rem auto;max-width:50rem}}pre{{white-space:pre-wrap;background:#f5f5f5;
padding:1rem}}summary{{cursor:pointer}}</style></head><body><h1>Mails ({number})</h1>{mails}</body></html>"""

MAIL = "<details><summary><b>{subject}</b> to {recipients}, {at}</summary><pre>{text}</pre></details>"


@asynccontextmanager
async def mail_page(box: Mailbox) -> AsyncIterator[str]:
    """A page that shows the mails, newest first; its address."""

    async def show(_: web.Request) -> web.Response:
        listed = "".join(
            MAIL.format(
                subject=html.escape(mail.subject),
                recipients=html.escape(", ".join(mail.recipients)),
                at=time.strftime("%H:%M:%S", time.localtime(mail.received_at)),
                text=html.escape(mail.text),
            )
            for mail in reversed(box.mails)
        )
        text = PAGE.format(number=len(box.mails), mails=listed or "<p>None yet.</p>")
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", show)
    async with serving(app) as url:
        yield f"{url}/"


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve `app` on a free port of this machine; its address without a slash at the end."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
