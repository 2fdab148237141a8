"""Addresses and texts on their way into a header: exactly one addr-spec, exactly one line."""

from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import SMTPUTF8

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quittance.settings import Reader
from workers.mail.addresses import AddressInvalid, one_line, single_address
from workers.mail.letters import Letter
from workers.mail.messages import message_of
from workers.mail.settings import MailSettings

GOOD = {
    "a@x.com": "a@x.com",
    " o'brien+tag@sub.example.co ": "o'brien+tag@sub.example.co",
    "a@localhost": "a@localhost",
}
BAD = [
    "", "a", "@x.com", "a@", "a@b@c", "a@x, b@y", "a@x;b@y", "a@x b@y", "<a@x.com>", "Ann <a@x.com>", "a@x.com\r\nBcc: b@y",
    "a\x00@x.com", "a@x\x00.com", '"a b"@x.com', "a@[127.0.0.1]", "a(c)@x.com", ".a@x.com", "a..b@x.com", "a@-x.com",
    "a@x..com", "a@x_y.com", "a\u202e@x.com", "a\u00a0b@x.com", "a@" + "x" * 64 + ".com", "a" * 65 + "@x.com",
    "a@" + ".".join(["x" * 60] * 5),
]  # fmt: skip


@pytest.mark.parametrize("given_address", sorted(GOOD))
def test_a_single_address_is_taken(given_address: str) -> None:
    assert single_address(given_address).addr_spec == GOOD[given_address]


def test_a_domain_beyond_ascii_is_written_in_ascii() -> None:
    assert single_address("info@bücher.example").addr_spec == "info@xn--bcher-kva.example"


@pytest.mark.parametrize("given_address", BAD)
def test_anything_else_is_refused(given_address: str) -> None:
    with pytest.raises(AddressInvalid):
        single_address(given_address)


@given(st.text(max_size=40), st.text(max_size=20), st.text(max_size=40))
def test_whatever_is_taken_makes_one_recipient_and_adds_no_header(address: str, name: str, subject: str) -> None:
    try:
        recipient = single_address(address + "@example.com", name)
    except AddressInvalid:
        return
    letter = Letter(" ".join(one_line(subject).split()), "text\n", "html\n")
    at = datetime(2023, 1, 20, tzinfo=UTC)
    sender = single_address("quotes@example.com")
    message = message_of(letter, sender=sender, recipient=recipient, message_id="<1@x>", at=at)
    assert len(message_from_bytes(message, policy=SMTPUTF8)["To"].addresses) == 1
    head = message.split(b"\r\n\r\n", 1)[0].replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
    assert sorted(line.split(b":")[0] for line in head.split(b"\r\n")) == [
        b"Auto-Submitted", b"Content-Type", b"Date", b"From", b"MIME-Version", b"Message-ID", b"Subject", b"To",
    ]  # fmt: skip


def test_all_that_is_wrong_with_the_mail_settings_is_said_at_once() -> None:
    reader = Reader({"SMTP_URL": "http://x", "MAIL_FROM": "a@b, c@d", "MAIL_TO": "nobody"})
    MailSettings.read(reader)
    assert [fault.split()[0] for fault in reader.faults] == ["SMTP_URL", "MAIL_FROM", "MAIL_TO"]
    empty = Reader({})
    MailSettings.read(empty)
    assert empty.faults == ["SMTP_URL is not set", "MAIL_FROM is not set"]


def test_a_sender_may_have_a_name() -> None:
    reader = Reader({"SMTP_URL": "smtp://x", "MAIL_FROM": "Quotes & Co <quotes@x.com>"})
    assert str(MailSettings.read(reader).sender) == "Quotes & Co <quotes@x.com>"
    reader.check()
