"""Dates of crons: which schedules are accepted, and what is due when clocks are changed."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.core.errors import BadRequest, InvalidRequest
from greenroom.schedules import MAX_LENGTH, schedule_of

START = datetime(2026, 11, 29, 10, 0, 0, 500_000, tzinfo=UTC)
"""A Sunday."""
NEW_YORK = "America/New_York"


def dates(
    schedule: str, number: int = 3, *, timezone: str | None = None, after: datetime = START
) -> list[str]:
    """Dates in UTC, one after the other, as ``month-day hour:minute:second``."""
    parsed = schedule_of(schedule, timezone)
    found: list[str] = []
    for _ in range(number):
        after = parsed.next_after(after)
        assert after.tzinfo is UTC
        found.append(f"{after:%m-%d %H:%M:%S}")
    return found


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        ("* * * * *", ["11-29 10:01:00", "11-29 10:02:00", "11-29 10:03:00"]),
        ("*/20 10 * * *", ["11-29 10:20:00", "11-29 10:40:00", "11-30 10:00:00"]),
        ("  0   0  * * * ", ["11-30 00:00:00", "12-01 00:00:00", "12-02 00:00:00"]),
        ("@daily", ["11-30 00:00:00", "12-01 00:00:00", "12-02 00:00:00"]),
        ("0 9 * jan MON-FRI", ["01-01 09:00:00", "01-04 09:00:00", "01-05 09:00:00"]),
        ("0 0 * * 7", ["12-06 00:00:00", "12-13 00:00:00", "12-20 00:00:00"]),
        ("0 0 L * *", ["11-30 00:00:00", "12-31 00:00:00", "01-31 00:00:00"]),
        ("0 0 29 2 *", ["02-29 00:00:00", "02-29 00:00:00", "02-29 00:00:00"]),
        ("0 0 * * fri#2", ["12-11 00:00:00", "01-08 00:00:00", "02-12 00:00:00"]),
    ],
)
def test_five_fields_names_and_aliases(schedule: str, due: list[str]) -> None:
    assert dates(schedule) == due


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        ("* * * * * *", ["11-29 10:00:01", "11-29 10:00:02", "11-29 10:00:03"]),
        ("* * * * * 30", ["11-29 10:00:30", "11-29 10:01:30", "11-29 10:02:30"]),
        ("*/30 * * * * *", ["11-29 10:00:01", "11-29 10:00:02", "11-29 10:00:03"]),
        ("*/30 * * * * 0", ["11-29 10:30:00", "11-29 11:00:00", "11-29 11:30:00"]),
    ],
)
def test_the_sixth_field_is_the_second(schedule: str, due: list[str]) -> None:
    assert dates(schedule) == due


@pytest.mark.parametrize(
    "schedule",
    [
        *("", "bogus", "* * * *", "61 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *"),
        *("@reboot", "* * * * * 60", "* * * * * 0 2030", "*/0 * * * *", "0 0 * * mon#6"),
        *("H * * * *", "H(0-29) * * * *", "r * * * *", "R(1-5)/2 * * * *"),
        "1" * 5000 + " * * * *",
        ",".join(["*"] * MAX_LENGTH) + " * * * *",
    ],
)
def test_what_is_no_schedule_is_refused_in_the_words_of_the_reference(schedule: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        schedule_of(schedule, None)
    message = str(refused.value)
    assert message.startswith("Invalid cron schedule: '")
    assert "for every 5 minutes." in message
    assert len(message) < 400


@given(st.text(alphabet="0123456789*/,-#?LWHR@ adeijmnorsuy()", max_size=30))
def test_any_text_is_a_schedule_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidRequest, BadRequest):
        schedule_of(text, None).next_after(START)


@pytest.mark.parametrize("schedule", ["0 0 31 2 *", "0 0 30 feb *"])
def test_a_schedule_that_is_never_due_says_so(schedule: str) -> None:
    with pytest.raises(BadRequest, match="failed to find next date"):
        schedule_of(schedule, None).next_after(START)


@pytest.mark.parametrize("timezone", ["", "bogus/zone", "../etc/passwd", "/etc/localtime", "a\0b"])
def test_what_is_no_time_zone_is_refused(timezone: str) -> None:
    with pytest.raises(InvalidRequest, match="Use IANA timezone format"):
        schedule_of("* * * * *", timezone)


def test_a_schedule_is_read_in_its_time_zone() -> None:
    assert dates("30 2 * * *", 1, timezone="Europe/Paris") == ["11-30 01:30:00"]
    assert dates("30 2 * * *", 1, timezone="EST") == ["11-30 07:30:00"]


# New York, 2026: on 8 March 2:00 becomes 3:00 (7:00 UTC), on 1 November 2:00 becomes 1:00 (6:00).

SPRING = datetime(2026, 3, 8, 5, 0, tzinfo=UTC)
AUTUMN = datetime(2026, 11, 1, 4, 0, tzinfo=UTC)


def test_a_skipped_time_counts_as_the_end_of_the_gap() -> None:
    due = dates("30 2 * * *", timezone=NEW_YORK, after=SPRING)
    assert due == ["03-08 07:00:00", "03-09 06:30:00", "03-10 06:30:00"]
    assert dates("*/15 2 * * *", 2, timezone=NEW_YORK, after=SPRING) == [
        "03-08 07:00:00",
        "03-09 06:00:00",
    ]


def test_an_interval_goes_on_over_the_gap() -> None:
    due = dates("*/30 * * * *", 5, timezone=NEW_YORK, after=SPRING)
    assert due == [f"03-08 {time}:00" for time in ("05:30", "06:00", "06:30", "07:00", "07:30")]


def test_a_doubled_time_counts_once() -> None:
    due = dates("30 1 * * *", timezone=NEW_YORK, after=AUTUMN)
    assert due == ["11-01 05:30:00", "11-02 06:30:00", "11-03 06:30:00"]
    between = datetime(2026, 11, 1, 5, 45, tzinfo=UTC)
    assert dates("30 1 * * *", 1, timezone=NEW_YORK, after=between) == ["11-02 06:30:00"]
    assert dates("@daily", 2, timezone=NEW_YORK, after=AUTUMN) == [
        "11-02 05:00:00",
        "11-03 05:00:00",
    ]


@pytest.mark.parametrize("schedule", ["0 * * * *", "@hourly"])
def test_an_interval_counts_both_of_a_doubled_hour(schedule: str) -> None:
    due = dates(schedule, 4, timezone=NEW_YORK, after=AUTUMN)
    assert due == [f"11-01 {hour}:00:00" for hour in ("05", "06", "07", "08")]


def test_dates_are_counted_up_to_a_number() -> None:
    schedule = schedule_of("* * * * *", None)
    until = datetime(2026, 11, 29, 10, 5, tzinfo=UTC)
    assert schedule.count(START, until, most=100) == 5
    assert schedule.count(START, until, most=3) == 3
    assert schedule.count(START, START, most=3) == 0
