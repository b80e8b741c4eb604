"""Mass redrive: by filter, in bounded steps, at a bounded rate."""

from __future__ import annotations

import pytest

from statemachine import commands, limits, work
from statemachine.commands import RetryTasks
from tests.statemachine.harness import Harness


def failed(count: int, **fields: object) -> Harness:
    h = Harness()
    h.register("a1")
    for number in range(count):
        fail(h, f"t{number}", **fields)
    return h


def fail(h: Harness, task_id: str, **fields: object) -> None:
    h.submit(task_id, max_attempts=1, **fields)
    h.fail(task_id, "a1", h.claim(task_id))


def status(h: Harness, count: int) -> list[str]:
    return [str(h.task(f"t{number}").status) for number in range(count)]


def test_all_failed_tasks_begin_anew() -> None:
    h = failed(3)
    item = h.item(RetryTasks())
    assert item.numbers == (3, 0)
    assert status(h, 3) == ["pending"] * 3
    assert {h.task(f"t{n}").tries for n in range(3)} == {0}
    assert {change.revision for change in h.changes} == {item.revision}
    assert h.item(RetryTasks()).numbers == (0, 0)
    h.check()


def test_filters_and_the_limit_hold() -> None:
    h = failed(2, queue="q")
    fail(h, "t2", group_id="g")
    fail(h, "t3")
    failure = commands.Failure("t4", 1, "rejected", "no", False, None, 0)
    h.submit("t4")
    h.claim("t4")
    h.do(commands.FailTasks("a1", (failure,)))
    assert h.item(RetryTasks(queue="none")).numbers == (0, 0)
    assert h.item(RetryTasks(reason="rejected")).numbers == (1, 0)
    assert h.item(RetryTasks(queue="q", limit=1)).numbers == (1, 0)
    assert status(h, 5) == ["pending", "failed", "failed", "failed", "pending"]
    assert h.item(RetryTasks(group_id="g")).numbers == (1, 0)
    assert status(h, 4) == ["pending", "failed", "pending", "failed"]
    h.check()


def test_a_step_is_bounded_and_the_rest_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIDE_EFFECTS_MAX", 4)
    h = failed(10)
    assert h.item(RetryTasks(limit=9)).numbers == (4, 1)
    h.check()
    h.fail("t0", "a1", h.claim("t0"))
    h.do(commands.DoWork())
    assert status(h, 10) == ["failed"] + ["pending"] * 7 + ["failed"] * 2, "one that failed since is left alone"
    h.do(commands.DoWork())
    assert status(h, 10).count("pending") == 8
    assert status(h, 10)[9] == "failed", "the limit"
    assert not work.waiting(h.store)
    h.check()


def test_one_that_failed_after_the_redrive_began_is_not_redriven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIDE_EFFECTS_MAX", 2)
    h = failed(2)
    h.submit("late", max_attempts=1)
    fail(h, "t2")
    assert h.item(RetryTasks()).numbers == (2, 1)
    h.advance(1)
    h.fail("late", "a1", h.claim("late"))
    h.do(commands.DoWork())
    h.do(commands.DoWork())
    assert (h.task("t2").status, h.task("late").status) == ("pending", "failed")
    assert not work.waiting(h.store)
    h.check()


def test_the_rate_spreads_them_over_time() -> None:
    h = failed(5)
    h.item(RetryTasks(rate_per_second=2))
    assert status(h, 5) == ["pending", "pending", "scheduled", "scheduled", "scheduled"]
    h.advance(1_000)
    h.do(commands.WakeTasks())
    assert status(h, 5) == ["pending"] * 4 + ["scheduled"]
    h.check()
    h.advance(1_000)
    h.do(commands.WakeTasks())
    assert status(h, 5) == ["pending"] * 5


def test_one_whose_unique_key_is_taken_stays() -> None:
    h = failed(1, unique_key="k")
    h.submit("other", unique_key="k")
    assert h.item(RetryTasks()).numbers == (0, 0)
    assert h.refusal(commands.RetryTask("t0")).code == "conflict"
    h.check()
