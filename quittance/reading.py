"""Reading only the fields of Stripe's objects that a worker uses.

A whole invoice takes some 50 µs to decode, most of it for lines and taxes that nobody looks at; the fields that the
quotes worker reads take a fifth of that.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from quittance.event import body_data

Read = tuple[dict[str, Any], dict[str, Any]]


class Reader:
    """Reads `data.object` and `data.previous_attributes`, of these fields alone; what an object lacks is absent."""

    def __init__(self, fields: Iterable[str], *, previous: Iterable[str] = (), late: Iterable[str] = ()) -> None:
        """`late` names fields that are decoded only when asked for (`quittance.domain.payload.late`)."""
        found = [(name, Any, msgspec.UNSET) for name in fields] + [(name, msgspec.Raw, msgspec.UNSET) for name in late]
        subject = msgspec.defstruct("Object", found)
        before = msgspec.defstruct("Previous", [(name, Any, msgspec.UNSET) for name in previous])
        data = msgspec.defstruct("Data", [("object", subject), ("previous_attributes", before | None, None)])
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(msgspec.defstruct("Body", [("data", data)]))

    def read(self, body: bytes) -> Read:
        """The fields of the object, and of what it was before. Raises Rejected where there is no object."""
        try:
            data = self._decoder.decode(body).data
        except (ValueError, RecursionError):
            # Something is of another type than Stripe's. The whole object may still say what can be used of it.
            return body_data(body)
        return _present(data.object), {} if data.previous_attributes is None else _present(data.previous_attributes)


def _present(struct: Any) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(struct).items() if value is not msgspec.UNSET}
