"""The page's own files: style, script, icon. Their addresses change with their content, so browsers may keep them for ever."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

STATIC: Final = Path(__file__).resolve().parents[1] / "static"
TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Asset:
    """A file as it is served under `address`, the last part of its path."""

    address: str
    content_type: str
    body: bytes


@cache
def assets() -> dict[str, Asset]:
    """Every file by its name in web/static/."""
    return {path.name: _asset(path) for path in sorted(STATIC.iterdir()) if path.suffix in TYPES}


@cache
def by_address() -> dict[str, Asset]:
    """Every file by its address."""
    return {asset.address: asset for asset in assets().values()}


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    digest = hashlib.sha256(body).hexdigest()[:12]
    return Asset(f"{path.stem}.{digest}{path.suffix}", TYPES[path.suffix], body)
