"""The workers, by the name of their queue. One module each: a QUEUE and a `handle`; this is where they are listed."""

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Final

from workers import accounts, archive, checkouts, commands, customers, documents, notifications, quotes

WORKERS: Final[Mapping[str, ModuleType]] = MappingProxyType(
    {
        "accounts": accounts,
        "archive": archive,
        "checkouts": checkouts,
        "commands": commands,
        "customers": customers,
        "documents": documents,
        "quotes": quotes,
        "notifications": notifications,
    }
)
