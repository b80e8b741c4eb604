"""Which tasks a tree of files becomes: two for each file, and reports until one report covers all. And four surveys:
each of them is what an agent has in hand when something happens to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hive_client import TaskFields

# A task may depend on 1,000 others; more files than that are reported in layers.
DEPENDENCIES_MAX = 1_000
BATCH_ITEMS_MAX = 1_000
# What one request may name together; a report itself has at most 1,000.
BATCH_DEPENDENCIES_MAX = 10_000

OUTLINE, LINT, REPORT, SURVEY = "outline", "lint", "report", "survey"

# What happens to an agent.
KILLED, PAUSED, DRAINED, REPLACED = "killed", "paused", "drained", "replaced"
TRIALS = (KILLED, PAUSED, DRAINED, REPLACED)
SURVEY_FILES_MAX = 200
# Long enough to be asked about while the task rests; no jitter, so that it never is shorter.
SURVEY_BACKOFF_MS = 5_000
LEASE_MS = 30_000
# An agent that dies takes a try of all its tasks along, and so may one that is slow on a busy machine.
MAX_ATTEMPTS = 10


def plan_tasks(
    run_id: str, paths: Sequence[str], fan_in: int = DEPENDENCIES_MAX, lease_ms: int = LEASE_MS
) -> list[TaskFields]:
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
            for task in tasks:
                task["lease_ms"] = lease_ms
            return tasks
        layer = [task["task_id"] for task in reports]
        depth += 1


def survey_capability(trial: str) -> str:
    """What an agent must be able to do to get the survey of this trial."""
    return f"{SURVEY}-{trial}"


def plan_survey(run_id: str, trial: str, paths: Sequence[str], held_by: str, lease_ms: int = LEASE_MS) -> TaskFields:
    """The task an agent has in hand when something happens to it: the process that writes `held_by` stops half-way."""
    payload = {"paths": list(paths[:SURVEY_FILES_MAX]), "held_by": held_by}
    task = _task(run_id, SURVEY, f"{run_id}-{SURVEY}-{trial}", f"survey: an agent is {trial}", payload)
    task["requires"] = [{"name": survey_capability(trial)}]
    task["priority"] = 9
    task["lease_ms"] = lease_ms
    task["backoff"] = {"initial_ms": SURVEY_BACKOFF_MS, "max_ms": SURVEY_BACKOFF_MS, "jitter": 0}
    return task


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
        lease_ms=LEASE_MS,
        max_attempts=MAX_ATTEMPTS,
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
