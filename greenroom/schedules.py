"""The dates of a cron's schedule.

A schedule has five fields (minute, hour, day of month, month, day of week), or six: the sixth is
the second. It may have names (``jan``, ``MON-FRI``), ``L`` for the last day of a month, and is
``@daily`` and the like for short. croniter finds the dates; this module says which schedules are
accepted, and what happens when clocks are changed:

    a skipped time      counts as the first moment after the gap
    a doubled time      counts once, the first time; a schedule whose minute or hour begins with
                        ``*`` means an interval, and counts both times
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from croniter import croniter
from croniter.croniter import CroniterBadDateError

from greenroom.core.errors import BadRequest, InvalidRequest

MAX_LENGTH = 1000
"""The most characters of a schedule."""

_RANDOM = re.compile(r"[hr](\(.*|/.*)?", re.IGNORECASE)
"""A field that croniter draws by lot: another date each time it is asked."""
_REASON = (
    "Invalid cron schedule. Ensure the schedule uses the standard cron format (minute hour "
    "day_of_month month day_of_week). Example: '*/5 * * * *' for every 5 minutes."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """A valid schedule; `schedule_of` makes it.

    Attributes:
        fields: the schedule's text.
        zone: the time zone in which the fields are read.
        is_interval: a doubled time counts both times.
    """

    fields: str
    zone: tzinfo
    is_interval: bool

    def next_after(self, moment: datetime) -> datetime:
        """Returns the first date later than a moment, in UTC.

        Raises:
            BadRequest: no date follows within fifty years.
        """
        try:
            return next(self._after(moment))
        except CroniterBadDateError:
            raise BadRequest(
                f"failed to find next date: the schedule {self.fields[:80]!r} is never due."
            ) from None

    def count(self, after: datetime, until: datetime, *, most: int) -> int:
        """Returns the number of dates later than ``after`` and not later than ``until``; no more
        than ``most`` are counted."""
        number = 0
        try:
            for date in self._after(after):
                if date > until or number == most:
                    break
                number += 1
        except CroniterBadDateError:
            pass  # there are no more
        return number

    def _after(self, moment: datetime) -> Iterator[datetime]:
        dates = croniter(self.fields, moment.astimezone(self.zone))
        while True:
            date = dates.get_next(datetime).astimezone(UTC)
            if self.is_interval or not date.astimezone(self.zone).fold:
                yield date


def schedule_of(schedule: str, timezone: str | None) -> Schedule:
    """Checks a schedule and its time zone.

    Args:
        schedule: as clients write it.
        timezone: an IANA name; None is UTC.

    Raises:
        InvalidRequest: one of the two is not valid, in the reference server's words.
    """
    zone = _zone(timezone)
    parts = schedule.split()
    if len(schedule) > MAX_LENGTH or any(_RANDOM.fullmatch(part) for part in parts):
        raise _invalid(schedule)
    try:
        expressions = croniter(schedule).expressions
    except (ValueError, LookupError, TypeError, AttributeError):
        # croniter's own errors are ValueErrors; it stumbles over some fields otherwise.
        raise _invalid(schedule) from None
    if len(expressions) not in (5, 6):
        raise _invalid(schedule)
    is_interval = any(part.startswith(("*", "?")) for part in expressions[:2])
    return Schedule(fields=schedule, zone=zone, is_interval=is_interval)


def _zone(timezone: str | None) -> tzinfo:
    if timezone is None:
        return UTC
    try:
        return ZoneInfo(timezone)
    except (ValueError, LookupError, OSError):
        raise InvalidRequest(
            f"Invalid timezone: '{timezone[:80]}'. Use IANA timezone format (e.g. "
            "'America/New_York')."
        ) from None


def _invalid(schedule: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid cron schedule: '{schedule[:80]}'. Reason: {_REASON}")
