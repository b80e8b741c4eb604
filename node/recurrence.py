"""When a schedule is due: cron expressions in a time zone, or intervals.

This knows clocks and calendars, so it is asked BEFORE the log: the state machine keeps what it answered.

Daylight saving is that of Debian's cron. Where minute and hour are given, a time that does not exist is due at the
first minute after the gap, and a time that exists twice is due the first time only. Where the minute or the hour begins
with a star, runs follow real time: none in the gap, and both times in the hour that comes twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

from node.timezones import zone
from statemachine import limits
from statemachine.commands import Definition

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

LAST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999: nothing is due later."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """The due times of a schedule, Unix milliseconds. One of `cron` and `every_ms` is given; both were checked."""

    cron: str | None
    every_ms: int | None
    timezone: str = "UTC"
    starts_at: int | None = None
    ends_at: int | None = None

    def after(self, time_ms: int) -> Iterator[int]:
        """All due times later than this, in order, without those before `starts_at` and after `ends_at`.

        Raises ValueError for an expression or a time zone that this version does not know.
        """
        if self.starts_at is not None:
            time_ms = max(time_ms, self.starts_at - 1)
        times = self._intervals(self.every_ms, time_ms) if self.every_ms is not None else self._calendar(time_ms)
        last_ms = LAST_MS if self.ends_at is None else min(self.ends_at, LAST_MS)
        for due_ms in times:
            if due_ms > last_ms:
                return
            yield due_ms

    def next_after(self, time_ms: int) -> int | None:
        """The first due time later than this."""
        return next(self.after(time_ms), None)

    def _intervals(self, every_ms: int, time_ms: int) -> Iterator[int]:
        anchor_ms = self.starts_at or 0
        due_ms = anchor_ms + (max(time_ms - anchor_ms, -1) // every_ms + 1) * every_ms
        while True:
            yield due_ms
            due_ms += every_ms

    def _calendar(self, time_ms: int) -> Iterator[int]:
        last_ms = time_ms
        try:
            start = (_EPOCH + time_ms * _MILLISECOND).astimezone(zone(self.timezone))
            for moment in parse_cron(self.cron or "", start):
                due_ms = (moment.astimezone(UTC) - _EPOCH) // _MILLISECOND
                # Begun in an hour that comes twice, the expression also finds what was due the first time.
                if due_ms > last_ms:
                    yield due_ms
                    last_ms = due_ms
        except OverflowError:
            return  # the calendar ends with the year 9999


def recurrence_of(definition: Definition) -> Recurrence:
    """When a schedule of this definition is due."""
    return Recurrence(
        definition.cron, definition.every_ms, definition.timezone, definition.starts_at, definition.ends_at
    )


def first_run_ms(definition: Definition, now_ms: int) -> int | None:
    """When a schedule that is defined now is due next; None while it is paused, and when it never is."""
    return None if definition.paused else recurrence_of(definition).next_after(now_ms)


def parse_cron(text: str, start: datetime) -> CronSim:
    """The moments of a cron expression after one, in its time zone. Raises ValueError for what is none."""
    fields = MACROS.get(text.strip(), text).split()
    if len(fields) != 5:
        raise ValueError("must have five fields: minute hour day-of-month month day-of-week")
    try:
        return CronSim(" ".join(fields), start)
    except CronSimError as error:
        raise ValueError(f"{str(error)[:1].lower()}{str(error)[1:]} in {text!r}") from None


def check_cron(text: str) -> None:
    """Raises ValueError for an expression that is none, or that no day of the next decades fits."""
    if len(text) > limits.CRON_CHARACTERS_MAX:
        raise ValueError(f"must be at most {limits.CRON_CHARACTERS_MAX} characters")
    if next(parse_cron(text, datetime(2024, 1, 1, tzinfo=UTC)), None) is None:
        raise ValueError(f"{text!r} never comes")
