"""What a node counts and writes down about itself: the last minute, the logs."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from cluster.replica import Notice
from node.logs import JsonFormatter, TextFormatter, configure
from node.minute import WINDOW_S, Minute
from statemachine.changes import Change


class Second:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def test_rates_cover_the_last_minute_and_no_more() -> None:
    clock = Second()
    minute = Minute(clock)
    for _ in range(120):
        minute.request(0.001, failed=False, waits=False)
    minute.request(0.001, failed=True, waits=False)
    clock.now_s += WINDOW_S - 1
    minute.request(0.001, failed=False, waits=False)
    rates = minute.figures().rates
    assert rates["requests"] == round(122 / WINDOW_S, 3)
    assert rates["errors"] == round(1 / WINDOW_S, 3)
    clock.now_s += 1
    assert minute.figures().rates["requests"] == round(1 / WINDOW_S, 3)
    clock.now_s += 10 * WINDOW_S
    assert minute.figures().rates["requests"] == 0
    assert minute.figures().latency_ms == {"p50": None, "p95": None, "p99": None}


def test_percentiles_are_right_within_a_fifth_and_leave_waits_out() -> None:
    minute = Minute(Second())
    for milliseconds in range(1, 101):
        minute.request(milliseconds / 1_000, failed=False, waits=False)
    for _ in range(1_000):
        minute.request(60.0, failed=False, waits=True)
    latency = minute.figures().latency_ms
    for name, exact in (("p50", 50), ("p95", 95), ("p99", 99)):
        found = latency[name]
        assert found is not None
        assert exact <= found < exact * 1.2
    minute.request(10_000.0, failed=False, waits=False)
    minute.request(0.0, failed=False, waits=False)


def test_notices_are_counted() -> None:
    minute = Minute(Second())
    change = Change(2, "task.completed", "default", "task", "t1", "a1", None, (), None)
    minute.on_notice(Notice(1, 1, 1, 3, 0, (change, change)))
    minute.on_notice(Notice(2, 1, 4, 3, 0))
    minute.on_notice(Notice(3, 1, 1, 1_000, 0, gap=True))
    rates = minute.figures().rates
    assert (rates["revisions"], rates["tasks_completed"]) == (0.05, round(2 / 60, 3))


def _record(message: str, **extra: object) -> logging.LogRecord:
    record = logging.LogRecord("hive.test", logging.INFO, "file", 1, message, (), None)
    vars(record).update(extra)
    record.created = 0.0
    return record


def test_text_logs_are_one_line_of_key_value() -> None:
    line = TextFormatter().format(_record("role\nforged level=error", node="n1", leader="", why='a "b" c'))
    assert line == (
        '1970-01-01T00:00:00.000Z info    hive.test role\\nforged level=error node=n1 leader="" why="a \\"b\\" c"'
    )


def test_json_logs_are_one_object_a_line() -> None:
    line = JsonFormatter().format(_record("role", node="n1", term=3))
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.000Z",
        "level": "info",
        "logger": "hive.test",
        "message": "role",
        "node": "n1",
        "term": 3,
    }
    assert "\n" not in line


def test_exceptions_are_logged_whole() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        record = _record("failed")
        record.exc_info = sys.exc_info()
    assert "ValueError: broken" in TextFormatter().format(record)
    assert "ValueError: broken" in json.loads(JsonFormatter().format(record))["exception"]


def test_configure_replaces_what_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure("warning", "text")
        logging.getLogger("hive.test").info("not shown")
        logging.getLogger("hive.test").warning("shown", extra={"node": "n1"})
        written = capsys.readouterr().err
        assert "shown node=n1" in written
        assert "not shown" not in written
    finally:
        root.handlers[:], root.level = handlers, level
