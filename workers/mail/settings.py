"""The mail settings; only the notifications worker reads them."""

from dataclasses import dataclass
from email.headerregistry import Address
from email.utils import parseaddr
from functools import cache
from typing import Self
from urllib.parse import unquote, urlsplit

from quittance.settings import Reader
from workers.mail.addresses import AddressInvalid, single_address

# Submission asks for a login and has a port of its own; without one it is a relay nearby.
SUBMISSION_PORT = 587
RELAY_PORT = 25
TLS_PORT = 465


@dataclass(frozen=True)
class SmtpServer:
    """SMTP_URL in parts. `tls`: at once (smtps://); else STARTTLS where offered (smtp://)."""

    host: str
    port: int
    tls: bool
    user: str
    password: str

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """SMTP_URL, required: smtp:// or smtps://, user and password in it, percent-encoded where need be."""
        url = reader.url("SMTP_URL", ("smtp", "smtps"), required=True)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return cls("", 0, tls=False, user="", password="")  # the reader has named the fault
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if user and not password:
            reader.faults.append("SMTP_URL names a user without a password")
        tls = parts.scheme == "smtps"
        usual = TLS_PORT if tls else SUBMISSION_PORT if user else RELAY_PORT
        return cls(parts.hostname or "", port or usual, tls, user, password)


@dataclass(frozen=True)
class MailSettings:
    """Through which server, and as whom."""

    server: SmtpServer
    sender: Address

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """SMTP_URL and MAIL_FROM (`quotes@example.com` or `Quotes <quotes@example.com>`), both required."""
        server = SmtpServer.read(reader)
        text = reader.text("MAIL_FROM", required=True)
        sender = Address(username="nobody", domain="invalid")
        if text:
            try:
                sender = sender_of(text)
            except AddressInvalid as error:
                reader.faults.append(f"MAIL_FROM is {error}: {text!r}")
        if (default := reader.text("MAIL_TO")) and not is_address(default):
            reader.faults.append(f"MAIL_TO is no single address: {default!r}")
        return cls(server, sender)


@cache
def sender_of(text: str) -> Address:
    """An address, perhaps with a name before it. Raises AddressInvalid."""
    name, address = parseaddr(text) if "<" in text else ("", text)
    return single_address(address, name)


def is_address(text: str) -> bool:
    """Whether `text` is exactly one addr-spec."""
    try:
        single_address(text)
    except AddressInvalid:
        return False
    return True
