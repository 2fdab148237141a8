"""A letter as a mail: headers that nobody's input can add to, and one id however often it is sent."""

import hashlib
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from email.utils import format_datetime

import msgspec

from workers.mail.letters import Letter


def message_id(about: tuple[str, bool, str, int, str], domain: str) -> str:
    """The id of the mail about (account, livemode, quote id, revision, kind): whoever gets it twice can tell (S5)."""
    return f"<{hashlib.sha256(msgspec.json.encode(about)).hexdigest()[:40]}@{domain}>"


def message_of(letter: Letter, *, sender: Address, recipient: Address, message_id: str, at: datetime) -> EmailMessage:
    """The mail, text and HTML; `at` is its date."""
    message = EmailMessage(policy=WIRE)
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(at)
    message["Message-ID"] = message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office notes in reply
    message.set_content(letter.text, cte="quoted-printable")
    message.add_alternative(letter.html, subtype="html", cte="quoted-printable")
    return message
