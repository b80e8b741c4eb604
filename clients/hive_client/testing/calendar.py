"""When the fake's schedules are due: five-field cron expressions and intervals.

As the server reckons, but for the hours that a clock skips or repeats: here a time that does not exist is due an hour
later, and a time that exists twice the first time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_DAYS_SEARCHED = 366 * 8

Fields = tuple[set[int], ...]


def zone(name: str) -> tzinfo:
    """The time zone of that name. Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError(f"{name!r} is no IANA time zone such as Europe/Berlin") from None


def parse(text: str) -> Fields:
    """The values of each field. Raises ValueError."""
    words = text.upper().split()
    if len(words) != len(_RANGES):
        raise ValueError("must have five fields: minute hour day-of-month month day-of-week")
    return tuple(_field(word, place) for place, word in enumerate(words))


def due_after(text: str, timezone: str, moment: datetime) -> Iterator[datetime]:
    """The moments of an expression after one, UTC."""
    minutes, hours, days, months, weekdays = parse(text)
    words, local_zone = text.split(), zone(timezone)
    either = not (words[2].startswith("*") or words[4].startswith("*"))

    def fits(day: date) -> bool:
        in_month, in_week = day.day in days, day.isoweekday() % 7 in weekdays
        return day.month in months and (in_month or in_week if either else in_month and in_week)

    first = moment.astimezone(local_zone).date()
    for offset in range(_DAYS_SEARCHED):
        day = first + timedelta(days=offset)
        if fits(day):
            times = (datetime(day.year, day.month, day.day, h, m, tzinfo=local_zone) for h in hours for m in minutes)
            yield from sorted({at.astimezone(UTC) for at in times if at.astimezone(UTC) > moment})


def _field(text: str, place: int) -> set[int]:
    values: set[int] = set()
    for term in text.split(","):
        span, slash, step_text = term.partition("/")
        step = _number(step_text, place) if slash else 1
        first, dash, last = span.partition("-")
        low, high = _RANGES[place]
        if span != "*":
            low = _number(first, place)
            high = _number(last, place) if dash else (high if slash else low)
        if step < 1 or not _RANGES[place][0] <= low <= high <= _RANGES[place][1]:
            raise ValueError(f"{term!r} is out of range")
        values |= set(range(low, high + 1, step))
    return {value % 7 for value in values} if place == len(_RANGES) - 1 else values


def _number(text: str, place: int) -> int:
    if place == 3 and text in _MONTHS:
        return _MONTHS.index(text) + 1
    if place == 4 and text in _DAYS:
        return _DAYS.index(text)
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{text!r} is no number")
    return int(text)
