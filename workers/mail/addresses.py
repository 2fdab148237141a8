"""Addresses and texts that are about to stand in a mail's header, where one line too many is a header of its own."""

import re
import unicodedata
from email.headerregistry import Address
from typing import Final

# RFC 5321 path limits; a dot-atom only: quoted local parts, comments and address literals are nobody's work address.
LONGEST_ADDRESS: Final = 254
LONGEST_LOCAL_PART: Final = 64
ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
LOCAL_PART: Final = re.compile(rf"{ATOM}(?:\.{ATOM})*")
LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")

LONGEST_NAME: Final = 100


class AddressInvalid(ValueError):
    """What should be one addr-spec is something else."""


def single_address(value: str, name: str | None = None) -> Address:
    """`value` as exactly one addr-spec, its domain in ASCII; raises AddressInvalid where it is anything else.

    The standard library reads "a@x, b@y" as two recipients and lets NUL through, so it is not asked.
    """
    value = value.strip()
    local_part, at, domain = value.rpartition("@")
    if not at or len(value.encode()) > LONGEST_ADDRESS or len(local_part.encode()) > LONGEST_LOCAL_PART:
        raise AddressInvalid("no single address")
    if not LOCAL_PART.fullmatch(local_part) or one_line(local_part) != local_part:
        raise AddressInvalid("no single address")
    return Address(display_name=one_line(name or "", LONGEST_NAME), username=local_part, domain=_ascii_domain(domain))


def one_line(value: str, longest: int = 200) -> str:
    """Text from outside as one line: no control or direction-changing characters, single spaces, bounded."""
    kept = " ".join((value if value.isprintable() else _printable(value)).split())
    return kept if len(kept) <= longest else kept[: longest - 1].rstrip() + "…"


def _printable(value: str) -> str:
    kept = "".join(" " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character for character in value)
    return "".join(character for character in kept if unicodedata.category(character) not in ("Cf", "Cs", "Co", "Cn"))


def _ascii_domain(domain: str) -> str:
    try:
        ascii_domain = (domain if domain.isascii() else domain.encode("idna").decode("ascii")).lower()
    except UnicodeError as error:
        raise AddressInvalid("no domain after the @") from error
    if not all(LABEL.fullmatch(label) for label in ascii_domain.split(".")):
        raise AddressInvalid("no domain after the @")
    return ascii_domain
