"""What was refused: all of it counted, some of it logged. Anybody may send us rubbish; it must not fill a disk."""

import logging
import time
from typing import Final

import structlog
from aiohttp.http_exceptions import HttpProcessingError

from ingest.metrics import REFUSED

LOG_EVERY: Final = 1.0  # seconds between two lines of one reason

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Refusals:
    """Counts each refusal; logs the first of a reason within a second, and how many were left out since."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def record(self, reason: str, status: int, *, event_id: str | None, remote: str | None) -> None:
        """One refused request; `event_id` only where the signature was good."""
        REFUSED.labels(reason).inc()
        now = time.monotonic()
        if now - self._last.get(reason, -LOG_EVERY) < LOG_EVERY:
            self._left_out[reason] = self._left_out.get(reason, 0) + 1
            return
        self._last[reason] = now
        named = {} if event_id is None else {"event_id": event_id}
        log.warning(
            "webhook.refused",
            reason=reason,
            status=status,
            remote=remote,
            left_out=self._left_out.pop(reason, 0),
            **named,
        )


def http_logger() -> logging.Logger:
    """aiohttp's log of what went wrong, without a traceback for everyone who does not speak HTTP: those are counted."""
    logger = logging.getLogger("ingest.http")
    if not logger.filters:
        logger.addFilter(_count_malformed)
    return logger


def _count_malformed(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        REFUSED.labels("malformed_http").inc()
        return False
    return True
