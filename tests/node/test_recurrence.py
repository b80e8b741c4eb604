"""When schedules are due: expressions, intervals, time zones, and the hours that a clock skips or repeats."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.recurrence import LAST_MS, MACROS, Recurrence, check_cron, first_run_ms
from node.timezones import names, zone
from statemachine import limits
from statemachine.commands import Definition, NewTask


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def times(recurrence: Recurrence, after: str, count: int = 3) -> list[str]:
    found = islice(recurrence.after(ms(after)), count)
    return [datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for at in found]


def cron(text: str, timezone: str = "UTC") -> Recurrence:
    return Recurrence(text, None, timezone)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 * * * *", ["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"]),
        ("*/20 9-10 * * *", ["2026-01-01T09:00:00Z", "2026-01-01T09:20:00Z"]),
        ("5,10 4 * * *", ["2026-01-01T04:05:00Z", "2026-01-01T04:10:00Z"]),
        ("0 0 * FEB Mon", ["2026-02-02T00:00:00Z", "2026-02-09T00:00:00Z"]),
        ("0 12 13 * 5", ["2026-01-02T12:00:00Z", "2026-01-09T12:00:00Z"]),
        ("0 0 29 2 *", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
        ("0 0 L * *", ["2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z"]),
        ("@daily", ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]),
        ("@weekly", ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"]),
    ],
)
def test_cron_expressions(text: str, expected: list[str]) -> None:
    check_cron(text)
    assert times(cron(text), "2026-01-01T00:00:00Z", 2) == expected


def test_every_macro_is_an_expression() -> None:
    for text in MACROS:
        check_cron(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *",
        "5-1 * * * *", "x * * * *", "@reboot", "0 0 30 2 *", "0 0 31 2,4,6 *", "* * */20 * 1L", "-1 * * * *",
        "1, * * * *", "1e1 * * * *", "\u0661 * * * *", "*" + " *" * 4 + "0" * limits.CRON_CHARACTERS_MAX,
    ],
)  # fmt: skip
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        check_cron(text)


def test_a_due_time_is_strictly_later_and_on_the_minute() -> None:
    minutely = cron("* * * * *")
    assert minutely.next_after(ms("2026-01-01T00:00:00Z")) == ms("2026-01-01T00:01:00Z")
    assert minutely.next_after(ms("2026-01-01T00:00:59.999Z")) == ms("2026-01-01T00:01:00Z")
    assert minutely.next_after(ms("2025-12-31T23:59:59.999Z")) == ms("2026-01-01T00:00:00Z")
    assert minutely.next_after(ms("2026-01-01T00:00:00.001Z")) == ms("2026-01-01T00:01:00Z")


def test_zones_come_from_the_package_alone() -> None:
    assert len(names()) > 400
    assert {"Europe/Berlin", "America/New_York", "Asia/Kolkata", "Etc/UTC"} <= names()
    assert datetime(2026, 7, 1, tzinfo=zone("Europe/Berlin")).utcoffset() == timedelta(hours=2)
    for wrong in ("localtime", "../etc/passwd", "europe/berlin", "Europe", "", "CEST+2", "/etc/localtime"):
        with pytest.raises(ValueError, match="no IANA time zone"):
            zone(wrong)


def test_a_zone_has_its_own_midnight() -> None:
    assert times(cron("0 0 * * *", "Asia/Kolkata"), "2026-01-01T00:00:00Z", 1) == ["2026-01-01T18:30:00Z"]


# In Berlin the clock goes from 02:00 to 03:00 on 2026-03-29 (01:00 UTC), and from 03:00 to 02:00 on 2026-10-25.


def test_a_time_that_does_not_exist_is_due_after_the_gap() -> None:
    found = times(cron("30 2 * * *", "Europe/Berlin"), "2026-03-28T00:00:00Z")
    assert found == ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    # Several of them are due there once.
    found = times(cron("0,15,45 2,3 * * *", "Europe/Berlin"), "2026-03-29T00:00:00Z", 4)
    assert found == ["2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z", "2026-03-29T01:45:00Z", "2026-03-30T00:00:00Z"]


def test_a_time_that_exists_twice_is_due_the_first_time() -> None:
    found = times(cron("30 2 * * *", "Europe/Berlin"), "2026-10-24T12:00:00Z")
    assert found == ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z", "2026-10-27T01:30:00Z"]
    # Asked between the two.
    assert times(cron("30 2 * * *", "Europe/Berlin"), "2026-10-25T00:45:00Z", 1) == ["2026-10-26T01:30:00Z"]
    assert times(cron("45 2 * * *", "Europe/Berlin"), "2026-10-25T01:10:00Z", 1) == ["2026-10-26T01:45:00Z"]


def test_runs_by_the_hour_follow_real_time() -> None:
    hourly = cron("30 * * * *", "Europe/Berlin")
    assert times(hourly, "2026-03-29T00:00:00Z", 2) == ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"]
    assert times(hourly, "2026-10-25T00:00:00Z") == [
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-25T02:30:00Z",
    ]


def test_intervals_count_from_the_epoch_or_the_start() -> None:
    assert times(Recurrence(None, 3_600_000), "2026-01-01T00:00:01Z", 2) == [
        "2026-01-01T01:00:00Z",
        "2026-01-01T02:00:00Z",
    ]
    started = Recurrence(None, 90_000, starts_at=ms("2026-01-01T00:00:10Z"))
    assert times(started, "2025-01-01T00:00:00Z", 2) == ["2026-01-01T00:00:10Z", "2026-01-01T00:01:40Z"]
    assert times(started, "2026-01-01T00:00:10Z", 1) == ["2026-01-01T00:01:40Z"]
    assert times(started, "2026-01-01T00:00:09.999Z", 1) == ["2026-01-01T00:00:10Z"]


def test_start_and_end_are_included() -> None:
    bounded = Recurrence(
        "0 * * * *", None, "UTC", starts_at=ms("2026-01-01T05:00:00Z"), ends_at=ms("2026-01-01T07:00:00Z")
    )
    assert times(bounded, "2026-01-01T00:00:00Z", 9) == [f"2026-01-01T0{hour}:00:00Z" for hour in (5, 6, 7)]
    assert bounded.next_after(ms("2026-01-01T07:00:00Z")) is None


def test_nothing_is_due_after_the_end_of_the_calendar() -> None:
    assert cron("0 0 1 1 *").next_after(LAST_MS - 1_000) is None
    assert cron("* * * * *", "America/New_York").next_after(LAST_MS) is None
    assert Recurrence(None, 1_000).next_after(LAST_MS) is None


def test_a_paused_definition_is_never_due() -> None:
    definition = Definition(NewTask(""), every_ms=1_000)
    assert first_run_ms(definition, 5_500) == 6_000
    assert first_run_ms(Definition(NewTask(""), every_ms=1_000, paused=True), 5_500) is None


FIELDS = st.tuples(
    st.sampled_from(["*", "*/7", "0", "30", "15,45", "59"]),
    st.sampled_from(["*", "*/2", "0", "1", "2", "2,3", "0-4", "23"]),
    st.sampled_from(["*", "1", "*/5", "25-31"]),
    st.sampled_from(["*", "3", "10", "11", "4,9"]),
    st.sampled_from(["*", "0", "SUN#1", "1-5"]),
)
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Casablanca"]
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(FIELDS, ZONES, st.integers(ms("2025-01-01T00:00:00Z"), ms("2027-12-31T00:00:00Z")))
def test_times_grow_and_do_not_depend_on_where_they_are_asked_from(
    fields: tuple[str, ...], timezone: str, after_ms: int
) -> None:
    """The leader asks anew after each run: it must go on as if it had never stopped."""
    recurrence = cron(" ".join(fields), timezone)
    found = list(islice(recurrence.after(after_ms), 12))
    assert found == sorted(set(found))
    assert all(at > after_ms and at % 60_000 == 0 for at in found)
    step = after_ms
    for at in found:
        assert recurrence.next_after(step) == at
        assert recurrence.next_after(at - 1) == at
        step = at


@settings(derandomize=True, deadline=None, max_examples=100)
@given(FIELDS, ZONES, st.integers(ms("2025-01-01T00:00:00Z"), ms("2027-12-31T00:00:00Z")))
def test_local_times_are_those_of_the_expression(fields: tuple[str, ...], timezone: str, after_ms: int) -> None:
    """But for times that do not exist, each due time reads as the expression says on a clock of the zone."""
    hours = {"*": range(24), "*/2": range(0, 24, 2), "0-4": range(5), "2,3": (2, 3)}
    wanted = hours.get(fields[1]) or (int(fields[1]),)
    for at in islice(cron(" ".join(fields), timezone).after(after_ms), 12):
        local = datetime.fromtimestamp(at / 1000, zone(timezone))
        before = (local.astimezone(UTC) - timedelta(minutes=1)).astimezone(zone(timezone))
        moved = before.utcoffset() != local.utcoffset()
        assert local.hour in wanted or moved
