"""When a cron schedule fires: five numeric fields, as in crontab(5)."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


def longest_gap(schedule: str) -> timedelta:
    """Return the longest time between two runs, over four years (so with a leap year)."""
    times = runs(schedule, datetime(2023, 1, 1), datetime(2027, 1, 1))
    return max(later - earlier for earlier, later in pairwise(times))


def runs(schedule: str, start: datetime, end: datetime) -> list[datetime]:
    """Return every run from start until before end."""
    minutes, hours, days, months, weekdays = (
        _values(field, *limits) for field, limits in zip(schedule.split(), RANGES, strict=True)
    )
    any_day, any_weekday = (field == "*" for field in (schedule.split()[2], schedule.split()[4]))
    found, day = [], start
    while day < end:
        by_day, by_weekday = day.day in days, day.isoweekday() % 7 in weekdays
        # Where both are restricted, either one is enough.
        wanted = (by_day and by_weekday) if any_day or any_weekday else (by_day or by_weekday)
        if wanted and day.month in months:
            found += [day.replace(hour=hour, minute=minute) for hour in sorted(hours) for minute in sorted(minutes)]
        day += timedelta(days=1)
    return found


def _values(field: str, low: int, high: int) -> set[int]:
    values: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        values |= {*range(int(first), int(last or first) + 1, int(step or 1))}
    return values
