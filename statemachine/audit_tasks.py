"""The invariants of tasks, their indexes, dependencies, groups and bodies."""

from __future__ import annotations

from collections import Counter

from statemachine import (
    counters,
    former_tasks,
    groups,
    limits,
    machine,
    projects,
    task_dependencies,
    task_record,
    task_rows,
    work,
)
from statemachine.keys import end_of, from_u64
from statemachine.store import Reader
from statemachine.task_record import BODIES, Task
from statemachine.task_states import ENDED, FINAL, HELD, STOPPED, TaskState

Tasks = dict[tuple[int, int], Task]
"""By (project number, task number)."""


def read_tasks(reader: Reader, faults: list[str]) -> Tasks:
    """All tasks, checked against their own keys."""
    tasks: Tasks = {}
    for key, data in reader.scan(b"T", end_of(b"T")):
        task = task_record.decode(data)
        if key != task_record.key(task.project_no, task.number):
            faults.append(f"task {task.task_id} lies under the key of another")
        tasks[task.project_no, task.number] = task
    return tasks


def check(reader: Reader, tasks: Tasks, faults: list[str]) -> None:
    """All checks of tasks."""
    for task in tasks.values():
        faults.extend(f"task {task.task_id} ({task.status}): {fault}" for fault in _faults_of(task))
    _check_ids(reader, tasks, faults)
    _check_indexes(reader, tasks, faults)
    _check_dependencies(reader, tasks, faults)
    _check_groups(reader, tasks, faults)
    _check_bodies(reader, tasks, faults)
    _check_counters(reader, tasks, faults)
    ended = sum(task.status in ENDED for task in tasks.values())
    if machine.read_meta(reader).tasks_ended != ended:
        faults.append(f"{ended} tasks have ended; meta says {machine.read_meta(reader).tasks_ended}")


def _faults_of(task: Task) -> list[str]:
    status = task.status
    held = status in HELD
    attempts_won = [won.attempt for won in task.wins]
    completions = sum(won.verb == "complete" for won in task.wins)
    rules = {
        "held without a holder": not held or (task.holder_no > 0 and task.agent_id is not None),
        "held without a grant": not held or (task.granted_at is not None and task.attempt > 0),
        "a holder where there can be none": held or status in STOPPED or task.holder_no == 0,
        "running without a start": status is not TaskState.RUNNING or (task.started_at is not None and task.tries > 0),
        "more tries than allowed": 0 <= task.tries <= task.max_attempts,
        "more tries than attempts": task.tries <= task.attempt,
        "end and time of end disagree": (status in ENDED) == (task.completed_at is not None),
        "scheduled without a time, or the reverse": (status is TaskState.SCHEDULED) == (task.due_at is not None),
        "blocked without a reason, or the reverse": (status is TaskState.BLOCKED) == (task.unmet != 0),
        "waiting without a wait": status is not TaskState.WAITING or task.wait is not None,
        "running and waiting": status is not TaskState.RUNNING or task.wait is None,
        "failed without a failure": status is not TaskState.FAILED or task.failure is not None,
        "an attempt was won twice": len(attempts_won) == len(set(attempts_won)),
        "a win of an attempt that never was": all(0 < attempt <= task.attempt for attempt in attempts_won),
        "completed without one winner": completions == int(status is TaskState.COMPLETED),
        "history too long": len(task.history) <= limits.HISTORY_TRANSITIONS_MAX,
        "history does not lead here": not task.history or task.history[-1].to_state is status,
        "history is broken": all(
            a.to_state is b.from_state and a.at <= b.at and a.attempt <= b.attempt
            for a, b in zip(task.history, task.history[1:], strict=False)
        ),
        "revisions run backwards": task.created_revision <= task.revision and task.created_at <= task.updated_at,
    }
    return [fault for fault, holds in rules.items() if not holds]


def _check_ids(reader: Reader, tasks: Tasks, faults: list[str]) -> None:
    wanted = {task_record.id_key(t.project_no, t.task_id): t.number for t in tasks.values()}
    if len(wanted) != len(tasks):
        faults.append("two tasks have the same id")
    rows = dict(reader.scan(b"t", end_of(b"t")))
    found = {key: from_u64(value) for key, value in rows.items() if len(value) == 8}
    former = {key: from_u64(value[8:]) for key, value in rows.items() if key not in found}
    by_time = [(key, at) for at, key in former_tasks.scan(reader)]
    if sorted(by_time) != sorted(former.items()) or len(former) != machine.read_meta(reader).former_tasks:
        faults.append(f"former tasks {former}, by time {by_time}; meta says {machine.read_meta(reader).former_tasks}")
    if wanted != found:
        faults.append(f"ids of tasks differ from their records: {wanted.items() ^ found.items()}")
    for task in tasks.values():
        project = projects.get(reader, task.project_no)
        if project is None or project.name != task.project:
            faults.append(f"task {task.task_id} names project {task.project}, its key another")


def _check_indexes(reader: Reader, tasks: Tasks, faults: list[str]) -> None:
    wanted: dict[bytes, bytes] = {}
    unique: Counter[tuple[int, str]] = Counter()
    for task in tasks.values():
        wanted.update(task_rows.index_rows(task))
        if task.unique_key is not None and task.status not in ENDED:
            unique[task.project_no, task.unique_key] += 1
    for (_, key), count in unique.items():
        if count > 1:
            faults.append(f"{count} tasks that have not ended share the unique key {key}")
    for table in (b"Q", b"k", b"c", b"r", b"D", b"K", b"U", b"H", b"W", b"Z"):
        found = dict(reader.scan(table, end_of(table)))
        expected = {key: value for key, value in wanted.items() if key[:1] == table}
        faults.extend(f"index {table!r} lacks {key!r}" for key in expected.keys() - found.keys())
        faults.extend(f"index {table!r} has {key!r} for no task" for key in found.keys() - expected.keys())
        changed = (key for key in expected.keys() & found.keys() if expected[key] != found[key])
        faults.extend(f"index {table!r} has another value under {key!r}" for key in changed)
    pending = sum(task.status is TaskState.PENDING for task in tasks.values())
    if sum(1 for _ in reader.scan(b"Q", end_of(b"Q"))) != pending:
        faults.append(f"the index of pending tasks does not hold {pending}")


def _check_dependencies(reader: Reader, tasks: Tasks, faults: list[str]) -> None:
    number_by_id = {(task.project_no, task.task_id): task.number for task in tasks.values()}
    wanted: set[bytes] = set()
    for task in tasks.values():
        for task_id in task_record.depends_on(reader, task):
            number = number_by_id.get((task.project_no, task_id))
            # Retention may have taken it from one that can never run again; another may bear its name since.
            dependency = None if number is None else tasks[task.project_no, number]
            if task.status in FINAL and (dependency is None or dependency.created_revision > task.created_revision):
                continue
            if number is None:
                faults.append(f"task {task.task_id} depends on {task_id}, which is not there")
            else:
                wanted.add(task_dependencies.row(task.project_no, number, task.number))
    found = dict(reader.scan(b"d", end_of(b"d")))
    if wanted != found.keys():
        faults.append(f"rows of dependents differ from the tasks: {wanted ^ found.keys()}")
        return
    unmet: Counter[tuple[int, int]] = Counter()
    for key, value in found.items():
        project_no, number, dependent_no = int.from_bytes(key[1:5], "big"), from_u64(key[5:13]), from_u64(key[13:])
        if value == task_dependencies.UNMET:
            unmet[project_no, dependent_no] += 1
            fault = _overdue(reader, tasks[project_no, number], tasks[project_no, dependent_no])
            faults.extend([fault] if fault else [])
    for place, task in tasks.items():
        if task.status is TaskState.BLOCKED and task.unmet != unmet[place]:
            faults.append(f"task {task.task_id} counts {task.unmet} unmet dependencies, there are {unmet[place]}")


def _overdue(reader: Reader, dependency: Task, dependent: Task) -> str | None:
    """A dependent that should have been settled, and no work row is about it."""
    if dependency.status not in ENDED or dependent.status is not TaskState.BLOCKED:
        return None
    policy = dependent.on_dependency_failure
    satisfied = task_dependencies.satisfies(dependency.status, policy)
    if not satisfied and policy != task_dependencies.CANCEL:
        return None
    place = {"project": dependency.project_no, "task": dependency.number}
    for _, row in work.scan(reader):
        if row.kind == "settle_dependents" and place.items() <= row.payload.items():
            return None
    return f"task {dependent.task_id} still waits for {dependency.task_id}, which is {dependency.status}"


def _check_groups(reader: Reader, tasks: Tasks, faults: list[str]) -> None:
    members: dict[tuple[int, str], list[Task]] = {}
    for task in tasks.values():
        if task.group_id is not None:
            members.setdefault((task.project_no, task.group_id), []).append(task)
    found = {(project_no, group.group_id): group for project_no, group in groups.scan(reader)}
    if members.keys() != found.keys():
        faults.append(f"groups differ from those the tasks name: {members.keys() ^ found.keys()}")
        return
    for (project_no, group_id), of_group in members.items():
        group = found[project_no, group_id]
        if group.counts != Counter(task.status for task in of_group):
            faults.append(f"group {group_id} counts {group.counts} wrongly")
        failed = {task.task_id for task in of_group if task.status is TaskState.FAILED}
        if not set(group.failed) <= failed or len(set(group.failed)) != len(group.failed):
            faults.append(f"group {group_id} lists failed tasks that are none: {group.failed}")
        if list(groups.members(reader, project_no, group_id)) != sorted(task.number for task in of_group):
            faults.append(f"group {group_id} has other members than tasks that name it")
    if sum(len(of_group) for of_group in members.values()) != sum(1 for _ in reader.scan(b"G", end_of(b"G"))):
        faults.append("a group has a member that is no task")


def _check_bodies(reader: Reader, tasks: Tasks, faults: list[str]) -> None:
    wanted = {
        b"B" + place[0].to_bytes(4, "big") + place[1].to_bytes(8, "big") + bytes([part])
        for place, task in tasks.items()
        for part in range(len(BODIES))
        if task.bodies >> part & 1
    }
    found = {key for key, _ in reader.scan(b"B", end_of(b"B"))}
    if wanted != found:
        faults.append(f"rows of bodies differ from the tasks: {wanted ^ found}")
    for task in tasks.values():
        inside = [field for part, field in enumerate(BODIES) if task.bodies >> part & 1 and getattr(task, field)]
        if inside:
            faults.append(f"task {task.task_id} has {inside} both in the record and outside")


def _check_counters(reader: Reader, tasks: Tasks, faults: list[str]) -> None:
    wanted: dict[int, Counter[str]] = {}
    for task in tasks.values():
        counts = wanted.setdefault(task.project_no, Counter())
        counts[f"tasks.{task.status}"] += 1
        if task.status is TaskState.PENDING:
            counts[f"queue.{task.queue}.pending"] += 1
    found = {
        project_no: {name: count for name, count in counts.items() if count and name.startswith(("tasks.", "queue."))}
        for project_no, counts in counters.scan(reader)
    }
    if {no: dict(counts) for no, counts in wanted.items()} != {no: counts for no, counts in found.items() if counts}:
        faults.append(f"counters of tasks: {found} where there are {wanted}")
