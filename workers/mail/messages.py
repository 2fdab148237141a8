"""A letter as the bytes of a mail: headers that nobody's input can add to, and one id however often it is sent.

A header that is short, printable ASCII is written down as it is. All others are encoded and folded by the standard
library's `email`, whose parser takes longer than everything else about a mail: for addresses once each, as sellers get
many. The two bodies are always quoted-printable.
"""

import hashlib
from binascii import b2a_qp
from datetime import datetime
from email.headerregistry import Address
from email.policy import SMTP as WIRE
from email.policy import SMTPUTF8 as WIRE_UTF8
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

import msgspec

from workers.mail.letters import Letter

# What quoted-printable text cannot hold: there, every "=" is followed by two digits, or by the line's end.
BOUNDARY: Final = b"=_quittance"
# Auto-Submitted: RFC 3834, no out-of-office notes in reply.
FRAME: Final = (
    b"Auto-Submitted: auto-generated\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/alternative; boundary="%(boundary)b"\r\n'
    b"\r\n"
    b"--%(boundary)b\r\n"
    b'Content-Type: text/plain; charset="utf-8"\r\n'
    b"Content-Transfer-Encoding: quoted-printable\r\n"
    b"\r\n"
    b"%(text)b\r\n"
    b"--%(boundary)b\r\n"
    b'Content-Type: text/html; charset="utf-8"\r\n'
    b"Content-Transfer-Encoding: quoted-printable\r\n"
    b"\r\n"
    b"%(html)b\r\n"
    b"--%(boundary)b--\r\n"
)


def message_id(about: tuple[str, bool, str, int, str], domain: str) -> str:
    """The id of the mail about (account, livemode, quote id, revision, kind): whoever gets it twice can tell (S5)."""
    return f"<{hashlib.sha256(msgspec.json.encode(about)).hexdigest()[:40]}@{domain}>"


def message_of(letter: Letter, *, sender: Address, recipient: Address, message_id: str, at: datetime) -> bytes:
    """The mail, text and HTML, with lines that end in CRLF; `at` is its date."""
    utf8 = needs_utf8(sender, recipient)
    return b"".join(
        (
            _address("From", sender.display_name, sender.username, sender.domain, utf8),
            _address("To", recipient.display_name, recipient.username, recipient.domain, utf8),
            header("Subject", letter.subject, utf8),
            header("Date", format_datetime(at), utf8),
            header("Message-ID", message_id, utf8),
            FRAME % {b"boundary": BOUNDARY, b"text": _body(letter.text), b"html": _body(letter.html)},
        )
    )


def needs_utf8(sender: Address, recipient: Address) -> bool:
    """Whether an address is beyond ASCII (its domain never is), so that the mail is for servers with SMTPUTF8 alone."""
    return not (sender.username.isascii() and recipient.username.isascii())


def header(name: str, value: str | Address, utf8: bool) -> bytes:
    """One header with its CRLF. Raises ValueError for a value that has a line's end in it."""
    policy = WIRE_UTF8 if utf8 else WIRE
    line = f"{name}: {value}"
    # "=?" would be read as an encoded word.
    if line.isascii() and line.isprintable() and len(line) <= (policy.max_line_length or 0) and "=?" not in line:
        return line.encode() + b"\r\n"
    return policy.fold_binary(*policy.header_store_parse(name, value))


@lru_cache(maxsize=4096)
def _address(name: str, display_name: str, username: str, domain: str, utf8: bool) -> bytes:
    return header(name, Address(display_name, username, domain), utf8)


def _body(text: str) -> bytes:
    """Quoted-printable: lines of 76 characters at most, no end of a line but CRLF."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return b2a_qp(lines.encode()).replace(b"\n", b"\r\n")
