"""What the workers' processes read from the environment."""

import re
from dataclasses import dataclass
from typing import Final, Self

from quittance.settings import LogSettings, Reader

# After the first, second, … failure of an event (seconds); after one more it is dead.
RETRY_SCHEDULE: Final = (5.0, 30.0, 300.0, 1800.0, 7200.0, 21600.0)
# Seconds. No step of a loop lasts that long: a statement is given 10 s, an answer of Postgres 15, an attempt on the outside
# world 28 with its settling; a batch that fails is run again one by one, each a step of its own.
STUCK_AFTER: Final = 120


@dataclass(frozen=True)
class WorkerSettings:
    """RETRY_SCHEDULE is there for tests and drills: a comma-separated list of seconds."""

    logs: LogSettings
    database_url: str
    amqp_url: str
    metrics_host: str
    metrics_port: int
    events_retention_days: int
    retry_schedule: tuple[float, ...]
    stuck_after: float

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """DATABASE_URL, AMQP_URL, METRICS_HOST (127.0.0.1), METRICS_PORT (0: any free), EVENTS_RETENTION_DAYS (0: for
        ever), RETRY_SCHEDULE, STUCK_AFTER (120 seconds), and those of the logs.
        """
        return cls(
            logs=LogSettings.read(reader),
            database_url=reader.database_url(),
            amqp_url=reader.amqp_url(),
            metrics_host=reader.text("METRICS_HOST", "127.0.0.1"),
            metrics_port=reader.number("METRICS_PORT", 0, 0, 65_535),
            events_retention_days=reader.number("EVENTS_RETENTION_DAYS", 0, 0, 36_500),
            retry_schedule=_schedule(reader),
            stuck_after=reader.number("STUCK_AFTER", STUCK_AFTER, 1, 86_400),
        )


def _schedule(reader: Reader) -> tuple[float, ...]:
    text = reader.text("RETRY_SCHEDULE")
    if not text:
        return RETRY_SCHEDULE
    if not re.fullmatch(r"\d{1,7}(\.\d{1,3})?(,\d{1,7}(\.\d{1,3})?)*", text):
        reader.faults.append(f"RETRY_SCHEDULE must be seconds separated by commas, not {text!r}")
        return RETRY_SCHEDULE
    return tuple(float(pause) for pause in text.split(","))
