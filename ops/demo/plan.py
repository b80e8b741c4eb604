"""Which tasks a tree of files becomes: two for each file, and reports until one report covers all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hive_client import TaskFields

# A task may depend on 1,000 others; more files than that are reported in layers.
DEPENDENCIES_MAX = 1_000
BATCH_ITEMS_MAX = 1_000
# What one request may name together; a report itself has at most 1,000.
BATCH_DEPENDENCIES_MAX = 10_000

OUTLINE, LINT, REPORT = "outline", "lint", "report"


def plan_tasks(run_id: str, paths: Sequence[str], fan_in: int = DEPENDENCIES_MAX) -> list[TaskFields]:
    """Tasks in an order in which every task comes after those it depends on; the last one is the whole report."""
    tasks: list[TaskFields] = []
    for number, path in enumerate(paths):
        for kind in (OUTLINE, LINT):
            tasks.append(_task(run_id, kind, f"{run_id}-{kind}-{number}", path, {"path": path}))
    layer = [task["task_id"] for task in tasks]
    depth = 0
    while True:
        reports = [
            _report(run_id, f"{run_id}-{REPORT}-{depth}-{number}", part)
            for number, part in enumerate(_slices(layer, fan_in))
        ]
        tasks += reports
        if len(reports) <= 1:
            return tasks
        layer = [task["task_id"] for task in reports]
        depth += 1


def _report(run_id: str, task_id: str, depends_on: list[str]) -> TaskFields:
    task = _task(run_id, REPORT, task_id, f"report over {len(depends_on)} tasks", {})
    task["depends_on"] = depends_on
    task["on_dependency_failure"] = "cancel"  # a report without one of its parts would never start
    task["priority"] = 8
    return task


def _task(run_id: str, kind: str, task_id: str, title: str, payload: dict[str, Any]) -> TaskFields:
    return TaskFields(
        task_id=task_id,
        type=kind,
        title=title[:200],
        payload=payload,
        requires=[{"name": kind}],
        group_id=run_id,
        session_id=run_id,
        lease_ms=30_000,
    )


def _slices(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield list(ids[start : start + size])


def batches(tasks: Iterable[TaskFields]) -> Iterator[list[TaskFields]]:
    """Requests within the limits of the API, order kept."""
    batch: list[TaskFields] = []
    dependencies = 0
    for task in tasks:
        count = len(task.get("depends_on", ()))
        if batch and (len(batch) == BATCH_ITEMS_MAX or dependencies + count > BATCH_DEPENDENCIES_MAX):
            yield batch
            batch, dependencies = [], 0
        batch.append(task)
        dependencies += count
    if batch:
        yield batch
