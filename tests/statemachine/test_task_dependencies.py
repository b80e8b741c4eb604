"""What follows when a task ends: dependents freed, blocked or cancelled, within bounds."""

from __future__ import annotations

from itertools import pairwise

import pytest

from statemachine import commands, groups, limits, task_queries, work
from statemachine.commands import NewTask, SubmitTasks
from tests.statemachine.harness import Harness


@pytest.fixture
def h() -> Harness:
    h = Harness()
    h.register("a1", slots=1_000)
    return h


def drain(h: Harness) -> int:
    """Do all work that is left -> in how many steps."""
    steps = 0
    while work.waiting(h.store):
        h.do(commands.DoWork())
        assert len(h.changes) <= limits.SIDE_EFFECTS_MAX
        h.check()
        steps += 1
    return steps


def fail_for_good(h: Harness, task_id: str) -> None:
    h.fail(task_id, "a1", h.claim(task_id), retryable=False)


def test_free_when_the_last_one_completes(h: Harness) -> None:
    h.submit("a")
    h.submit("b")
    h.submit("c", depends_on=("a", "b", "a"))
    h.run("a")
    assert h.task("c").status == "blocked"
    h.run("b")
    assert h.task("c").status == "pending"
    types = [(change.type, change.resource_id) for change in h.changes]
    assert types == [("task.completed", "b"), ("task.pending", "c")]
    assert len({change.revision for change in h.changes}) == 1
    h.check()


def test_a_time_still_counts_after_the_dependencies(h: Harness) -> None:
    h.submit("a")
    h.submit("b", depends_on=("a",), delay_ms=60_000)
    h.run("a")
    assert h.task("b").status == "scheduled"
    h.advance(60_000)
    h.do(commands.WakeTasks())
    assert h.task("b").status == "pending"
    h.check()


def test_a_completed_dependency_counts_at_once(h: Harness) -> None:
    h.submit("a")
    h.run("a")
    h.submit("b", depends_on=("a",))
    assert h.task("b").status == "pending"
    h.check()


def test_block_waits_for_a_redrive(h: Harness) -> None:
    h.submit("a")
    h.submit("b", depends_on=("a",))
    fail_for_good(h, "a")
    h.submit("late", depends_on=("a",))
    assert [h.task(name).status for name in ("b", "late")] == ["blocked", "blocked"]
    h.item(commands.RetryTask("a"))
    h.run("a")
    assert [h.task(name).status for name in ("b", "late")] == ["pending", "pending"]
    h.check()


@pytest.mark.parametrize("end", ["fail", "cancel", "expire"])
def test_cancel_goes_down_the_line(h: Harness, end: str) -> None:
    h.submit("a", deadline_in_ms=1_000)
    h.submit("b", depends_on=("a",), on_dependency_failure="cancel")
    h.submit("c", depends_on=("b",), on_dependency_failure="cancel")
    h.submit("d", depends_on=("c",), on_dependency_failure="run")
    if end == "fail":
        fail_for_good(h, "a")
    elif end == "cancel":
        h.item(commands.CancelTask("a"))
    else:
        h.advance(1_000)
        h.do(commands.ExpireTasks((h.believed("a"),)))
    assert [h.task(name).status for name in "bcd"] == ["cancelled", "cancelled", "pending"]
    failure = h.task("b").failure
    assert failure is not None
    assert failure.reason == "dependency_failed"
    h.check()


def test_a_new_task_on_a_failed_one(h: Harness) -> None:
    h.submit("a")
    fail_for_good(h, "a")
    for policy, status in (("block", "blocked"), ("cancel", "cancelled"), ("run", "pending")):
        h.submit(policy, depends_on=("a",), on_dependency_failure=policy, unique_key=policy)
        assert h.task(policy).status == status
    h.check()
    assert h.submit("again", unique_key="cancel").status == 201


def test_run_is_satisfied_only_once(h: Harness) -> None:
    h.submit("a")
    h.submit("other")
    h.submit("b", depends_on=("a", "other"), on_dependency_failure="run")
    fail_for_good(h, "a")
    h.item(commands.RetryTask("a"))
    h.run("a")
    assert (h.task("b").status, h.task("b").unmet) == ("blocked", 1)
    h.check()


def test_a_dependent_that_ended_before_is_left_alone(h: Harness) -> None:
    h.submit("a")
    h.submit("b", depends_on=("a",))
    h.item(commands.CancelTask("b"))
    h.run("a")
    assert h.task("b").status == "cancelled"
    h.check()


def test_a_thousand_dependents_in_bounded_steps(h: Harness) -> None:
    h.submit("a")
    h.do(SubmitTasks(tuple(NewTask(f"d{i}", depends_on=("a",)) for i in range(1_000))))
    h.run("a")
    freed = sum(change.type == "task.pending" for change in h.changes)
    assert freed == limits.SIDE_EFFECTS_MAX
    h.check()
    assert drain(h) == 3
    assert sum(1 for _ in task_queries.pending(h.store)) == 1_000


def test_a_thousand_dependencies(h: Harness) -> None:
    names = tuple(f"d{i}" for i in range(1_000))
    h.do(SubmitTasks(tuple(NewTask(name) for name in names)))
    h.submit("all", depends_on=names)
    claimed = h.do(commands.ClaimTasks("a1", h.agent("a1").epoch, names))
    assert {item.numbers for item in claimed.items} == {(1,)}
    h.do(commands.CompleteTasks("a1", tuple(commands.Completion(name, 1, b"1") for name in names)))
    assert h.task("all").unmet == 1_000 - limits.SIDE_EFFECTS_MAX
    h.check()
    assert drain(h) == 3
    assert h.task("all").status == "pending"
    results = list(task_queries.dependency_results(h.store, h.task("all")))
    assert [result.task_id for result in results] == list(names)
    assert {result.result for result in results} == {b"1"}
    h.check()


def test_a_long_chain_of_cancellations_is_bounded(h: Harness) -> None:
    names = [f"t{i}" for i in range(600)]
    chain = [NewTask(names[0])]
    chain += [NewTask(b, depends_on=(a,), on_dependency_failure="cancel") for a, b in pairwise(names)]
    h.do(SubmitTasks(tuple(chain)))
    h.item(commands.CancelTask("t0"))
    assert len(h.changes) == limits.SIDE_EFFECTS_MAX + 1
    h.check()
    assert drain(h) == 2
    assert h.task("t599").status == "cancelled"


def test_work_of_a_task_that_was_redriven_is_dropped(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIDE_EFFECTS_MAX", 1)
    h.submit("a")
    for i in range(3):
        h.submit(f"d{i}", depends_on=("a",), on_dependency_failure="cancel")
    fail_for_good(h, "a")
    assert [h.task(f"d{i}").status for i in range(3)] == ["cancelled", "blocked", "blocked"]
    h.item(commands.RetryTask("a"))
    assert drain(h) == 1
    assert [h.task(f"d{i}").status for i in range(3)] == ["cancelled", "blocked", "blocked"]
    h.run("a")
    drain(h)
    assert [h.task(f"d{i}").status for i in range(3)] == ["cancelled", "pending", "pending"]


def test_group_cancel_is_bounded_and_spares_late_comers(h: Harness) -> None:
    h.do(SubmitTasks(tuple(NewTask(f"t{i}", group_id="g") for i in range(600))))
    h.run("t0")
    item = h.item(commands.CancelGroup("g"))
    assert item.numbers == (limits.SIDE_EFFECTS_MAX - 1,)
    h.submit("late", group_id="g")
    assert drain(h) == 2
    group = groups.get(h.store, h.project_no(), "g")
    assert group is not None
    assert group.counts == {"completed": 1, "cancelled": 599, "pending": 1}
    assert h.refusal(commands.CancelGroup("other")).code == "not_found"
