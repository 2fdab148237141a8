"""The bytes of a mail: what the standard library would have written, header by header, and nothing that ends a line early."""

import re
from datetime import UTC, datetime
from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.mail.addresses import one_line, single_address
from workers.mail.letters import Letter, wrapped
from workers.mail.messages import BOUNDARY, header, message_of

AT = datetime(2023, 1, 20, tzinfo=UTC)
SENDER = single_address("quotes@seller.example", "Quotes & Co")
BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
HEADERS = ("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted")


def mail(subject: str, text: str, html: str, recipient: Address) -> bytes:
    letter = Letter(subject, text, html)
    return message_of(letter, sender=SENDER, recipient=recipient, message_id="<1@seller.example>", at=AT)


@given(st.text(max_size=120), st.text(max_size=120), st.text(max_size=300), st.sampled_from(["anna", "jörg"]))
@example("=?utf-8?q?=0D=0ABcc:_a=40b?=", "=?utf-8?q?x?=", "=_quittance", "anna")
@example("x" * 90, '"Anna", Berg; <a@b>', "--=_quittance--\r\n", "anna")
@example("Größe", "Åsa", ".\r\n.\n.\r.", "jörg")
def test_it_reads_as_what_the_standard_library_writes(subject: str, name: str, text: str, user: str) -> None:
    subject, recipient = one_line(subject), single_address(f"{user}@example.com", name)
    text = text.replace("\x00", "") + "\n"
    wire = mail(subject, text, f"<p>{text}</p>\n", recipient)

    theirs = EmailMessage(policy=SMTP)
    theirs["To"] = recipient
    theirs["Subject"] = subject
    policy = SMTPUTF8 if user == "jörg" else SMTP
    expected = message_from_bytes(theirs.as_bytes(policy=policy), policy=SMTPUTF8)
    ours = message_from_bytes(wire, policy=SMTPUTF8)
    assert (ours["To"], ours["Subject"]) == (expected["To"], expected["Subject"])
    assert [part.get_content_type() for part in ours.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    plain, html = ours.iter_parts()
    assert plain.get_content().replace("\r\n", "\n") == lines
    assert html.get_content().replace("\r\n", "\n") == f"<p>{lines}</p>\n"
    assert not ours.defects


@given(st.text(max_size=300), st.text(max_size=300))
@example("\r.\r", "\n.\n")
@example("x" * 300, "no line's end")
def test_nothing_ends_a_line_but_crlf_and_no_line_is_too_long(text: str, html: str) -> None:
    wire = mail("s", text, html, SENDER)
    assert BARE.search(wire) is None
    assert b"\x00" not in wire
    assert max(map(len, wire.split(b"\r\n"))) <= 78
    assert wire.endswith(b"\r\n")
    assert wire.count(b"\r\n--" + BOUNDARY) == 3


@pytest.mark.parametrize("name", ["To", "Subject"])
@pytest.mark.parametrize("utf8", [True, False])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_a_header_with_a_lines_end_in_it_is_refused(name: str, utf8: bool, end: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)linefeed|carriage|newline"):
        header(name, f"a{end}Bcc: b@c", utf8)


def test_a_paragraph_is_wrapped_at_spaces_alone() -> None:
    amount, long = "1\u00a0234,56\u00a0kr", "x" * 80
    words = ["word"] * 13 + [amount, long, "end"]
    assert wrapped(" ".join(words)).split("\n") == [" ".join(["word"] * 13), amount, long, "end"]
    assert wrapped("") == ""
