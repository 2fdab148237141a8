"""When a quote expires (R28), and whether its time zone and locale are any of this world's."""

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from babel import Locale, UnknownLocaleError

from quittance.domain.publishing.content import Content
from quittance.domain.publishing.faults import Faults

LATEST: Final = date(2200, 1, 1)  # the calendar's own end has no day after it


def expiry_of(content: Content, faults: Faults) -> datetime | None:
    """When the quote expires; None where it does not, or where a fault is noted: of the time zone, locale or date."""
    if not _is_locale(content.locale):
        faults.add("format", "unknown_locale", "locale is not known.", given=content.locale, allowed="en, sv-SE, …")
    if content.time_zone not in _time_zones():
        allowed = "a name of the IANA time zone database, such as Europe/Stockholm"
        faults.add("format", "unknown_time_zone", "time_zone is not known.", given=content.time_zone, allowed=allowed)
        return None
    if content.expires_on is None:
        return None
    if content.expires_on > LATEST:
        given = content.expires_on.isoformat()
        faults.add("format", "date_too_late", "expires_on is too late.", given=given, allowed=f"<= {LATEST}")
        return None
    return end_of_day(content.expires_on, content.time_zone)


def end_of_day(day: date, time_zone: str) -> datetime:
    """When `day` is over in a time zone. Where clocks are turned at midnight that hour is missing, or there twice: the
    later of its two readings is the end of the day in both cases.
    """
    midnight = datetime.combine(day + timedelta(days=1), time(), ZoneInfo(time_zone))
    return max(midnight.replace(fold=fold).astimezone(UTC) for fold in (0, 1))


def _is_locale(name: str) -> bool:
    try:
        Locale.parse(name.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        return False
    return True


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())
