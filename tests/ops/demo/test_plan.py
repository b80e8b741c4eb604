from __future__ import annotations

import pytest

from ops.demo.plan import (
    BATCH_ITEMS_MAX,
    DEPENDENCIES_MAX,
    PAUSED,
    SURVEY_FILES_MAX,
    TRIALS,
    batches,
    plan_survey,
    plan_tasks,
)


def test_two_tasks_a_file_and_one_report_over_all() -> None:
    tasks = plan_tasks("r", ["a.py", "b.py"])
    assert [(t["type"], t.get("payload")) for t in tasks[:4]] == [
        ("outline", {"path": "a.py"}),
        ("lint", {"path": "a.py"}),
        ("outline", {"path": "b.py"}),
        ("lint", {"path": "b.py"}),
    ]
    assert tasks[4]["type"] == "report"
    assert tasks[4]["depends_on"] == [t["task_id"] for t in tasks[:4]]
    assert len({t["task_id"] for t in tasks}) == len(tasks) == 5
    assert all(t["requires"] == [{"name": t["type"]}] for t in tasks)


@pytest.mark.parametrize(("files", "reports"), [(1, 1), (500, 1), (501, 3), (1200, 4)])
def test_more_files_than_one_report_can_depend_on_are_reported_in_layers(files: int, reports: int) -> None:
    tasks = plan_tasks("r", [f"{n}.py" for n in range(files)])
    assert len(tasks) == 2 * files + reports
    seen: set[str] = set()
    needed: set[str] = set()
    for task in tasks:
        depends_on = task.get("depends_on", [])
        assert len(depends_on) <= DEPENDENCIES_MAX
        assert seen.issuperset(depends_on), "a task comes after those it depends on"
        assert needed.isdisjoint(depends_on), "nothing is reported twice"
        needed.update(depends_on)
        seen.add(task["task_id"])
    assert seen - needed == {tasks[-1]["task_id"]}, "the last report covers everything"


def test_three_layers() -> None:
    tasks = plan_tasks("r", [f"{n}.py" for n in range(20)], fan_in=4)
    assert [len(t["depends_on"]) for t in tasks[40:]] == [4] * 10 + [4, 4, 2] + [3]


def test_batches_keep_order_and_limits() -> None:
    tasks = plan_tasks("r", [f"{n}.py" for n in range(30_000)])
    parts = list(batches(tasks))
    assert [t["task_id"] for part in parts for t in part] == [t["task_id"] for t in tasks]
    assert all(len(part) <= BATCH_ITEMS_MAX for part in parts)
    assert all(sum(len(t.get("depends_on", ())) for t in part) <= 10_000 for part in parts)


def test_only_the_agent_it_is_meant_for_gets_a_survey() -> None:
    surveys = [
        plan_survey("r", trial, [f"{n}.py" for n in range(500)], f"r.{trial}", lease_ms=6_000) for trial in TRIALS
    ]
    assert len({task["task_id"] for task in surveys}) == len({task["requires"][0]["name"] for task in surveys}) == 4
    paused = surveys[TRIALS.index(PAUSED)]
    assert (paused["payload"]["held_by"], paused["lease_ms"]) == ("r.paused", 6_000)
    assert len(paused["payload"]["paths"]) == SURVEY_FILES_MAX


def test_leases_are_as_long_as_wished() -> None:
    assert {task["lease_ms"] for task in plan_tasks("r", ["a.py"], lease_ms=6_000)} == {6_000}
