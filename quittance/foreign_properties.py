"""What others write into a message's properties may not end the connection that reads them.

pamqp raises on a short string that is no UTF-8, on a time beyond the year 9999 (a producer that counts in microseconds)
and on a table that it cannot read; aiormq then ends the connection. The message would come again, end the next one, and
nobody's messages would get past it. So what cannot be read is replaced here, and refused further in, like any other
message that is not as it should be.
"""

import struct
from datetime import UTC, datetime
from typing import Final

from pamqp import common, decode

# What a table that cannot be read is replaced by; none of ours has such a header.
UNREADABLE: Final = "unreadable"

NO_TIME: Final = datetime.fromtimestamp(0, UTC)

_table = decode.METHODS["table"]
_timestamp = decode.METHODS["timestamp"]


def tolerate() -> None:
    """Replace the decoders of this process."""
    decode.METHODS["shortstr"] = short_string
    decode.METHODS["timestamp"] = timestamp
    decode.METHODS["table"] = table


def short_string(value: bytes) -> tuple[int, str]:
    """As pamqp's; what is no UTF-8 becomes U+FFFD."""
    if not value:
        raise ValueError("a short string without a length")
    length = value[0] + 1
    return length, value[1:length].decode(errors="replace")


def timestamp(value: bytes) -> tuple[int, common.FieldValue]:
    """As pamqp's; an absurd time becomes 1970."""
    try:
        return _timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, NO_TIME


def table(value: bytes) -> tuple[int, common.FieldValue]:
    """As pamqp's; one that holds what cannot be read is passed over as a whole."""
    try:
        return _table(value)
    except (ValueError, OverflowError, OSError, RecursionError):
        (length,) = struct.unpack(">I", value[:4])
        return 4 + length, {UNREADABLE: True}
