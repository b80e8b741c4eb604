"""The invariants of schedules, their definitions and the index of next runs."""

from __future__ import annotations

from collections import Counter

from statemachine import limits, projects, schedule_record
from statemachine.commands import Definition
from statemachine.keys import end_of, from_u64
from statemachine.schedule_record import Schedule
from statemachine.store import Reader


def check(reader: Reader, faults: list[str]) -> None:
    """All checks of schedules."""
    ids: dict[bytes, int] = {}
    waiting: set[bytes] = set()
    definitions: set[bytes] = set()
    counts: Counter[int] = Counter()
    for row, data in reader.scan(b"Y", end_of(b"Y")):
        project_no, schedule = int.from_bytes(row[1:5], "big"), schedule_record.decode(data)
        if row != schedule_record.key(project_no, schedule.number):
            faults.append(f"schedule {schedule.schedule_id} lies under the key of another")
        counts[project_no] += 1
        ids[schedule_record.id_key(project_no, schedule.schedule_id)] = schedule.number
        waits_for = schedule_record.due_key(project_no, schedule)
        waiting |= {waits_for} if waits_for is not None else set()
        place = schedule_record.definition_key(project_no, schedule.number)
        definitions.add(place)
        if reader.get(place) is not None:
            definition = schedule_record.definition_of(reader, project_no, schedule)
            faults.extend(f"schedule {schedule.schedule_id}: {fault}" for fault in _faults_of(schedule, definition))
    if ids != {row: from_u64(value) for row, value in reader.scan(b"i", end_of(b"i"))}:
        faults.append("ids of schedules differ from their records")
    if definitions != {row for row, _ in reader.scan(b"V", end_of(b"V"))}:
        faults.append("definitions of schedules differ from their records")
    if waiting != {row for row, _ in reader.scan(b"v", end_of(b"v"))}:
        faults.append("the index of next runs differs from the schedules")
    for project in projects.scan(reader):
        if project.schedules != counts[project.number]:
            faults.append(f"project {project.name} counts {project.schedules} schedules, has {counts[project.number]}")


def _faults_of(schedule: Schedule, definition: Definition) -> list[str]:
    rules = {
        "paused, and waits for a run": not definition.paused or schedule.next_run_at is None,
        "both or neither of cron and every_ms": (definition.cron is None) != (definition.every_ms is None),
        "runs without a task, or the reverse": (schedule.runs > 0) == (schedule.last_task_id is not None),
        "skipped runs without one that was": not schedule.skipped or schedule.last_skip is not None,
        "too many open runs": len(schedule.open_tasks) <= limits.SCHEDULE_OPEN_RUNS_MAX,
        "open runs out of order": list(schedule.open_tasks) == sorted(set(schedule.open_tasks)),
        "revisions run backwards": schedule.created_revision <= schedule.definition_revision <= schedule.revision,
        "times run backwards": schedule.created_at <= schedule.defined_at <= schedule.updated_at,
    }
    return [fault for fault, holds in rules.items() if not holds]
