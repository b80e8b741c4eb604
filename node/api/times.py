"""Times at the edge: RFC 3339 in with any offset, out UTC with milliseconds; inside, Unix milliseconds."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

DAY_MS = 86_400_000
TIME_MS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999, the last that RFC 3339 can say."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_MILLISECOND = timedelta(milliseconds=1)


class _PlainInt(type):
    """Makes plain numbers instances: what `parse` returns is encoded by all who encode integers."""

    def __instancecheck__(cls, value: object) -> bool:
        return type(value) is int


class TimeMs(int, metaclass=_PlainInt):
    """Unix milliseconds that stand as RFC 3339 in JSON and in query strings: a field of this type is parsed as such."""


def parse(text: object) -> int:
    """The time a text names; ValueError says what is wrong with it."""
    if not isinstance(text, str):
        raise ValueError("Expected an RFC 3339 time such as 2026-01-31T12:00:00Z")  # noqa: TRY004 - decoders add the path to ValueError
    try:
        moment = msgspec.convert(text, datetime)
        if moment.tzinfo is None:
            raise ValueError(f"{text!r} names no offset; end it with Z or +hh:mm")
        time_ms = (moment - _EPOCH) // _MILLISECOND
    except (msgspec.ValidationError, OverflowError):
        raise ValueError(f"{text!r} is not an RFC 3339 time such as 2026-01-31T12:00:00Z") from None
    if not 0 <= time_ms <= TIME_MS_MAX:
        raise ValueError("a time must lie between 1970 and 9999")
    return time_ms


_day_texts: dict[int, str] = {}


@lru_cache(256)
def text(time_ms: int) -> str:
    """The time as clients see it: `2026-01-01T00:00:00.000Z`."""
    # Cached: all that one entry of the log has made has one time.
    day, rest_ms = divmod(time_ms, DAY_MS)
    day_text = _day_texts.get(day)
    if day_text is None:
        if len(_day_texts) > 1_000:
            _day_texts.clear()
        day_text = _day_texts[day] = date.fromordinal(_EPOCH_DAY + day).isoformat()
    seconds, milliseconds = divmod(rest_ms, 1_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{day_text}T{hour:02d}:{minute:02d}:{second:02d}.{milliseconds:03d}Z"


def text_or_none(time_ms: int | None) -> str | None:
    """As `text`; None stays None."""
    return None if time_ms is None else text(time_ms)


def outside(value: Any) -> Any:
    """Facts of the state machine as clients see them: there, times are milliseconds under names that end in `_at`, and
    money is micro-dollars under names that end in `_micro_usd`."""
    if isinstance(value, dict):
        return dict(_member_outside(name, item) for name, item in value.items())
    if isinstance(value, list | tuple):
        return [outside(item) for item in value]
    return value


def _member_outside(name: str, value: Any) -> tuple[str, Any]:
    if _is_time(name, value):
        return name, text(value)
    if name.endswith("_micro_usd"):
        return name.removesuffix("micro_usd") + "cost_usd", value / 1_000_000
    return name, outside(value)


def _is_time(name: str, value: Any) -> bool:
    return type(value) is int and (name.endswith("_at") or name in {"not_before", "deadline"})
