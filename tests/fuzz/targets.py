"""What any bytes are put through: plain functions that raise only where the product is at fault.

The tests feed them from hypothesis, `make fuzz` from a fuzzer that is led by coverage. None of them needs a server.
"""

import contextlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from msgspec.structs import replace

from dev.stripe_events import sign
from ingest import signature
from ingest.app import Refused, is_name, parsed
from ingest.signature import BadSignature
from quittance.broker import QUITTANCE_EVENTS, STRIPE_EVENTS
from quittance.errors import Rejected
from quittance.event import Cause, Event, body_data, from_message
from tests.fuzz.smtp import fuzz_smtp
from workers import WORKERS, accounts, archive, checkouts, commands, customers, documents, quotes
from workers.mail import changes

SECRET: Final = "whsec_fuzz"
NOW: Final = 1_790_000_000.0
SPLIT: Final = b"\x00\x00"  # header before it, body behind it


def fuzz_signature(data: bytes) -> None:
    """A header and a body that are not ours are BadSignature; a good header on any text is good."""
    header, _, body = data.partition(SPLIT)
    for told in (header.decode("latin-1"), header.decode(errors="surrogateescape"), f"t={int(NOW)},{header!r}"):
        try:
            signature.verify(body, signature.check_header([told], NOW), [SECRET])
        except BadSignature:
            continue
        raise AssertionError(f"a forged header was taken: {told!r}")
    try:
        signature.verify(body, signature.check_header([sign(body, SECRET, NOW)], NOW), [SECRET, "whsec_other"])
    except BadSignature as bad:
        assert bad.reason == "body_not_utf8"


def fuzz_envelope(data: bytes) -> None:
    """A signed body is refused with 400, or makes an event that a queue can carry and a table can hold."""
    event = accepted_or_refused(data)
    if event is None:
        return
    assert is_name(event.id) and is_name(event.type) and is_name(event.account)
    for text in (event.id, event.type, event.account):
        assert "\x00" not in text.encode().decode()
    assert replace(from_message(event.headers(), event.type, data), received_at=event.received_at) == event


def fuzz_facts(data: bytes) -> None:
    """Every worker reads the event as each of its types, or raises Rejected."""
    event = accepted_or_refused(data)
    if event is None:
        return
    archive.ids_in(event)
    archive.api_version_in(event.body)
    with contextlib.suppress(Rejected):
        body_data(event.body)
    for name, read in READERS.items():
        bindings = WORKERS[name].QUEUE.bindings
        for kind in (*bindings.get(STRIPE_EVENTS, ()), *bindings.get(QUITTANCE_EVENTS, ())):
            try:
                read(replace(event, type=kind))
            except Rejected:
                continue


def fuzz_own(data: bytes) -> None:
    """What reads messages that are not Stripe's: a change for the mails, a command of the CRM."""
    event = Event(
        id="evt_1", type="quote.payment_status_changed", account="self", livemode=False, created=0, received_at=NOW,
        body=data, cause=Cause("evt_0", "quote.published"), about=data.decode("latin-1"),
    )  # fmt: skip
    for read in (changes.change_of, commands.about_of):
        try:
            read(event)
        except Rejected:
            continue


def accepted_or_refused(body: bytes) -> Event | None:
    """The event that a well signed body is; None where it is refused as it should be."""
    try:
        return parsed(body, NOW, None)
    except Refused as refused:
        assert refused.status == 400
        return None


READERS: Final[Mapping[str, Callable[[Event], object]]] = MappingProxyType(
    {
        "accounts": accounts._facts,
        "checkouts": checkouts._revision,
        "customers": customers._read,
        "documents": lambda event: (documents._named(event), documents._facts(event)),
        "quotes": quotes.read,
    }
)

TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = MappingProxyType(
    {"signature": fuzz_signature, "envelope": fuzz_envelope, "facts": fuzz_facts, "own": fuzz_own, "smtp": fuzz_smtp}
)
